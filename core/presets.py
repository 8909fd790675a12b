"""The settings that a request leaves open, known before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from core import demo

CALIBRATION_STEPS = 25
"""Denoising steps of a calibration: OBS-Diff's (arXiv 2510.06751, Sec. 4)."""
RESEEDED = 4
"""Pictures that a comparison's dense model makes once more from other seeds, for scale."""


@dataclass(frozen=True)
class Defaults:
    """What a request leaves open; `size` is in pixels, None where only the model knows it."""

    steps: int
    guidance: float
    size: int | None = None


def defaults(model: str) -> Defaults:
    """Return the settings a model shows its best with: steps, guidance scale and size."""
    if model == "demo":
        return Defaults(steps=30, guidance=demo.GUIDANCE)
    return Defaults(steps=30, guidance=7.0)
