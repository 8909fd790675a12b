"""With what a job painted, and what two jobs do not have in common."""

from __future__ import annotations

from dataclasses import dataclass

from core.presets import CALIBRATION_STEPS, defaults
from obstui.store.views import JobView


@dataclass(frozen=True, slots=True)
class Made:
    """With what a job made its pictures, beside prompt and seed; None is the model's own. The size,
    in pixels, is part of the noise."""

    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None
    negative: str = ""
    size: int | None = None

    def unlike(self, other: Made) -> dict[str, tuple[str, str]]:
        """In words what is not the same: (own, other's) by its name."""
        pairs = {
            "steps": (self.steps, other.steps),
            "guidance": (self.guidance, other.guidance),
            "scheduler": (self.scheduler or "own", other.scheduler or "own"),
            "negative": (self.negative or "none", other.negative or "none"),
            # A size left open may well be the same: the pictures themselves tell.
            "size": (self.size or other.size, other.size or self.size),
        }
        return {name: (f"{a}", f"{b}") for name, (a, b) in pairs.items() if a != b}


def made_with(job: JobView) -> Made:
    """What a job that paints or calibrates was told, what it left open filled in where that is
    known."""
    spec, preset = job.spec, defaults(str(job.spec.get("model")))
    usual = CALIBRATION_STEPS if job.kind == "prune" else preset.steps
    steps, guidance = spec.get("steps"), spec.get("guidance")
    return Made(
        usual if steps is None else steps,
        float(preset.guidance if guidance is None else guidance),
        spec.get("scheduler"),
        str(spec.get("negative") or ""),
        spec.get("size") or preset.size,
    )
