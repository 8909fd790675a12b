"""Stores full of pictures: generations with files on disk as the engine writes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.obstui import tui_store

PARAMETERS = (
    "{prompt}\nNegative prompt: blurry, text\n"
    "Steps: 30, Sampler: Euler, CFG scale: 5.0, Seed: {seed}, Size: 256x256, Model: demo"
)


def painting(path: Path, seed: int, prompt: str, *, side: int = 256, shift: float = 0.0) -> None:
    """A smooth scene that depends on the seed, `shift` moves it; with thumbnail and settings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.new("RGB", (24, 24))
    for y in range(24):
        for x in range(24):
            wave = math.sin(x / 3 + seed + shift * 3) + math.cos(y / (2 + seed % 5) + shift)
            near = math.exp(-((x - 12 - 6 * math.sin(seed)) ** 2 + (y - 13) ** 2) / 30)
            small.putpixel((x, y), (
                int(128 + 50 * wave) % 256, int(90 + 150 * near) % 256, (40 * seed + 5 * y) % 256
            ))  # fmt: skip
    picture = small.resize((side, side), Image.Resampling.BICUBIC)
    info = PngInfo()
    info.add_text("parameters", PARAMETERS.format(prompt=prompt, seed=seed))
    picture.save(path, pnginfo=info)
    picture.thumbnail((96, 96))
    picture.save(path.with_suffix(".thumb.png"))


def generated(
    scene: tui_store.Scene, prompts: list[str], seeds: range, *, side: int = 256,
    variant: str | None = None, shift: float = 0.0, **settings: Any,
) -> int:  # fmt: skip
    """A succeeded generation; its number."""
    chosen = {"variant": variant, **settings} if variant else settings
    job = scene.queue("generate", prompts=prompts, count=len(seeds), seed=seeds.start, **chosen)
    claim = scene.start()
    images = []
    for index, prompt in enumerate(prompts):
        for seed in seeds:
            path = scene.paths.output(job.ulid) / f"{index:04d}-seed{seed}.png"
            painting(path, seed + 3 * index, prompt, side=side, shift=shift)
            images.append({"path": str(path), "thumbnail": str(path.with_suffix(".thumb.png")),
                           "model": variant or "dense", "prompt": prompt, "seed": seed,
                           "seconds": 1.0})  # fmt: skip
    scene.store.append(claim, [("image_saved", image) for image in images])
    scene.finish(claim, "succeeded", result={"images": images})
    return job.id
