"""What pruning did to the pictures: dense against variants, same prompts, same seeds.

PSNR, SSIM and the latent distance measure how far a variant's trajectories drift from the dense
model's, not how good its pictures are: another good picture also scores low.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from numpy.typing import NDArray

from core.clip import Clip, load_clip
from core.errors import BadInput, Cancelled
from core.events import Event, ImageSaved, ModelMeasured, Phase, Progress, ReseedMeasured
from core.generate import check_counts, paint, resolve
from core.loading import Pipelines, held_out_prompts, variant_key
from core.manifest import read_manifest
from core.pictures import Picture, Shot
from core.presets import RESEEDED, defaults

PSNR_CAP = 100.0  # dB given to an identical image in a mean, where infinity would drown the rest
_WINDOW, _SIGMA = 11, 1.5  # pixels, of SSIM's Gaussian
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # SSIM's constants for 8 bit


@dataclass(frozen=True)
class CompareSettings:
    """One comparison: the dense model and every variant, as (id, folder), make the same images.

    Prompt number i (from 0) is made with the seeds `seed + i * count` and on, `count` of them, so
    that no two images start from the same noise. Without `prompts` the first `num_prompts` of the
    built-in captions that no calibration uses are taken. `steps`, `guidance` and `size` (pixels)
    fall back to what the model does best when None.
    """

    model: str
    variants: tuple[tuple[str, str], ...]
    prompts: tuple[str, ...] = ()
    num_prompts: int = 8
    negative: str = ""
    seed: int = 0
    count: int = 1
    steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    batch_size: int = 1


def run(
    settings: CompareSettings,
    out: Path,
    cancelled: Callable[[], bool],
    pipes: Pipelines | None = None,
) -> Iterator[Event]:
    """Make and measure the images, in `out`/dense and `out`/<variant id>; finished ones are reused.

    Phases: "load", then "generate <model>" for each, then a few of the dense model's pictures from
    other seeds. Yields one `ModelMeasured` per model, the dense one first, and `ReseedMeasured`;
    `size_bytes` there is the UNet's weights in the run's precision. Raises `BadInput` for settings,
    a model or a variant that cannot work, `Cancelled` between steps.
    """
    check_counts(count=settings.count, batch_size=settings.batch_size)
    shots = _shots(settings)
    steps = defaults(settings.model).steps if settings.steps is None else settings.steps
    check_counts(steps=steps)
    models: list[tuple[str, str | None]] = [("dense", None), *settings.variants]
    folders = _folders([*(name for name, _ in models), "reseed"], out)
    others = [replace(shot, seed=shot.seed + len(shots)) for shot in shots[:RESEEDED]]
    for _, folder in settings.variants:
        variant_key(folder)  # a variant that cannot be read is refused before hours of painting
    ahead = [(f"generate {name}", steps * len(shots)) for name, _ in models]
    ahead.append(("generate other seeds", steps * len(others)))

    yield Phase("load", 1, "model", following=tuple(ahead))
    if cancelled():
        raise Cancelled("The comparison was cancelled before its model was loaded")
    pipes = pipes or Pipelines()
    get = partial(
        pipes.get,
        settings.model,
        size=settings.size or defaults(settings.model).size,
        batch_size=settings.batch_size,
    )
    get()
    yield Progress(1, 1, settings.model)
    clip = load_clip()
    dense: list[Picture] = []
    for number, (name, path) in enumerate(models):
        pipe = get(path)
        made: dict[tuple[str, int], Picture] = {}
        phases = ahead[number:]
        for event in _paint(settings, pipe, name, path, shots, folders[name], cancelled, phases):
            if isinstance(event, ImageSaved):
                made[event.prompt, event.seed] = Picture(Path(event.path), event.seconds)
            yield event
        own = [made[shot.prompt, shot.seed] for shot in shots]
        dense = dense or own
        yield _measure(settings, name, path, pipe.unet, own, dense, shots, clip)
    pipe, yardstick = get(), folders["reseed"]
    made = {}
    for event in _paint(settings, pipe, "dense", None, others, yardstick, cancelled, ahead[-1:]):
        if isinstance(event, ImageSaved):  # a yardstick, not results to browse
            made[event.prompt, event.seed] = Picture(Path(event.path), event.seconds)
        else:
            yield event
    again = [made[shot.prompt, shot.seed] for shot in others]
    yield ReseedMeasured(
        len(again),
        *_means([_apart(x, y) for x, y in zip(again, dense, strict=False)]),
        seconds=tuple(picture.seconds for picture in again),
    )


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two 8 bit images in dB; inf if they are the same.

    Raises `ValueError` if their shapes differ.
    """
    _check_shapes(a, b)
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the structural similarity of two 8 bit images [height, width, channels], at most 1.

    Gaussian windows of 11x11 pixels (sigma 1.5) that lie wholly inside the image, the mean over
    channels; an image smaller than that gets the largest odd window that fits. Raises `ValueError`
    if the shapes differ.
    """
    _check_shapes(a, b)
    size = min(_WINDOW, *a.shape[:2])
    size -= 1 - size % 2
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    window = torch.exp(-(offset**2) / (2 * _SIGMA**2))
    window = window / window.sum()

    def blur(x: torch.Tensor) -> torch.Tensor:  # [channels, 1, h, w], each channel by itself
        x = torch.nn.functional.conv2d(x, window.view(1, 1, -1, 1))
        return torch.nn.functional.conv2d(x, window.view(1, 1, 1, -1))

    x, y = (torch.from_numpy(i.astype(np.float64)).permute(2, 0, 1)[:, None] for i in (a, b))
    mean_x, mean_y = blur(x), blur(y)
    var_x = blur(x * x) - mean_x**2
    var_y = blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    return float((luminance * structure).mean())


def latent_distance(x: torch.Tensor, dense: torch.Tensor) -> float:
    """Return ||x - dense||^2 / ||dense||^2 of two latents; about 2 if unrelated.

    Raises `ValueError` if the shapes differ.
    """
    if x.shape != dense.shape:
        raise ValueError(f"latents of shapes {tuple(x.shape)} and {tuple(dense.shape)}")
    return float((x - dense).square().sum() / dense.square().sum())


def _check_shapes(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
    if a.shape != b.shape:
        raise ValueError(f"images of shapes {a.shape} and {b.shape}")


def _shots(settings: CompareSettings) -> list[Shot]:
    prompts = settings.prompts
    if not prompts:
        check_counts(num_prompts=settings.num_prompts)
        prompts = held_out_prompts(settings.model, settings.num_prompts)
    return [
        Shot(index, prompt, settings.seed + index * settings.count + i)
        for index, prompt in enumerate(prompts)
        for i in range(settings.count)
    ]


def _folders(names: Sequence[str], out: Path) -> dict[str, Path]:
    """Return a folder of its own for each model; raise `BadInput` if two names would share one."""
    folders: dict[str, Path] = {}
    for name in names:
        folder = out / (re.sub(r"[^\w@.+-]", "-", name).lstrip(".") or "-")
        if folder in folders.values():
            raise BadInput(
                f"The variant id {name!r} is taken in this comparison: give each variant its own"
            )
        folders[name] = folder
    return folders


def _paint(
    settings: CompareSettings,
    pipe: StableDiffusionXLPipeline,
    name: str,
    path: str | None,
    shots: Sequence[Shot],
    folder: Path,
    cancelled: Callable[[], bool],
    phases: Sequence[tuple[str, int]],
) -> Iterator[Event]:
    look = resolve(
        pipe,
        settings.model,
        variant=path,
        variant_id=name,
        negative=settings.negative,
        steps=settings.steps,
        guidance=settings.guidance,
        size=settings.size,
    )
    yield from paint(
        pipe,
        look,
        shots,
        folder,
        cancelled,
        batch_size=settings.batch_size,
        phase=phases[0][0],
        following=tuple(phases[1:]),
        warm_up=True,
    )


def _apart(own: Picture, dense: Picture) -> tuple[float, float, float]:
    """PSNR, SSIM and latent distance of two pictures."""
    x, y = np.asarray(own.image()), np.asarray(dense.image())
    latent = latent_distance(own.latents(), dense.latents())
    return min(psnr(x, y), PSNR_CAP), ssim(x, y), latent


def _means(
    apart: Sequence[tuple[float, float, float]],
) -> tuple[float | None, float | None, float | None]:
    psnrs, ssims, latents = zip(*apart, strict=True) if apart else ((), (), ())
    return _mean(psnrs), _mean(ssims), _mean(latents)


def _measure(
    settings: CompareSettings,
    name: str,
    variant: str | None,
    unet: UNet2DConditionModel,
    own: Sequence[Picture],
    dense: Sequence[Picture],
    shots: Sequence[Shot],
    clip: Clip | None,
) -> ModelMeasured:
    manifest = read_manifest(variant) if variant else {}
    apart = [_apart(x, y) for x, y in zip(own, dense, strict=True)] if variant else []
    drift = _means(apart)
    scores = clip.scores([p.image() for p in own], [shot.prompt for shot in shots]) if clip else []
    return ModelMeasured(
        model=name,
        sparsity=float(manifest.get("sparsity", 0.0)),
        method=str(manifest.get("method", "dense")),
        params=sum(p.numel() for p in unet.parameters()),
        size_bytes=sum(p.numel() * p.element_size() for p in unet.parameters()),
        latency=statistics.median(picture.seconds for picture in own),
        psnr=drift[0],
        ssim=drift[1],
        latent_distance=drift[2],
        attributes=_attributes(own, shots) if settings.model == "demo" else None,
        clip=_mean(scores),
        pictures=len(own),
        apart={str(shot.seed): each for shot, each in zip(shots, apart, strict=False)},
    )


def _attributes(pictures: Sequence[Picture], shots: Sequence[Shot]) -> float | None:
    """Return the demo judge's share of right attributes; captions it cannot parse do not count."""
    from core.demo.judge import judge

    shares = []
    for picture, shot in zip(pictures, shots, strict=True):
        try:
            verdict = judge(picture.image(), shot.prompt)
        except ValueError:
            continue
        shares.append(sum(verdict.values()) / len(verdict))
    return _mean(shares)


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
