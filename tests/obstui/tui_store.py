"""A store as the dashboard may find it: real rows written through `Store`, at fixed times."""

from __future__ import annotations

import fcntl
import math
import os
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from obstui.config import Paths
from obstui.specs import parse
from obstui.store import Claim, JobView, Store, WorkerView

NOW = 1_763_846_400.0  # 22 November 2025, 21:20 UTC
GIB = 1 << 30
WORKER = "w-1"

SDXL_STAGES = (("down1", 2, 2), ("down2", 2, 10), ("mid", 1, 10), ("up0", 3, 10), ("up1", 3, 2))
DEMO_STAGES = (("down1", 1, 1), ("down2", 1, 2), ("mid", 1, 2), ("up0", 2, 2), ("up1", 2, 1))


def targets(stages: tuple[tuple[str, int, int], ...]) -> list[dict[str, Any]]:
    """The units of a UNet with these (stage, attention modules, blocks of each)."""
    found: list[dict[str, Any]] = []
    block = 0
    for stage, modules, depth in stages:
        for module in range(modules):
            for layer in range(depth):
                for kind in ("attn1", "attn2", "ff"):
                    name = f"{stage}.{module}.blocks.{layer}.{kind}"
                    units = 5120 if kind == "ff" else 20
                    found.append(
                        {"name": name, "kind": kind, "stage": stage, "block": block, "units": units}
                    )
                block += 1
    return found


def solved(target: dict[str, Any], levels: tuple[float, ...]) -> dict[str, Any]:
    """A believable answer: errors grow with the sparsity and differ along the depth."""
    block, kind = target["block"], target["kind"]
    wave = 0.5 + 0.5 * math.sin(block / 5.0 + len(kind))
    base = {"attn1": 0.05, "attn2": 0.03, "ff": 0.09}[kind] * (0.4 + wave)
    return {
        "name": target["name"],
        "kind": kind,
        "units": target["units"],
        "kept": {f"{x:g}": round(target["units"] * (1 - x)) for x in levels},
        "error": {f"{x:g}": round(base * x * 3, 5) for x in levels},
        "samples_per_dim": 12.5,
        "seconds": 1.25,
        "reused": False,
    }


def picture(path: Path, *, colour: str, shape: str, spoil: float) -> Path:
    """A 64 x 64 scene; `spoil` moves and fades the shape as pruning would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (64, 64), (120, 80, 160))
    draw = ImageDraw.Draw(image)
    shift = int(10 * spoil)
    box = (14 + shift, 14, 49, 49 - shift)
    fill = tuple(int(v * (1 - spoil) + 110 * spoil) for v in _RGB[colour])
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    else:
        draw.polygon([(32 + shift, 12), (52, 50 - shift), (12, 50)], fill=fill)
    image.save(path)
    return path


_RGB = {"red": (215, 35, 40), "yellow": (250, 225, 55), "green": (45, 150, 65),
        "white": (245, 245, 245)}  # fmt: skip


class Scene:
    """Builds a store step by step; `now` is the time that its clock tells."""

    def __init__(self, home: Path) -> None:
        self.paths = Paths(home, home / "jobs.db").ensure()
        self.now = NOW - 7200
        self.store = Store.open(self.paths, clock=lambda: self.now)
        self._lock: int | None = None

    def close(self) -> None:
        self.store.close()
        if self._lock is not None:
            os.close(self._lock)

    def worker(self, *, device: str = "cpu", name: str = "cpu", job: int | None = None) -> None:
        """A worker that lives: its row, and its lock held by this process."""
        view = WorkerView(WORKER, device, name, os.getpid(), "here", self.now, self.now,
                          "running" if job else "idle", job, True)  # fmt: skip
        self.store.beat(view)
        if self._lock is None:
            self._lock = os.open(self.paths.lock(device), os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def queue(self, kind: str, **spec: Any) -> JobView:
        self.now += 20
        return self.store.enqueue(parse({"kind": kind, **spec}))

    def start(self, device: str = "cpu") -> Claim:
        """The next job starts."""
        self.now += 5
        claim = self.store.claim(WORKER, device)
        assert claim is not None
        assert self.store.started(claim, os.getpid(), 1)
        return claim

    def phase(self, claim: Claim, name: str, total: int, unit: str, done: int = 0) -> None:
        payload = {"name": name, "total": total, "unit": unit, "done": done, "following": []}
        self.store.append(claim, [("phase", payload)])

    def log(self, claim: Claim, text: str) -> None:
        path = self.paths.log(claim.ulid, claim.attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def finish(self, claim: Claim, state: str, **facts: Any) -> None:
        assert self.store.finish(claim, state, **facts)


def clock_at(moment: float) -> str:
    """As a job's log begins its lines."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def prune_finished(scene: Scene, levels: tuple[float, ...] = (0.1, 0.3, 0.5)) -> int:
    """A succeeded prune of the demo model, with history for later estimates."""
    job = scene.queue("prune", name="demo: prune by OBS-Diff", sparsity=levels, num_prompts=48)
    claim = scene.start()
    found = targets(DEMO_STAGES)
    scene.phase(claim, "calibrate", 48, "prompts")
    scene.now += 96
    scene.store.append(claim, [("targets_found", {"targets": found})])
    scene.phase(claim, "solve", len(found), "targets")
    scene.now += 40
    scene.store.append(claim, [("target_solved", solved(t, levels)) for t in found])
    scene.phase(claim, "write", len(levels), "variants")
    scene.now += 6
    variants = [
        {"id": f"{job.id}@{x * 100:g}", "sparsity": x, "path": f"/tmp/{x}", "method": "obs",
         "params": int(5_812_400 * (1 - 0.55 * x)), "dense_params": 5_812_400,
         "size_bytes": int(11_700_000 * (1 - 0.55 * x)), "mean_error": round(0.06 * x * 3, 4)}
        for x in levels
    ]  # fmt: skip
    said = ("calibrate: 48 forward passes", "found 24 targets", "wrote 3 variants")
    scene.log(claim, "".join(f"{clock_at(scene.now)} {words}\n" for words in said))
    scene.finish(claim, "succeeded", result={"variants": variants})
    return job.id


PROMPTS = (
    ("a large red circle in the center of a purple background", "red", "circle"),
    ("a large yellow square in the center of a purple background", "yellow", "square"),
    ("a large green triangle in the center of a purple background", "green", "triangle"),
)


def compare_finished(
    scene: Scene, prune: int, levels: tuple[float, ...] = (0.1, 0.3, 0.5),
    reseed: dict[str, Any] | None = None, **spec: Any,
) -> int:  # fmt: skip
    """A succeeded comparison with pictures of every model."""
    variants = [f"{prune}@{x * 100:g}" for x in levels]
    job = scene.queue("compare", name="demo: same pictures at every size", variants=variants,
                      num_prompts=len(PROMPTS), **spec)  # fmt: skip
    claim = scene.start()
    scene.phase(claim, "generate", 12, "pictures")
    images, models = [], []
    for model, x in [("dense", 0.0), *zip(variants, levels, strict=True)]:
        for number, (prompt, colour, shape) in enumerate(PROMPTS):
            path = scene.paths.output(job.ulid) / model / f"{number:03}.png"
            picture(path, colour=colour, shape=shape, spoil=x)
            images.append({"path": str(path), "thumbnail": str(path), "model": model,
                           "prompt": prompt, "seed": 0,
                           "seconds": 0.41 - 0.2 * x + 0.002 * number})  # fmt: skip
        models.append(
            {"model": model, "sparsity": x, "method": "obs" if x else "",
             "params": int(5_812_400 * (1 - 0.55 * x)), "size_bytes": int(11_700_000 * (1 - x / 2)),
             "latency": 0.41 - 0.2 * x, "psnr": 31.2 - 20 * x if x else None,
             "ssim": 0.99 - 0.3 * x if x else None, "latent_distance": x * x if x else None,
             "attributes": 0.98 - 0.4 * x,
             "apart": {"0": [31.2 - 20 * x, 0.99 - 0.3 * x, x * x]} if x else {}}
        )  # fmt: skip
    scene.now += 30
    scene.store.append(claim, [("image_saved", image) for image in images])
    scene.store.append(claim, [("model_measured", model) for model in models])
    scene.finish(claim, "succeeded", result={"models": models, "images": images, "reseed": reseed})
    return job.id


def prune_running(scene: Scene, solved_count: int = 87) -> Claim:
    """A prune of SDXL in the middle of its solving phase."""
    levels = (0.1, 0.2, 0.3)
    scene.queue("prune", model="stabilityai/stable-diffusion-xl-base-1.0", sparsity=levels)
    claim = scene.start()
    found = targets(SDXL_STAGES)
    scene.phase(claim, "calibrate", 100, "prompts")
    scene.now += 900
    scene.store.append(claim, [("targets_found", {"targets": found})])
    scene.phase(claim, "solve", len(found), "targets")
    began = scene.now
    scene.now += 130
    done = found[:solved_count]
    scene.store.append(claim, [("target_solved", solved(t, levels)) for t in done])
    scene.store.progress(
        claim,
        {"phase": "solve", "done": solved_count, "total": len(found), "unit": "targets",
         "detail": found[solved_count]["name"], "phase_started_at": began,
         "following": [["write", 3]],
         "memory": {"device": "cuda:0", "now": int(17.4 * GIB), "peak": int(20.9 * GIB),
                    "total": 24 * GIB}},
    )  # fmt: skip
    scene.log(claim, "".join(
        f"{clock_at(began + 1.25 * place)} solved {target['name']} in 1.25 s\n"
        for place, target in enumerate(done, 1)
    ))  # fmt: skip
    return claim


def busy(home: Path) -> Scene:
    """The evening's queue: finished, failed, cancelled, running, waiting and held jobs."""
    scene = Scene(home)
    prune = prune_finished(scene)
    compare_finished(scene, prune)
    scene.queue("generate", name="night sky, oom", prompts=["a lighthouse under a night sky"],
                size=2048)  # fmt: skip
    claim = scene.start()
    scene.now += 12
    scene.log(claim, "loading the pipeline\nCUDA out of memory: tried to allocate 9.4 GiB\n")
    error = "The GPU ran out of memory: 9.4 GiB more were needed, 1.2 are free."
    scene.finish(claim, "failed", reason="oom_gpu", error=error)
    cancelled = scene.queue("generate", prompts=["a red bicycle leaning on a wall"])
    scene.store.cancel(cancelled.id)
    scene.now = NOW - 1040
    running = prune_running(scene)
    scene.worker(device="cuda:0", name="NVIDIA H100 80GB HBM3", job=running.job_id)
    sweep = scene.queue("compare", variants=[f"{running.job_id}@30", f"{running.job_id}@20"],
                        model="stabilityai/stable-diffusion-xl-base-1.0")  # fmt: skip
    scene.queue("generate", prompts=["a fox in the snow, 35 mm", "a harbour at dawn"], count=4)
    held = scene.queue("generate", name="posters for Saturday", prompts=["a poster"])
    scene.store.pause(held.id)
    scene.store.set_priority(sweep.id, 1)
    scene.now = NOW
    return scene
