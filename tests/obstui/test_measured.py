"""What is known of each model, which of them are on the front, and how they leave as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.presets import CALIBRATION_STEPS
from obstui.config import Paths
from obstui.measured import (
    METRICS,
    Measured,
    as_csv,
    as_markdown,
    front,
    measured,
)
from obstui.spread import unsure
from obstui.store import Reader
from tests.obstui import tui_models, tui_store

METRIC = {metric.key: metric for metric in METRICS}


def model(name: str, params: int, psnr: float | None, **facts: object) -> Measured:
    known = {"base": "demo", "method": "obs", "sparsity": 0.1, **facts}
    return Measured(model=name, params=params, psnr=psnr, **known)  # type: ignore[arg-type]


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.Scene(paths.home)
    yield scene
    scene.close()


def rows(scene: tui_store.Scene) -> dict[str, Measured]:
    with Reader.open(scene.paths) as reader:
        return {row.model: row for row in measured(reader.jobs())}


def test_figures_of_several_jobs_meet_in_one_row(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene)
    compare = tui_store.compare_finished(scene, prune)
    bench = tui_models.timed(scene, prune)
    found = rows(scene)
    assert list(found) == ["dense", f"{prune}@10", f"{prune}@30", f"{prune}@50"]
    row = found[f"{prune}@30"]
    assert (row.base, row.method, row.job_id) == ("demo", "obs", prune)
    assert row.psnr == pytest.approx(25.2)
    assert row.removed == pytest.approx(0.165, abs=1e-3)
    assert row.step_ms == pytest.approx(65.0)
    assert row.image_s == pytest.approx(1.7), "a bench's time counts before a comparison's"
    assert row.measured_by == (compare, bench)
    assert found["dense"].removed == 0.0
    assert found["dense"].size_bytes == 2 * found["dense"].params, "as variants are saved"


def test_a_sweep_tells_its_rows_apart(scene: tui_store.Scene) -> None:
    """By what was varied, in the exports too, and by nothing else."""
    for damping, prompts in ((0.01, 8), (0.1, 8), (0.1, 16)):
        job = scene.queue("prune", sparsity=(0.1,), damping=damping, num_prompts=prompts)
        made = {"id": f"{job.id}@10", "sparsity": 0.1, "path": "/x", "method": "obs", "params": 7}
        scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    found = rows(scene)
    assert {name: row.settings for name, row in found.items()} == {
        "1@10": "prompts 8, damping 0.01",
        "2@10": "prompts 8, damping 0.1",
        "3@10": "prompts 16, damping 0.1",
    }
    [_, first, *_] = csv.reader(io.StringIO(as_csv(list(found.values()))))
    assert "prompts 8, damping 0.01" in first
    assert "| prompts 16, damping 0.1 |" in as_markdown(list(found.values()))
    assert "settings" not in as_markdown([found["1@10"].__class__("demo", "dense", "dense", 0, 7)])


def test_the_newest_comparison_counts(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene)
    for psnr in (20.0, 30.0):
        models = [{"model": f"{prune}@30", "params": 7, "sparsity": 0.3, "psnr": psnr}]
        tui_models.measured(scene, "compare", {"models": models}, variants=[f"{prune}@30"])
    assert rows(scene)[f"{prune}@30"].psnr == 30.0


def test_only_what_was_compared_alike_is_held_against_each_other(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene)

    def compared(levels: dict[int, float], **spec: int) -> None:
        models = [{"model": f"{prune}@{n}", "params": 100 - n, "sparsity": n / 100, "psnr": psnr}
                  for n, psnr in levels.items()]  # fmt: skip
        variants = [model["model"] for model in models]
        tui_models.measured(scene, "compare", {"models": models}, variants=variants, **spec)

    compared({30: 90.0}, steps=9)
    compared({10: 40.0})
    compared({30: 30.0}, steps=30)  # the default, named
    compared({50: 80.0}, steps=3)
    found = rows(scene)
    assert {name: row.psnr for name, row in found.items() if not row.dense} == {
        f"{prune}@10": 40.0, f"{prune}@30": 30.0, f"{prune}@50": 80.0,
    }  # fmt: skip
    assert {name: row.apart for name, row in found.items() if row.apart} == {
        f"{prune}@50": {"psnr"}
    }
    best = front(list(found.values()), METRIC["params"], METRIC["psnr"])
    assert best == {("demo", f"{prune}@10"), ("demo", f"{prune}@30")}
    assert METRIC["psnr"].text(found[f"{prune}@50"]) == "80.0*"
    assert found[f"{prune}@30"].measured_by == (2, 4), "in their order, whichever counts"
    assert found[f"{prune}@30"].compared_by == {30.0: 4, 25.2: 2}[found[f"{prune}@30"].psnr]
    assert METRIC["params"].text(found[f"{prune}@50"]) == "4.2"
    assert "\\*" in as_markdown([found[f"{prune}@50"]])


def test_a_job_that_failed_measured_nothing(scene: tui_store.Scene) -> None:
    tui_store.prune_finished(scene)
    scene.queue("bench", variants=["1@30"])
    scene.finish(scene.start(), "failed", error="It broke.")
    assert rows(scene)["1@30"].step_ms is None


def test_the_front_holds_what_nothing_else_beats() -> None:
    known = [
        model("a", 100, 30.0), model("b", 90, 29.0), model("c", 95, 28.0),  # b beats c
        model("twin", 90, 29.0), model("unknown", 10, None),
        Measured("demo", "dense", "dense", 0.0, params=200, psnr=99.0),
        model("other", 300, 1.0, base="sdxl"),  # of another base: nothing there is better
    ]  # fmt: skip
    best = front(known, METRIC["params"], METRIC["psnr"])
    assert best == {("demo", "a"), ("demo", "b"), ("demo", "twin"), ("sdxl", "other")}


def test_a_time_within_noise_beats_nobody() -> None:
    noisy = {"unsure": frozenset({"image_s"})}
    known = [
        Measured("demo", "dense", "dense", 0.0, params=200, image_s=2.0),
        model("near", 100, 50.0, image_s=2.1, **noisy),
        model("far", 90, 40.0, image_s=1.9, **noisy),
        model("fast", 80, 30.0, image_s=1.0),
    ]  # fmt: skip
    best = front(known, METRIC["image_s"], METRIC["psnr"])
    assert best == {("demo", "near"), ("demo", "fast")}


def test_a_deleted_variant_says_so_and_is_no_choice(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene, (0.1, 0.3))
    tui_store.compare_finished(scene, prune, (0.1, 0.3))
    with Reader.open(scene.paths) as reader:
        compare, maker = reader.jobs()
    [kept, _] = (maker.result or {})["variants"]
    known = measured([replace(maker, result={"variants": [kept]}), compare])
    found = {row.model: row for row in known}
    assert {name: row.method for name, row in found.items()} == {
        "dense": "", f"{prune}@10": "obs", f"{prune}@30": "deleted",
    }  # fmt: skip
    assert found[f"{prune}@30"].psnr == pytest.approx(25.2)
    best = front(list(found.values()), METRIC["params"], METRIC["psnr"])
    assert best == {("demo", f"{prune}@10")}


def test_on_the_front_of_a_distance_less_is_better() -> None:
    known = [model("near", 100, None, latent_distance=0.1),
             model("far", 100, None, latent_distance=0.2)]  # fmt: skip
    assert front(known, METRIC["params"], METRIC["latent_distance"]) == {("demo", "near")}


def test_csv_keeps_every_digit_and_runs_nothing() -> None:
    text = as_csv([model("1@10", 7_790_840, 55.39033948674664, base="=HYPERLINK(1)")])
    [row] = csv.DictReader(io.StringIO(text))
    assert row["base"] == "'=HYPERLINK(1)"
    assert float(row["psnr"]) == 55.39033948674664
    assert int(row["params"]) == 7_790_840
    assert row["ssim"] == ""


def test_markdown_has_the_figures_that_there_are() -> None:
    text = as_markdown([
        Measured("demo", "dense", "dense", 0.0, params=8_000_000),
        model("1@12.5", 7_000_000, 55.39, base="a|b\x1b[31m", sparsity=0.125),
    ])  # fmt: skip
    head, rule, *lines = text.splitlines()
    assert head == "| model | method | sparsity | parameters (M) | PSNR (dB) |"
    assert rule == "| --- | --- | ---: | ---: | ---: |"
    assert lines == [
        "| demo | dense | 0% | 8.0 | – |",
        "| a\\|b 1@12.5 | obs | 12.5% | 7.0 | 55.4 |",
    ]


def compared(scene: tui_store.Scene, name: str, base: str = "demo", **spec: int) -> None:
    found = {"model": name, "params": 7, "sparsity": 0.3, "psnr": 30.0, "latency": 9.0}
    tui_models.measured(scene, "compare", {"models": [found]}, variants=[name], model=base, **spec)


def times(scene: tui_store.Scene, kind: str, seconds: dict[str, float], **spec: int) -> int:
    """A bench or a comparison that took so long for a picture of each model."""
    what, key = ("latency", "image_s") if kind == "bench" else ("models", "latency")
    rows = [{"model": name, "params": 7, "sparsity": 0.3, key: s} for name, s in seconds.items()]
    variants = [name for name in seconds if name != "dense"]
    return tui_models.measured(scene, kind, {what: rows}, variants=variants, **spec).id


def test_times_of_a_column_come_from_the_job_that_took_most_of_them(
    scene: tui_store.Scene,
) -> None:
    one = tui_store.prune_finished(scene)
    times(scene, "compare", {"dense": 2.0, f"{one}@10": 1.9, f"{one}@30": 1.7, f"{one}@50": 1.5})
    times(scene, "bench", {"dense": 0.6, f"{one}@30": 0.5}, steps=8)
    found = rows(scene)
    shown = [METRIC["image_s"].text(row) for row in found.values()]
    assert shown == ["2.00", "~1.90", "~1.70", "~1.50"], "none is of 8 steps"
    other = f"{tui_store.prune_finished(scene, (0.3,))}@30"
    times(scene, "bench", {"dense": 0.6, other: 0.4}, steps=8)
    row = rows(scene)[other]
    assert METRIC["image_s"].text(row) == "~0.40*"
    assert row not in METRIC["image_s"].among([row])
    assert row in METRIC["params"].among([row])
    [*_, told] = csv.DictReader(io.StringIO(as_csv([row])))
    assert (told["apart"], told["unsure"]) == ("image_s", "image_s")


def test_a_time_within_the_scatter_of_the_dense_models_is_no_fact(scene: tui_store.Scene) -> None:
    """The quartiles of a bench, and the pictures of a comparison."""
    prune = tui_store.prune_finished(scene)
    timed = [
        {"model": name, "params": 7, "sparsity": 0.3, "repeats": 5, "step_ms": middle,
         "step_ms_low": low, "step_ms_high": high}
        for name, low, middle, high in (
            ("dense", 63, 101, 268), (f"{prune}@10", 102, 255, 352), (f"{prune}@30", 30, 40, 50),
        )
    ]  # fmt: skip
    tui_models.measured(scene, "bench", {"latency": timed}, variants=[f"{prune}@10"])
    shown = {name: METRIC["step_ms"].text(row) for name, row in rows(scene).items()}
    assert shown == {"dense": "101.0", f"{prune}@10": "~255.0", f"{prune}@30": "40.0",
                     f"{prune}@50": "–"}  # fmt: skip
    seconds = {"dense": (2.0, 2.1, 2.2), f"{prune}@10": (1.0, 2.1, 3.0), f"{prune}@30": (1.0, 1.1)}
    images = [{"model": name, "seconds": each} for name, all_ in seconds.items() for each in all_]
    result = {"models": [{"model": name} for name in seconds], "images": images}
    assert unsure(result, "image_s") == {f"{prune}@10"}
    assert unsure({**result, "images": []}, "image_s") == {f"{prune}@10", f"{prune}@30"}


def test_a_machine_that_changed_its_pace_makes_times_unsure() -> None:
    """The dense model is timed again at the end; what lies between, or as far beyond, is noise."""

    def compared(*at_the_end: float) -> frozenset[str]:
        seconds = {"dense": (2.0, 2.1), "slow": (4.0, 4.1), "fast": (1.5, 1.6), "best": (0.5, 0.6)}
        images = [{"model": m, "seconds": each} for m, all_ in seconds.items() for each in all_]
        return unsure({"images": images, "models": [{"model": m} for m in seconds],
                       "reseed": {"seconds": at_the_end}}, "image_s")  # fmt: skip

    assert compared() == compared(2.05) == compared(2.0, 2.2) == set()
    assert compared(1.7) == {"fast"}, "0.3 s less by then, and perhaps 0.3 s more meanwhile"
    assert compared(0.9, 1.0) == {"fast", "best"}
    assert compared(3.2) == {"fast", "slow"}, "it may have been as much faster for a while"

    def timed(low: float, high: float) -> frozenset[str]:
        rows = [{"model": "dense", "step_ms_low": 60, "step_ms_high": 61,
                 "again": {"step_ms_low": low, "step_ms_high": high}},
                {"model": "1@30", "step_ms_low": 50, "step_ms_high": 51}]  # fmt: skip
        return unsure({"latency": rows}, "step_ms")

    assert timed(58, 59) == set()
    assert timed(54, 55) == {"1@30"}


def test_noise_errors_at_other_steps_are_apart(scene: tui_store.Scene) -> None:
    for levels, steps in (((0.1, 0.3), None), ((0.2,), 10), ((0.4,), CALIBRATION_STEPS)):
        job = scene.queue("prune", sparsity=levels, steps=steps)
        made = [{"id": f"{job.id}@{x * 100:g}", "sparsity": x, "path": "/x", "method": "obs",
                 "params": 7, "noise_error": x} for x in levels]  # fmt: skip
        scene.finish(scene.start(), "succeeded", result={"variants": made})
    found = rows(scene)
    assert {name for name, row in found.items() if row.apart} == {"2@20"}, "the default, named"
    assert METRIC["noise_error"].text(found["2@20"]) == "2.0e-01*"
    assert ("demo", "2@20") not in front(
        list(found.values()), METRIC["params"], METRIC["noise_error"]
    )
    assert all(row.measured_by == () for row in found.values()), "each by the job that made it"


def test_magnitude_is_told_no_calibration(scene: tui_store.Scene) -> None:
    for method, prompts in (("obs", 48), ("obs", 8), ("magnitude", None)):
        given = {"num_prompts": prompts} if prompts else {}
        job = scene.queue("prune", sparsity=(0.3,), method=method, **given)
        made = {"id": f"{job.id}@30", "sparsity": 0.3, "path": "/x", "method": method, "params": 7}
        scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    assert [row.settings for row in rows(scene).values()] == ["prompts 48", "prompts 8", ""]


def test_an_imported_variant_is_held_against_those_of_the_job_that_compared_it(
    scene: tui_store.Scene,
) -> None:
    scene.queue("import", file="/x.pth")
    made = {"id": "1@30", "params": 7, "sparsity": 0.3}  # whose base nobody knows
    scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    compared(scene, "1@30")
    assert not rows(scene)["1@30"].apart


def test_of_comparisons_of_as_many_models_the_newest_is_the_yardstick(
    scene: tui_store.Scene,
) -> None:
    one, two = (f"{tui_store.prune_finished(scene, (0.3,))}@30" for _ in range(2))
    for name, steps in ((one, 2), (two, 3), (one, 2)):
        compared(scene, name, steps=steps)
    assert {name: bool(row.apart) for name, row in rows(scene).items()} == {one: False, two: True}
