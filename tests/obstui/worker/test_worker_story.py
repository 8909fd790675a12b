"""What a run tells: the lines of its log, and one progress through phases that do the same."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from core import events
from core.events import Event
from obstui.worker import story
from obstui.worker.protocol import Channel
from obstui.worker.teller import Teller

SOLVED = events.TargetSolved(
    "down1.0.blocks.0.attn1", "attn1", 20, {"0.1": 18, "0.3": 14}, {"0.1": 0.0123, "0.3": 0.0456},
    12.5, 1.234,
)  # fmt: skip
TOLD: list[tuple[Event, str]] = [
    (events.Phase("calibrate", 960, "steps", 320), "calibrate: 960 steps, 320 of them done before"),
    (events.Phase("load", 1, "model"), "load: 1 model"),
    (events.CheckpointSaved(320, 960), "checkpoint: 320 of 960"),
    (events.TargetsFound(({}, {})), "found 2 targets"),
    (events.RoundBegun(0, 51), "gathers targets 1 to 51"),
    (SOLVED, "solved down1.0.blocks.0.attn1 in 1.23 s, of 20: "
             "10 % keeps 18 (error 0.0123), 30 % keeps 14 (error 0.0456)"),
    (events.HeldOutMeasured(0.3, 3.4e-4, {}), "held-out prompts at 30 %: noise error 3.40e-04"),
    (events.VariantSaved(0.3, "obs", "/x/s30", 7016466, 8249090, 1, "", None),
     "saved 30 %: 7,016,466 parameters, /x/s30"),
    (events.MemoryMeasured(10 << 20, 9 << 20), "tensors on the GPU: forecast 10 MiB, peak 9 MiB"),
    (events.ImageSaved("/x/0.png", "/x/t.png", "1@30", "a fox", 7, 1.2),
     "painted /x/0.png with 1@30, seed 7, 1.20 s"),
    (events.ModelMeasured("1@30", 0.3, "obs", 7, 7, 1.5, 40.2, 0.992, 0.0024, None),
     "1@30: 1.50 s a picture, PSNR 40.2, SSIM 0.992, latent 0.0024"),
    (events.ReseedMeasured(4, 32.0, 0.966, 0.017),
     "another seed of the dense model, 4 pictures, PSNR 32, SSIM 0.966, latent 0.017"),
    (events.ModelTimed("1@30", 0.3, "obs", 7, 7, None, None, 64, 20, 2.0, "cpu", "float32", 5,
                       48.7, 1, 1, 1.54, 1, 1, None), "1@30: 48.7 ms a step, 1.54 s a picture"),
    (events.Note("two\nlines \x1b[31m"), "note: two lines"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "words"), TOLD, ids=[type(each).__name__ for each, _ in TOLD])
def test_a_fact_is_a_line(event: Event, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert story.line(event, 83_050.0) == f"23:04:10 {words}"


def test_every_fact_has_a_line_and_progress_has_none() -> None:
    facts = {kind.__name__ for kind in Event.__subclasses__() if kind.durable}
    assert facts == {type(event).__name__ for event, _ in TOLD}
    assert story.line(events.Progress(1, 2), 0.0) == ""
    on_a_cpu = events.MemoryMeasured(10 << 20, None)
    assert story.line(on_a_cpu, 0.0) == ""


def test_what_is_told_again_after_a_restart_is_no_news() -> None:
    assert story.line(events.CheckpointSaved(1, 2, reused=True), 0.0) == ""


def test_a_comparison_goes_on_counting_from_model_to_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT)
    with Teller(Channel(written, os.abort)) as teller:
        for name, total in (("load", 1), ("generate dense", 40), ("generate 1@30", 40)):
            teller.tell(events.Phase(name, total, "steps"))
            teller.tell(events.Progress(total, total))
    os.close(written)
    said: list[dict[str, Any]] = [
        json.loads(x) for x in (tmp_path / "said").read_text().split("\n") if x
    ]
    passed = {p["phase"]: p["passed"] for p in (m.get("progress") for m in said) if p}
    assert passed == {"load": 0, "generate dense": 0, "generate 1@30": 40}
    assert "generate 1@30: 40 steps" in capsys.readouterr().out
