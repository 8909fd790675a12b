"""What calibrating costs beside the bare denoising, on the demo model: all in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from core import loading
from core.calibrate import Walk, calibrate
from core.hessian import Hessian
from core.targets import Target, find_targets
from core.trajectory import Course, Trajectories

pytestmark = pytest.mark.bench

PROMPTS, REPEATS = 16, 5


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times), max(times) - min(times)


def test_recording_feeding_and_replaying(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    pipe = loading.load_pipeline("demo", device="cpu", dtype=torch.float32)
    prompts = tuple(loading.default_prompts("demo", PROMPTS, 0))
    course = Trajectories(pipe, Course(prompts, 25, 2.0, 64, 0, 16), tmp_path, "bench")
    targets = find_targets(pipe.unet)
    fresh = (str(number) for number in range(10_000))

    def bare() -> None:
        course.folder = tmp_path / next(fresh)
        for batch in course.batches(range(PROMPTS)):
            list(course.walk(batch))

    def fed(chosen: list[Target], budget: int | None) -> Iterator[object]:
        walk = Walk(course, range(PROMPTS), "log_decrease")
        hessians = {target: Hessian(target.columns) for target in chosen}
        return calibrate(walk, hessians, 0, lambda done: None, lambda: False, token_budget=budget)

    def recording(budget: int | None) -> Callable[[], object]:
        def run() -> None:
            course.folder = tmp_path / next(fresh)
            list(fed(targets, budget))

        return run

    bare()
    plain, spread = seconds(bare)
    print(f"\nbare denoising of {PROMPTS} prompts: {plain:.2f} s (spread {spread:.2f})")
    rows: list[tuple[str, Callable[[], object]]] = [
        ("recorded and fed, every token", recording(None)),
        ("recorded and fed, 64 tokens a column", recording(64)),
        ("replayed, all targets", lambda: list(fed(targets, 64))),
        (
            "replayed, the first quarter of them",
            lambda: list(fed(targets[: len(targets) // 4], 64)),
        ),
    ]
    for name, work in rows:
        took, spread = seconds(work)
        print(f"  {name:40s} {took:6.2f} s (spread {spread:.2f})  {took / plain:.2f}x")
