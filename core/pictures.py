"""A generated image on disk: the PNG, its thumbnail, its final latents, and a sidecar to trust.

    0003-seed7.png            the image, with its settings in the `parameters` text chunk
    0003-seed7.thumb.png      at most 96 pixels
    0003-seed7.safetensors    `latents` [channels, height, width], as they left the denoising loop
    0003-seed7.json           settings, hashes; written last, so that its presence means "complete"

The prompt is in none of the names: what people write does not make safe file names.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save

THUMBNAIL = 96  # pixels, the longer side


@dataclass(frozen=True)
class Shot:
    """One image to make: the prompt, its place in the list of prompts, and the seed."""

    index: int
    prompt: str
    seed: int

    @property
    def stem(self) -> str:
        """File name without suffix."""
        return f"{self.index:04d}-seed{self.seed}"


@dataclass(frozen=True)
class Picture:
    """One image that is complete on disk; `seconds` is its share of the batch it was made in."""

    path: Path
    seconds: float

    @property
    def thumbnail(self) -> Path:
        """The PNG of at most 96 pixels."""
        return self.path.with_suffix(".thumb.png")

    def image(self) -> Image.Image:
        """Read the image as RGB."""
        with Image.open(self.path) as image:
            return image.convert("RGB")

    def latents(self) -> torch.Tensor:
        """Read the final latents [channels, height, width] as float32."""
        latents: torch.Tensor = load_file(self.path.with_suffix(".safetensors"))["latents"]
        return latents.float()


def find(folder: Path, shot: Shot, key: str) -> Picture | None:
    """Return the picture of `shot` if all of it is in `folder`, unchanged and made with `key`."""
    picture = folder / f"{shot.stem}.png"
    try:
        record = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
        if record["key"] != key or not picture.with_suffix(".thumb.png").is_file():
            return None
        for name, digest in record["sha256"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                return None
        return Picture(picture, float(record["seconds"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent or half-written: made again


def store(
    folder: Path,
    shot: Shot,
    key: str,
    *,
    image: Image.Image,
    latents: torch.Tensor,
    seconds: float,
    facts: Mapping[str, Any],
) -> Picture:
    """Write one image and all that goes with it; the sidecar comes last.

    `latents` is [channels, height, width]; `facts` are the settings for the sidecar and the text
    chunk (keys of `parameters`).
    """
    path = folder / f"{shot.stem}.png"
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    contents = {
        path: png(image, facts),
        path.with_suffix(".safetensors"): save({"latents": latents.detach().cpu().contiguous()}),
    }
    write_atomically(path.with_suffix(".thumb.png"), png(small))
    for file, data in contents.items():
        write_atomically(file, data)
    record = {
        "key": key,
        "sha256": {file.name: hashlib.sha256(data).hexdigest() for file, data in contents.items()},
        "seconds": seconds,
        **facts,
    }
    write_atomically(path.with_suffix(".json"), json.dumps(record, indent=1).encode())
    return Picture(path, seconds)


def parameters(facts: Mapping[str, Any]) -> str:
    """Return the settings as the text that AUTOMATIC1111 writes and most viewers understand."""
    lines = [str(facts["prompt"])]
    if facts["negative"]:
        lines.append(f"Negative prompt: {facts['negative']}")
    named = {
        "Steps": facts["steps"],
        "Sampler": facts["sampler"],
        "CFG scale": facts["guidance"],
        "Seed": facts["seed"],
        "Size": f"{facts['size']}x{facts['size']}",
        "Model": facts["model"],
        **({"Variant": facts["variant"]} if facts["variant"] else {}),
        "Version": "obstui",
    }
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in named.items()))
    return "\n".join(lines)


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole or not at all, whatever happens to the process or the power."""
    temporary = path.with_name(f".{path.name}.tmp")  # one name: a retry overwrites the leftover
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def png(image: Image.Image, facts: Mapping[str, Any] | None = None) -> bytes:
    """Return the image as a file, with its settings in the text chunk if they are given."""
    info = PngInfo()
    if facts is not None:
        info.add_text("parameters", parameters(facts))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _quoted(value: object) -> str:
    """Quote what would break the comma-separated list."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:"\n') else text
