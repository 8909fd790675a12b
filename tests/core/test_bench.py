"""Timing real pictures of a tiny pipeline: what is counted, what is kept when a run is cut off."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from core import bench
from core.architecture import derive
from core.bench import BenchSettings
from core.checkpoint import save_variant
from core.errors import BadInput, Cancelled
from core.events import ModelTimed, Phase, Progress
from core.loading import Pipelines
from core.surgery import shrink
from core.targets import find_targets


@pytest.fixture(scope="module")
def pipes() -> Pipelines:
    return Pipelines(device="cpu", dtype=torch.float32)


@pytest.fixture
def half(unet: UNet2DConditionModel, tmp_path: Path) -> Path:
    """Half of every target."""
    targets = find_targets(unet)
    kept = {target.name: torch.arange(target.units // 2) for target in targets}
    for target in targets:
        shrink(unet, target, kept[target.name])
    described = [{**target.to_dict(), "unit_width": target.unit_width} for target in targets]
    facts = {
        "base": "tiny",
        "method": "magnitude",
        "sparsity": 0.5,
        "dense_params": 1,
        "targets": described,
    }
    save_variant(tmp_path / "half", unet.state_dict(), unet, facts, kept, torch.float32)
    return tmp_path / "half"


def never() -> bool:
    return False


def settings(model: Path, half: Path, **changes: int) -> BenchSettings:
    return BenchSettings(
        str(model), (("1@50", str(half)),), **{"repeats": 3, "steps": 2, "warm_up": 1} | changes
    )


def test_steps_and_pictures_are_timed_and_the_ideal_stands_beside(
    tiny_model: Path, half: Path, tmp_path: Path, pipes: Pipelines
) -> None:
    events = list(bench.run(settings(tiny_model, half), tmp_path / "work", never, pipes))
    phases = [event for event in events if isinstance(event, Phase)]
    timed = [f"time {name}" for name in ("dense", "1@50", "dense again")]
    assert [phase.name for phase in phases] == ["load", *timed]
    assert phases[0].following == tuple((name, 4) for name in timed)
    assert sum(isinstance(event, Progress) for event in events) == 1 + 3 * 4
    dense, small, last = (event for event in events if isinstance(event, ModelTimed))
    assert (dense.model, small.model, small.sparsity) == ("dense", "1@50", 0.5)
    assert (last.model, last.params) == (dense.model, dense.params)
    assert [row.again for row in (dense, small, last)] == [False, False, True]
    for row in (dense, small, last):
        assert (row.repeats, row.steps, row.size, row.dtype) == (3, 2, 16, "float32")
        assert 0 < row.step_ms_low <= row.step_ms <= row.step_ms_high
        assert row.image_s_low <= row.image_s <= row.image_s_high
        assert 2 * row.step_ms_low / 1000 < row.image_s_high
        assert row.peak_bytes is None
        assert not row.reused
    unet = derive(json.loads((tiny_model / "unet" / "config.json").read_text()))
    kept = {target.name: target.units // 2 for target in unet.targets}
    assert (dense.params, small.params) == (unet.params(), unet.params(kept))
    assert dense.flops == unet.flops(8, text_tokens=16)
    assert dense.ideal == 1.0
    assert small.ideal == pytest.approx(unet.flops(8, None, 16) / unet.flops(8, kept, 16))


def test_a_run_that_is_cut_off_keeps_what_is_timed(
    tiny_model: Path, half: Path, tmp_path: Path, pipes: Pipelines
) -> None:
    seen: list[object] = []

    def in_the_second_model() -> bool:
        return any(isinstance(event, ModelTimed) for event in seen)

    work = tmp_path / "work"
    with pytest.raises(Cancelled):
        seen.extend(bench.run(settings(tiny_model, half), work, in_the_second_model, pipes))
    [dense] = [event for event in seen if isinstance(event, ModelTimed)]

    again = list(bench.run(settings(tiny_model, half), work, never, pipes))
    rows = [event for event in again if isinstance(event, ModelTimed)]
    assert [row.reused for row in rows] == [True, False, False], "the last is not the first"
    assert rows[0].step_ms == dense.step_ms
    assert [event.done for event in again if isinstance(event, Phase)] == [0, 4, 0, 0]

    for file in work.iterdir():  # as a kill in the middle of writing leaves it
        file.write_bytes(file.read_bytes()[:-9])
    again = list(bench.run(settings(tiny_model, half), work, never, pipes))
    assert not any(event.reused for event in again if isinstance(event, ModelTimed))

    other = list(bench.run(settings(tiny_model, half, repeats=2), work, never, pipes))
    assert not any(event.reused for event in other if isinstance(event, ModelTimed))


def test_the_medians_are_those_of_the_pictures_that_count(
    tiny_model: Path,
    half: Path,
    tmp_path: Path,
    pipes: Pipelines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a clock of our own: the warm-up is ten times slower, and must not show."""
    seconds = iter([(50.0, [0.0, 20.0, 45.0]), *((t, [0.0, 1.0, 1.0 + t]) for t in (5.0, 2.0, 8.0))]
                   * 3)  # fmt: skip
    monkeypatch.setattr(bench, "_paint", lambda *_: next(seconds))
    events = bench.run(settings(tiny_model, half), tmp_path / "work", never, pipes)
    row = next(event for event in events if isinstance(event, ModelTimed))
    low, middle, high = statistics.quantiles([1, 5, 1, 2, 1, 8], n=4, method="inclusive")
    assert (row.step_ms_low, row.step_ms, row.step_ms_high) == (
        1000 * low,
        1000 * middle,
        1000 * high,
    )
    assert (row.image_s_low, row.image_s, row.image_s_high) == (3.5, 5.0, 6.5)


def test_what_cannot_be_timed_is_refused(
    tiny_model: Path, half: Path, tmp_path: Path, pipes: Pipelines
) -> None:
    def refused(broken: BenchSettings, words: str) -> None:
        with pytest.raises(BadInput, match=words):
            list(bench.run(broken, tmp_path / "work", never, pipes))

    refused(settings(tiny_model, half, repeats=0), "repeats is 0")
    refused(settings(tiny_model, tmp_path / "absent"), "not a pruned model")
    twice = BenchSettings(str(tiny_model), (("1@50", str(half)), ("1@50", str(half))))
    refused(twice, "same name")
    assert not (tmp_path / "work").exists()


@pytest.mark.gpu
def test_peak_memory_is_that_of_the_pictures(
    tiny_model: Path, half: Path, tmp_path: Path, predict: Callable[..., torch.Tensor]
) -> None:
    torch.empty(64 << 20, device="cuda")  # of somebody before, and gone
    events = bench.run(settings(tiny_model, half), tmp_path / "work", never)
    dense, small, _ = (event for event in events if isinstance(event, ModelTimed))
    assert dense.peak_bytes is not None
    assert small.peak_bytes is not None
    assert 0 < small.peak_bytes <= dense.peak_bytes < 64 << 20
