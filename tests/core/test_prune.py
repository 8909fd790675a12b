"""Whole runs on the tiny model: their story, their files, and going on after any interruption."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from core import loading, prune
from core.calibrate import Walk, calibrate
from core.checkpoint import load_unet
from core.errors import BadInput, Cancelled
from core.events import Event, Note, Phase, Progress, TargetsFound, TargetSolved, VariantSaved
from core.hessian import Hessian
from core.identity import storage_dtype
from core.latency import Stopwatch
from core.manifest import MANIFEST, decode_kept, read_manifest
from core.panels import size_bytes
from core.prune import _KEPT, PruneSettings, run, variant_name
from core.settings import memory_groups, rounds
from core.targets import consumer_weight, find_targets
from core.trajectory import Course, Trajectories

PROMPTS = ("a red hat", "a blue cat", "two dogs", "the sea", "snow")


@pytest.fixture(scope="session")
def settings(tiny_model: Path) -> PruneSettings:
    return PruneSettings(
        str(tiny_model),
        (0.5, 0.2),
        prompts=PROMPTS,
        steps=3,
        guidance=5.0,
        batch_size=2,
        held_out=2,
    )


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "pick_device", lambda: "cpu")


def go(settings: PruneSettings, folder: Path) -> list[Event]:
    return list(run(settings, folder / "out", folder / "work", lambda: False))


def files(folder: Path) -> dict[str, bytes]:
    """Every file a run left in its output folder, by relative path."""
    out = folder / "out"
    return {str(f.relative_to(out)): f.read_bytes() for f in out.rglob("*") if f.is_file()}


@pytest.fixture(scope="session")
def undisturbed(
    settings: PruneSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, go(settings, folder)


def test_the_events_tell_the_whole_story(
    undisturbed: tuple[Path, list[Event]], settings: PruneSettings
) -> None:
    _, events = undisturbed
    phases = [event for event in events if isinstance(event, Phase)]
    assert [(p.name, p.total, p.done) for p in phases] == [
        ("load", 1, 0),
        ("calibrate", 9, 0),
        ("solve", 12, 0),
        ("check", 15, 0),
        ("save", 2, 0),
    ]
    for at, phase in enumerate(phases):
        assert [name for name, _ in phase.following] == [later.name for later in phases[at + 1 :]]
    assert phases[1].following == (("solve", 12), ("check", 15), ("save", 2))
    (found,) = (event.targets for event in events if isinstance(event, TargetsFound))
    solved = [event for event in events if isinstance(event, TargetSolved)]
    assert [event.name for event in solved] == [target["name"] for target in found]
    for event in solved:
        assert not event.reused
        assert event.kept["0.5"] < event.kept["0.2"] < event.units
        assert 0 < event.error["0.2"] < event.error["0.5"] < 1
        assert event.samples_per_dim == 5 * 2 * 3 * 16 / (256 if event.kind == "ff" else 64)
    saved = [event for event in events if isinstance(event, VariantSaved)]
    assert [event.sparsity for event in saved] == [0.2, 0.5]
    for variant in saved:
        unet = load_unet(variant.path)
        assert variant.params == sum(parameter.numel() for parameter in unet.parameters())
        assert variant.params < variant.dense_params
        errors = [event.error[str(variant.sparsity)] for event in solved]
        assert variant.mean_error == pytest.approx(sum(errors) / len(errors))
        assert variant.held_out_error is not None
        assert variant.noise_error is not None
        assert 0 < variant.noise_error < 1
        assert variant.held_out_error > 0.5 * variant.mean_error
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress if event.total == 9] == list(range(1, 10))
    assert any(isinstance(event, Note) and "tokens per input" in event.text for event in events)
    json.dumps([event.to_dict() for event in events])


def test_the_manifest_says_what_was_done_and_what_is_in_the_file(
    undisturbed: tuple[Path, list[Event]], settings: PruneSettings
) -> None:
    folder, _ = undisturbed
    manifest = read_manifest(folder / "out" / "s50")
    dense = StableDiffusionXLPipeline.from_pretrained(settings.model).unet
    pruned = load_unet(folder / "out" / "s50")
    by_name = {target.name: target for target in find_targets(dense)}
    for entry in manifest["targets"]:
        target = by_name[entry["name"]]
        kept = torch.tensor(decode_kept(entry["kept"], entry["units"]))
        assert len(kept) == target.units // 2
        part = target.slices[0]
        name = f"{target.name}.{part.parameter}"
        rows = target.indices(kept, part.copies)
        assert torch.equal(pruned.get_parameter(name), dense.get_parameter(name)[rows])
        assert entry["damping"] == 0.01
    calibration = manifest["calibration"]
    assert (calibration["num_prompts"], calibration["size"]) == (5, 16)
    text = (folder / "out" / "s50" / "unet" / MANIFEST).read_text()
    assert str(folder) not in text


def test_obs_beats_magnitude_on_other_prompts_in_every_target(
    undisturbed: tuple[Path, list[Event]], settings: PruneSettings, tmp_path: Path
) -> None:
    (obs_folder, _), plain = undisturbed, replace(settings, method="magnitude")
    events = go(plain, tmp_path)
    assert [event.name for event in events if isinstance(event, Phase)] == ["load", "solve", "save"]
    assert all(event.error == {} for event in events if isinstance(event, TargetSolved))
    assert all(event.mean_error is None for event in events if isinstance(event, VariantSaved))
    pipe = StableDiffusionXLPipeline.from_pretrained(settings.model, add_watermarker=False)
    other = Course(("a tall tree", "rain", "an egg"), 3, 5.0, 16, 99, 3)
    walk = Walk(Trajectories(pipe, other, tmp_path / "other", "key"), range(3), "uniform")
    targets = find_targets(pipe.unet)
    hessians = {target: Hessian(target.columns) for target in targets}
    list(calibrate(walk, hessians, 0, lambda done: None, lambda: False))
    for level in ("s20", "s50"):
        pair = []
        for folder in (obs_folder, tmp_path):
            unet, manifest = (
                load_unet(folder / "out" / level),
                read_manifest(folder / "out" / level),
            )
            losses = []
            for target, entry in zip(targets, manifest["targets"], strict=True):
                kept = torch.tensor(decode_kept(entry["kept"], entry["units"]))
                dW = -consumer_weight(pipe.unet, target).detach()
                dW[:, target.indices(kept)] += consumer_weight(unet, target)
                losses.append(float((dW @ hessians[target].finish("test") * dW).sum()))
            pair.append(losses)
        assert all(ours < theirs for ours, theirs in zip(*pair, strict=True))


def test_a_second_run_reuses_everything_and_other_sparsities_the_calibration(
    settings: PruneSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(settings, tmp_path)
    before = files(tmp_path)
    forward = Trajectories.forward
    monkeypatch.setattr(Trajectories, "forward", None)  # any forward pass would fail
    again = go(settings, tmp_path)
    assert all(event.reused for event in again if isinstance(event, TargetSolved | VariantSaved))
    assert files(tmp_path) == before
    monkeypatch.setattr(Walk, "after", None)  # other sparsities need no calibration
    monkeypatch.setattr(Trajectories, "forward", forward)
    more = go(replace(settings, sparsities=(0.5, 0.3)), tmp_path)
    assert [
        (event.sparsity, event.reused) for event in more if isinstance(event, VariantSaved)
    ] == [
        (0.3, False),
        (0.5, True),
    ]
    assert [event.text for event in more if isinstance(event, Note)] == [_KEPT]
    assert {name: files(tmp_path)[name] for name in before} == before


def test_a_variant_from_which_nothing_was_removed_is_named(
    settings: PruneSettings, tmp_path: Path
) -> None:
    events = go(replace(settings, sparsities=(0.0001, 0.5), held_out=0), tmp_path)
    dense, pruned = [event for event in events if isinstance(event, VariantSaved)]
    assert dense.params == dense.dense_params > pruned.params
    notes = [event.text for event in events if isinstance(event, Note)]
    assert [Path(dense.path).name in text for text in notes if "dense model" in text] == [True]


def test_other_settings_never_touch_a_variant_that_is_there(
    settings: PruneSettings, undisturbed: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    folder, _ = undisturbed
    before = files(folder)
    with pytest.raises(BadInput, match=r"s20 holds a variant made with other settings"):
        list(run(replace(settings, seed=1), folder / "out", tmp_path, lambda: False))
    assert files(folder) == before


def test_work_of_other_settings_is_not_used(
    settings: PruneSettings, undisturbed: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    other = replace(settings, seed=1)
    list(run(other, tmp_path / "other", tmp_path / "work", lambda: False))
    events = list(run(settings, tmp_path / "out", tmp_path / "work", lambda: False))
    assert not any(event.reused for event in events if isinstance(event, TargetSolved))
    assert files(tmp_path) == files(undisturbed[0])


def test_groups_that_fit_less_memory_give_the_same_files(
    settings: PruneSettings,
    undisturbed: tuple[Path, list[Event]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = size_bytes(256) * 2 + size_bytes(64) * 4
    monkeypatch.setattr(prune, "_forecast", lambda *_: (None, budget))
    events = go(settings, tmp_path)
    phases = [event for event in events if isinstance(event, Phase)]
    assert [(p.name, p.total) for p in phases] == [
        ("load", 1),
        *[("calibrate", 9), ("solve", 6)] * 2,
        ("check", 15),
        ("save", 2),
    ]
    ahead = (("solve", 6), ("calibrate", 9), ("solve", 6), ("check", 15), ("save", 2))
    assert phases[1].following == ahead
    assert files(tmp_path) == files(undisturbed[0])


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_batch_size_changes_no_choice(
    settings: PruneSettings,
    undisturbed: tuple[Path, list[Event]],
    tmp_path: Path,
    batch_size: int,
) -> None:
    go(replace(settings, batch_size=batch_size, sparsities=(0.5,)), tmp_path)
    ours, theirs = (read_manifest(f / "out" / "s50")["targets"] for f in (tmp_path, undisturbed[0]))
    assert [entry["kept"] for entry in ours] == [entry["kept"] for entry in theirs]


def test_groups_keep_the_order_and_the_budget(undisturbed: tuple[Path, list[Event]]) -> None:
    targets = find_targets(load_unet(undisturbed[0] / "out" / "s20"))
    groups = memory_groups(targets, 1.0)  # nothing fits: one each
    assert [len(group) for group in groups] == [1] * 12
    assert [target for group in groups for target in group] == targets


def test_packages_are_runs_of_blocks_and_only_the_first_is_shared_by_all_sparsities(
    undisturbed: tuple[Path, list[Event]],
) -> None:
    targets = find_targets(load_unet(undisturbed[0] / "out" / "s20"))
    one, *later = rounds(targets, (0.5, 0.2), 3, math.inf)
    assert (one.sparsities, one.before) == ((0.2, 0.5), ())
    assert [this.sparsities for this in later] == [(0.2,), (0.2,), (0.5,), (0.5,)]
    for this in later:
        assert [*this.before, *this.targets] == targets[: len(this.before) + len(this.targets)]
    assert [*later[-1].before, *later[-1].targets] == targets


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"packages": 2}, {"allocate": "loss"}])
def test_other_schemes_run_resume_and_differ(
    settings: PruneSettings,
    undisturbed: tuple[Path, list[Event]],
    tmp_path: Path,
    change: dict[str, Any],
) -> None:
    asked = replace(settings, **change)
    straight = tmp_path / "straight"
    events = go(asked, straight)
    phases = [event.name for event in events if isinstance(event, Phase)]
    by_scheme = {
        "packages": ["calibrate", "solve"] * 3,
        "allocate": ["calibrate", "order", "probe", "solve"],
    }
    scheme = next(iter(change))
    assert phases == ["load", *by_scheme[scheme], "check", "save"]
    for phase in [event for event in events if isinstance(event, Phase)]:
        after = phases[phases.index(phase.name) :] if phase.name == "check" else None
        assert after is None or [name for name, _ in phase.following] == after[1:]
    for stop in (4, 13, 5):
        asks = iter(range(10_000))
        with pytest.raises(Cancelled):
            list(
                run(asked, tmp_path / "out", tmp_path / "work", lambda a=asks, s=stop: next(a) > s)
            )
    go(asked, tmp_path)
    assert files(tmp_path) == files(straight)
    ours, uniform = read_manifest(straight / "out/s50"), read_manifest(undisturbed[0] / "out/s50")
    assert ours["targets"] != uniform["targets"]
    assert ours["params"] <= uniform["params"]


def test_a_budget_of_milliseconds_is_measured_once(
    settings: PruneSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(settings, allocate="loss", budget="ms", held_out=0)
    go(asked, tmp_path)
    before = files(tmp_path)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(Stopwatch, "_measure", None)
    go(asked, tmp_path)
    assert files(tmp_path) == before


def test_a_stopwatch_times_each_shape_once(tiny_model: Path) -> None:
    unet = StableDiffusionXLPipeline.from_pretrained(tiny_model).unet
    watch = Stopwatch(unet, 8, 2, 16)
    targets = find_targets(unet)
    for target in targets:
        assert watch.milliseconds(target, 1) > 0
    assert len(watch._known) == 3  # all blocks are alike: one for each kind
    assert watch.milliseconds(targets[-1], 1) == watch.milliseconds(targets[-4], 1)
    assert sum(p.numel() for p in unet.parameters()) == unet.num_parameters()
    assert find_targets(unet) == targets  # the model itself is not cut


@pytest.mark.parametrize("after", [0, 4, 12, 21])
def test_cancel_stops_at_the_next_boundary_and_the_next_run_goes_on(
    settings: PruneSettings, undisturbed: tuple[Path, list[Event]], tmp_path: Path, after: int
) -> None:
    seen: list[Event] = []

    def progress() -> int:
        return sum(isinstance(event, Progress) for event in seen)

    events = run(settings, tmp_path / "out", tmp_path / "work", lambda: progress() > after)
    with pytest.raises(Cancelled):
        seen.extend(events)
    assert progress() == after + 1
    resumed = go(settings, tmp_path)
    done = next(e.done for e in resumed if isinstance(e, Phase) and e.name == "calibrate")
    assert done == min(after, 9)
    assert files(tmp_path) == files(undisturbed[0])


def test_killed_anywhere_it_goes_on_and_ends_with_the_same_bytes(
    settings: PruneSettings, undisturbed: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.core.killed_runs", settings.model, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr
    ends = result.stdout.split()
    assert ends == [*["killed"] * (len(ends) - 1), "finished"]
    assert len(ends) == 9
    assert files(tmp_path) == files(undisturbed[0])


def test_wrong_settings_are_refused_at_once() -> None:
    for wrong in (
        {"sparsities": ()},
        {"sparsities": (0.0,)},
        {"sparsities": (1.0,)},
        {"sparsities": (0.3, 0.3)},
        {"method": "guess"},
        {"steps": 0},
        {"damping": -1.0},
        {"timestep_weights": "steep"},
        {"packages": 0},
        {"token_budget": 0},
        {"held_out": -1},
        {"allocate": "best"},
        {"allocate": "loss", "budget": "watts"},
        {"allocate": "loss", "packages": 2},
        {"allocate": "loss", "method": "magnitude"},
    ):
        with pytest.raises(BadInput):
            PruneSettings(**{"model": "demo", "sparsities": (0.3,), **wrong})  # type: ignore[arg-type]


def test_variants_take_the_narrowest_format_that_holds_the_dense_weights() -> None:
    halves = torch.rand(8).half()
    assert storage_dtype({"a": halves.float()}) is torch.float16
    assert storage_dtype({"a": (halves.float() * 1e-20).bfloat16().float()}) is torch.bfloat16
    assert storage_dtype({"a": halves.float(), "b": torch.tensor(0.1)}) is torch.float32


def test_names_of_variants() -> None:
    names = [variant_name(sparsity) for sparsity in (0.1, 0.29, 0.3, 0.125)]
    assert names == ["s10", "s29", "s30", "s12.5"]
