"""The pictures of a job in rows: for a comparison one row a prompt and seed, one column a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from obstui.text import one_line
from obstui.tui.widgets.picture import Shot

if TYPE_CHECKING:
    from obstui.store import ImageView, JobView
    from obstui.tui.facts import JobFacts

PER_ROW = 4


@dataclass(frozen=True, slots=True)
class ShotRow:
    """Pictures that are looked at together; `caption` says what they have in common."""

    caption: str
    shots: tuple[Shot, ...]


def rows_of_shots(job: JobView, facts: JobFacts | None) -> list[ShotRow]:
    """From the job's result, or from its events while it runs."""
    images = _images(job, facts)
    if job.kind == "compare":
        return _by_prompt(images, [str(v) for v in job.spec.get("variants") or ()])
    return [
        _gallery_row(images[start : start + PER_ROW], start, len(images))
        for start in range(0, len(images), PER_ROW)
    ]


def _images(job: JobView, facts: JobFacts | None) -> Sequence[Mapping[str, Any]]:
    return (job.result or {}).get("images") or (facts.images if facts else ())


def picture_at(job: JobView, facts: JobFacts | None, path: str) -> ImageView | None:
    """The job's picture in this file, if it is there already."""
    from obstui.store import ImageView

    for image in _images(job, facts):
        if path and image.get("path") == path:
            model, base = str(image.get("model")), str(job.spec.get("model"))
            prompt, seed = str(image.get("prompt")), int(image.get("seed") or 0)
            return ImageView(job.id, base, model, prompt, seed, path, path)
    return None


def gallery_shot(picture: ImageView) -> Shot:
    """A picture that stands alone: its caption names job, model, seed and prompt."""
    what = f"job {picture.job_id}  {picture.model}  seed {picture.seed}  {picture.prompt}"
    return Shot(one_line(what, limit=400), picture.path, picture.thumbnail)


def _gallery_row(images: Sequence[Mapping[str, Any]], start: int, total: int) -> ShotRow:
    shots = tuple(_shot(f"seed {image.get('seed')}", image) for image in images)
    prompts = dict.fromkeys(one_line(image.get("prompt") or "", limit=300) for image in images)
    more = f" and {len(prompts) - 1} more" if len(prompts) > 1 else ""
    caption = f"{start + 1}–{start + len(shots)} of {total}  {next(iter(prompts))}{more}"
    return ShotRow(caption, shots)


def _by_prompt(images: Sequence[Mapping[str, Any]], variants: list[str]) -> list[ShotRow]:
    models = ["dense", *variants]
    rows: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for image in images:
        model = str(image.get("model"))
        if model not in models:
            models.append(model)
        rows.setdefault((str(image.get("prompt")), int(image.get("seed") or 0)), {})[model] = image
    found = []
    for place, ((prompt, seed), row) in enumerate(rows.items(), 1):
        caption = f"{place} of {len(rows)}  {one_line(prompt, limit=300)}  · seed {seed}"
        shots = tuple(_shot(one_line(m, limit=24), row.get(m, {})) for m in models)
        found.append(ShotRow(caption, shots))
    return found


def _shot(caption: str, image: Mapping[str, Any]) -> Shot:
    path = str(image.get("path") or "")
    return Shot(caption, path, str(image.get("thumbnail") or path))


def with_preview(rows: list[ShotRow], preview: Shot) -> list[ShotRow]:
    """The picture being made after the finished ones."""
    if rows and len(rows[-1].shots) < PER_ROW:
        return [*rows[:-1], replace(rows[-1], shots=(*rows[-1].shots, preview))]
    return [*rows, ShotRow("being made", (preview,))]
