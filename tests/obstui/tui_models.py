"""Stores with measured models, for the screens that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obstui.store import JobView
from tests.obstui import tui_store


def pruned(home: Path) -> tui_store.Scene:
    """Job 1 really prunes the demo model, by magnitude; its variants 1@30 and 1@50 are whole."""
    from obstui.worker.protocol import Order
    from obstui.worker.runs import Runner

    scene = tui_store.Scene(home)
    job = scene.queue("prune", sparsity=(0.3, 0.5), method="magnitude", held_out=0)
    claim = scene.start()
    folder = scene.paths.output(job.ulid)
    for each in (folder, home / "work"):
        each.mkdir(parents=True, exist_ok=True)
    order = Order(job=job.id, ulid=job.ulid, attempt=1, spec=claim.spec, variants={},
                  output=str(folder), work=str(home / "work"), hessians="", log="")  # fmt: skip
    scene.finish(claim, "succeeded", result=Runner().run(order, lambda: False, lambda event: None))
    return scene


def measured(scene: tui_store.Scene, kind: str, result: dict[str, Any], **spec: Any) -> JobView:
    """A job that has succeeded with this result."""
    job = scene.queue(kind, **spec)
    claim = scene.start()
    scene.finish(claim, "succeeded", result=result)
    return job


def timed(scene: tui_store.Scene, prune: int, levels: tuple[float, ...] = (0.1, 0.3, 0.5)) -> int:
    """A bench of the dense demo model and the variants of a job: smaller is faster."""
    variants = [f"{prune}@{level * 100:g}" for level in levels]
    latency = [
        {"model": name, "params": int(5_812_400 * (1 - 0.55 * level)), "sparsity": level,
         "step_ms": 80 - 50 * level, "step_ms_low": 78 - 50 * level,
         "step_ms_high": 83 - 50 * level, "image_s": 2.0 - level}
        for name, level in zip(["dense", *variants], (0.0, *levels), strict=True)
    ]  # fmt: skip
    return measured(scene, "bench", {"latency": latency}, variants=variants).id
