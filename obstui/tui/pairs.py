"""Pictures that started from the same noise: one prompt and seed, several models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstui.store import ImageView, Reader

LIMIT = 5000


@dataclass(frozen=True, slots=True)
class SameNoise:
    """`paths` are the pictures by the name of their model."""

    prompt: str
    seed: int
    paths: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pairs:
    """`models` have a picture somewhere in `rows`, the dense one first; `means` are what a
    comparison has measured over all its pictures, as `core.events.ModelMeasured` tells it."""

    rows: tuple[SameNoise, ...]
    models: tuple[str, ...]
    means: tuple[Mapping[str, Any], ...]
    read: bool = False

    def mean_of(self, model: str) -> Mapping[str, Any] | None:
        return next((means for means in self.means if means.get("model") == model), None)


@dataclass(frozen=True, slots=True)
class PairsReading:
    """Reads, in the follower's thread, the pictures of a job and, unless it is a comparison, those
    that other jobs have made of the same prompts and seeds with the same base model."""

    job_id: int
    base: str

    def __call__(self, reader: Reader) -> Pairs:
        from obstui.store import ImageFilter

        job = reader.job(self.job_id)
        own = reader.images(ImageFilter(job=self.job_id), limit=LIMIT)
        if job is not None and job.kind == "compare":
            means = tuple((job.result or {}).get("models") or ())
            return paired(own, means)
        keys = {(image.prompt, image.seed) for image in own}
        others = reader.images(ImageFilter(model=self.base), limit=LIMIT)
        alike = [i for i in others if i.base == self.base and (i.prompt, i.seed) in keys]
        return paired([*own, *alike])


def paired(images: Iterable[ImageView], means: tuple[Mapping[str, Any], ...] = ()) -> Pairs:
    """The rows in the order of the pictures; of two by one model the first counts."""
    rows: dict[tuple[str, int], dict[str, str]] = {}
    models: dict[str, None] = {}
    for image in images:
        models.setdefault(image.model)
        rows.setdefault((image.prompt, image.seed), {}).setdefault(image.model, image.path)
    found = tuple(SameNoise(prompt, seed, paths) for (prompt, seed), paths in rows.items())
    return Pairs(found, tuple(sorted(models, key=lambda m: m != "dense")), means, read=True)
