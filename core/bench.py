"""How long pictures take: the dense model against its variants, one after another on one device.

The whole pipeline runs, as it does for people. A step is timed from the end of the one before it
(the first: from the first call of the UNet) to its own, with the device waited for at each.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

from core import manifest as manifests
from core.architecture import derive
from core.errors import BadInput, Cancelled
from core.events import Event, ModelTimed, Phase, Progress
from core.generate import Look, check_counts, resolve
from core.loading import Pipelines, held_out_prompts, variant_key

_AGAIN = "dense again"


@dataclass(frozen=True)
class BenchSettings:
    """One benchmark: the dense model and every variant, as (id, folder), paint one prompt
    `warm_up` times, then `repeats` times. `steps`, `guidance` and `size` (pixels) fall back to what
    the model does best when None."""

    model: str
    variants: tuple[tuple[str, str], ...]
    repeats: int = 5
    warm_up: int = 1
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    size: int | None = None


@dataclass(frozen=True)
class _Measured:
    """Seconds of pictures and of steps; bytes on the device."""

    images: list[float]
    steps: list[float]
    peak: int | None


def run(
    settings: BenchSettings,
    work: Path,
    cancelled: Callable[[], bool],
    pipes: Pipelines | None = None,
) -> Iterator[Event]:
    """Time the models, the dense one first and, where there are variants, once more at the end;
    those that are timed already are read from `work`.

    A finished timing lies in a file that is named by all that decides it, the device among it.
    Phases: "load", then "time <model>" in pictures for each. Yields a `ModelTimed` for each.
    Raises `BadInput` for settings, a model or a variant that cannot work, `Cancelled` between
    steps.
    """
    check_counts(repeats=settings.repeats)
    models: list[tuple[str, str | None]] = [("dense", None), *settings.variants]
    if len({name for name, _ in models}) < len(models):
        raise BadInput("Two variants have the same name in this benchmark: name each once")
    for _, folder in settings.variants:
        variant_key(folder)  # a variant that cannot be read is refused before anything is timed
    if settings.variants:
        models.append((_AGAIN, None))
    pictures = settings.warm_up + settings.repeats
    ahead = tuple((f"time {name}", pictures) for name, _ in models)
    yield Phase("load", 1, "model", following=ahead)
    if cancelled():
        raise Cancelled("The benchmark was cancelled before its model was loaded")
    pipes = pipes or Pipelines()
    pipes.get(settings.model, size=settings.size)
    yield Progress(1, 1, settings.model)
    work.mkdir(parents=True, exist_ok=True)
    dense: ModelTimed | None = None
    for number, (name, path) in enumerate(models):
        pipe = pipes.get(settings.model, path, size=settings.size)
        look = resolve(
            pipe,
            settings.model,
            variant=path,
            variant_id=name,
            negative="",
            steps=settings.steps,
            guidance=settings.guidance,
            size=settings.size,
        )
        again = name == _AGAIN
        often = [settings.seed, settings.warm_up, settings.repeats, again]
        key = manifests.fingerprint([asdict(look), often, describe_device(look.device)])
        file = work / f"timed-{key[:32]}.json"
        row = _read(file)
        done = 0 if row is None else pictures
        yield Phase(ahead[number][0], pictures, "pictures", done, ahead[number + 1 :])
        if row is None:
            measured = yield from _time(pipe, look, settings, cancelled)
            row = _row(look, path, pipe, measured, dense, again=again)
            manifests.write_json(file, asdict(row))
        dense = dense or row
        yield row


def describe_device(device: str) -> str:
    """What the figures belong to: the GPU's name, or the processor's architecture and threads."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{device}, {platform.machine()}, {torch.get_num_threads()} threads"


def _time(
    pipe: StableDiffusionXLPipeline,
    look: Look,
    settings: BenchSettings,
    cancelled: Callable[[], bool],
) -> Generator[Event, None, _Measured]:
    prompt = held_out_prompts(settings.model, 1)[0]
    pictures = settings.warm_up + settings.repeats
    on_gpu = look.device == "cuda"
    images: list[float] = []
    steps: list[float] = []
    for number in range(pictures):
        if on_gpu and number == settings.warm_up:
            torch.cuda.reset_peak_memory_stats()
        seconds, marks = _paint(pipe, look, prompt, settings.seed, cancelled)
        if number >= settings.warm_up:
            images.append(seconds)
            steps += [marks[i + 1] - marks[i] for i in range(len(marks) - 1)]
        yield Progress(number + 1, pictures, f"{seconds:.2f} s a picture")
    return _Measured(images, steps, torch.cuda.max_memory_allocated() if on_gpu else None)


def _paint(
    pipe: StableDiffusionXLPipeline,
    look: Look,
    prompt: str,
    seed: int,
    cancelled: Callable[[], bool],
) -> tuple[float, list[float]]:
    """Paint one picture: its seconds, and the clock before the first step and after each."""
    marks: list[float] = []

    def mark() -> None:
        if look.device != "cpu":
            torch.accelerator.synchronize()
        marks.append(time.perf_counter())

    def before_unet(*_: Any) -> None:
        if not marks:
            mark()

    def on_step(
        _pipe: Any, _index: int, _time: Any, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        mark()
        if cancelled():
            raise Cancelled("The benchmark was cancelled; what is timed is kept")
        return tensors

    hook = pipe.unet.register_forward_pre_hook(before_unet)
    begun = time.perf_counter()
    try:
        pipe(
            prompt=prompt,
            height=look.size,
            width=look.size,
            num_inference_steps=look.steps,
            guidance_scale=look.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            callback_on_step_end=on_step,
        )
    finally:
        hook.remove()
    # The picture is in the computer's memory by now: nothing is left to wait for.
    return time.perf_counter() - begun, marks


def _row(
    look: Look,
    folder: str | None,
    pipe: StableDiffusionXLPipeline,
    measured: _Measured,
    dense: ModelTimed | None,
    *,
    again: bool,
) -> ModelTimed:
    manifest = manifests.read_manifest(folder) if folder else {}
    parameters = list(pipe.unet.parameters())
    flops = _flops(pipe, manifest, look.size)
    whole = dense.flops if dense else flops
    low, middle, high = _quartiles(measured.steps)
    least, usual, most = _quartiles(measured.images)
    return ModelTimed(
        model=look.variant or "dense",
        sparsity=float(manifest.get("sparsity", 0.0)),
        method=str(manifest.get("method", "dense")),
        params=sum(p.numel() for p in parameters),
        size_bytes=sum(p.numel() * p.element_size() for p in parameters),
        flops=flops,
        ideal=whole / flops if whole and flops else None,
        size=look.size,
        steps=look.steps,
        guidance=look.guidance,
        device=describe_device(look.device),
        dtype=look.dtype,
        repeats=len(measured.images),
        step_ms=1000 * middle,
        step_ms_low=1000 * low,
        step_ms_high=1000 * high,
        image_s=usual,
        image_s_low=least,
        image_s_high=most,
        peak_bytes=measured.peak,
        again=again,
    )


def _flops(pipe: StableDiffusionXLPipeline, manifest: dict[str, Any], size: int) -> int | None:
    kept = {
        entry["name"]: len(manifests.decode_kept(entry["kept"], entry["units"]))
        for entry in manifest.get("targets", ())
    }
    try:
        unet = derive(pipe.unet.config)
        return unet.flops(size // pipe.vae_scale_factor, kept, pipe.tokenizer.model_max_length)
    except BadInput:
        return None


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of a single value three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _read(file: Path) -> ModelTimed | None:
    """The row that an earlier attempt wrote, unless it was cut off while it did."""
    try:
        return ModelTimed(**{**json.loads(file.read_bytes()), "reused": True})
    except (OSError, ValueError, TypeError):
        return None
