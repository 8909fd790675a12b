"""Pictures that started from the same noise: one prompt, seed and size, several models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from obstui.measured import Reseed, reseed_of
from obstui.painted import Made, made_with
from obstui.spread import unsure
from obstui.tui.follow import MadeReading

if TYPE_CHECKING:
    from obstui.store import ImageView, Reader

LIMIT = 5000


@dataclass(frozen=True, slots=True)
class SameNoise:
    """`paths` are the pictures by the name of their model; `made` is with what."""

    prompt: str
    seed: int
    paths: Mapping[str, str]
    made: Mapping[str, Made]

    def unlike(self, a: str, b: str) -> dict[str, tuple[str, str]]:
        """What the pictures of two models differ in beside the model, as `Made.unlike`."""
        if a not in self.made or b not in self.made:
            return {}
        return self.made[a].unlike(self.made[b])


@dataclass(frozen=True, slots=True)
class Pairs:
    """`models` have a picture somewhere in `rows`, the dense one first; `means` are what a
    comparison has measured over all its pictures, as `core.events.ModelMeasured` tells it, and
    `reseed` what it has measured of its dense model under other seeds; the times of `unsure` models
    scatter into the dense one's."""

    rows: tuple[SameNoise, ...]
    models: tuple[str, ...]
    means: tuple[Mapping[str, Any], ...]
    reseed: Reseed | None = None
    unsure: frozenset[str] = frozenset()
    read: bool = False

    def mean_of(self, model: str) -> Mapping[str, Any] | None:
        return next((means for means in self.means if means.get("model") == model), None)


class PairsReading(MadeReading[Pairs]):
    """Reads the pictures of a job and, unless it is a comparison, those that other jobs have made
    of the same prompts, seeds and size with the same base model; also again once one more was
    painted."""

    def __init__(self, job_id: int, base: str) -> None:
        self.job_id, self.base = job_id, base

    def version(self, reader: Reader) -> object:
        return super().version(reader), reader.newest_picture()

    def read(self, reader: Reader) -> Pairs:
        from obstui.store import ImageFilter

        job = reader.job(self.job_id)
        own = reader.images(ImageFilter(job=self.job_id), limit=LIMIT)
        if job is None:
            return paired([], {})
        settings = {job.id: made_with(job)}
        if job.kind == "compare":
            result = job.result or {}
            return replace(
                paired(own, settings),
                means=tuple(result.get("models") or ()),
                reseed=reseed_of(result),
                unsure=unsure(result, "image_s"),
            )
        keys = {(image.prompt, image.seed) for image in own}
        others = [
            image
            for image in reader.images(ImageFilter(model=self.base), limit=LIMIT)
            if image.base == self.base and (image.prompt, image.seed) in keys
        ]
        for number in {image.job_id for image in others} - {job.id}:
            if (other := reader.job(number)) is not None:
                settings[number] = made_with(other)
        return paired([*own, *_nearest(others, settings, settings[job.id])], settings)


def _nearest(
    images: Iterable[ImageView], settings: Mapping[int, Made], own: Made
) -> list[ImageView]:
    """The pictures of the same size, those first that differ in the fewest settings from `own`."""
    unlike = {number: made.unlike(own) for number, made in settings.items()}
    same = [i for i in images if i.job_id in unlike and "size" not in unlike[i.job_id]]
    return sorted(same, key=lambda image: len(unlike[image.job_id]))


def paired(images: Iterable[ImageView], settings: Mapping[int, Made]) -> Pairs:
    """The rows in the order of the pictures; of two by one model the first counts. `settings` are
    those of the pictures' jobs."""
    rows: dict[tuple[str, int], SameNoise] = {}
    models: dict[str, None] = {}
    for image in images:
        models.setdefault(image.model)
        key = image.prompt, image.seed
        row = rows.setdefault(key, SameNoise(*key, {}, {}))
        if image.model not in row.paths:
            paths = {**row.paths, image.model: image.path}
            made = {**row.made, image.model: settings.get(image.job_id, Made())}
            rows[key] = SameNoise(*key, paths, made)
    shown = tuple(sorted(models, key=lambda model: model != "dense"))
    return Pairs(tuple(rows.values()), shown, (), read=True)
