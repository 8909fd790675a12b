"""The facts of a run as lines of its log, for who reads it with less, grep or the dashboard."""

from __future__ import annotations

import time
from collections.abc import Mapping

from core.events import (
    CheckpointSaved,
    Event,
    HeldOutMeasured,
    ImageSaved,
    MemoryMeasured,
    ModelMeasured,
    ModelTimed,
    Note,
    Phase,
    ReseedMeasured,
    RoundBegun,
    TargetsFound,
    TargetSolved,
    VariantSaved,
)
from obstui.text import counted, one_line

_MIB = 1 << 20


def line(event: Event, at: float) -> str:
    """ "23:04:10 calibrate: 960 steps"; "" for what is no news: progress, and what is only told
    again after a restart. `at` in seconds since the epoch."""
    words = "" if getattr(event, "reused", False) else _words(event)
    return f"{time.strftime('%H:%M:%S', time.localtime(at))} {one_line(words)}" if words else ""


def _words(event: Event) -> str:
    match event:
        case Phase():
            before = f", {event.done:,} of them done before" if event.done else ""
            return f"{event.name}: {event.total:,} {event.unit}{before}"
        case CheckpointSaved():
            return f"checkpoint: {event.done:,} of {event.total:,}"
        case TargetsFound():
            return f"found {counted(len(event.targets), 'target')}"
        case RoundBegun():
            return f"gathers targets {event.first + 1} to {event.first + event.count}"
        case TargetSolved():
            return f"solved {event.name} in {event.seconds:.2f} s, of {event.units:,}: " + _kept(
                event
            )
        case HeldOutMeasured():
            return f"held-out prompts at {_percent(event.sparsity)}: noise error {event.noise:.2e}"
        case VariantSaved():
            return f"saved {_percent(event.sparsity)}: {event.params:,} parameters, {event.path}"
        case MemoryMeasured(forecast, int(peak)):
            known = "unknown" if forecast is None else f"{forecast / _MIB:,.0f} MiB"
            return f"tensors on the GPU: forecast {known}, peak {peak / _MIB:,.0f} MiB"
        case ImageSaved():
            return (
                f"painted {event.path} with {event.model}, seed {event.seed}, {event.seconds:.2f} s"
            )
        case ModelMeasured():
            figures = {"PSNR": event.psnr, "SSIM": event.ssim, "latent": event.latent_distance,
                       "CLIP": event.clip, "attributes": event.attributes}  # fmt: skip
            return f"{event.model}: {event.latency:.2f} s a picture{_told(figures)}"
        case ReseedMeasured():
            figures = {"PSNR": event.psnr, "SSIM": event.ssim, "latent": event.latent_distance}
            pictures = counted(event.pictures, "picture")
            return f"another seed of the dense model, {pictures}{_told(figures)}"
        case ModelTimed():
            again = " at the end" if event.again else ""
            times = f"{event.step_ms:.1f} ms a step, {event.image_s:.2f} s a picture"
            return f"{event.model}{again}: {times}"
        case Note():
            return f"note: {event.text}"
    return ""


def _kept(solved: TargetSolved) -> str:
    """ "10 % keeps 18 (error 0.0123), 30 % keeps 14 (error 0.0456)"."""
    return ", ".join(
        f"{_percent(float(level))} keeps {kept:,}"
        + (f" (error {solved.error[level]:.4f})" if level in solved.error else "")
        for level, kept in solved.kept.items()
    )


def _told(figures: Mapping[str, float | None]) -> str:
    known = [f"{name} {value:.4g}" for name, value in figures.items() if value is not None]
    return "".join(f", {words}" for words in known)


def _percent(share: float) -> str:
    return f"{share * 100:g} %"
