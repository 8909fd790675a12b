"""The pictures of all jobs: from the results of those that succeeded, else from their events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, String, cast, func, select
from sqlalchemy.sql.selectable import Select

from obstui.config import Paths
from obstui.recorded import at_home
from obstui.store.tables import events, jobs

_KINDS = ("generate", "compare")


@dataclass(frozen=True, slots=True)
class ImageView:
    """One picture. `model` is "dense" or a variant's id, `base` the model that the job names."""

    job_id: int
    base: str
    model: str
    prompt: str
    seed: int
    path: str
    thumbnail: str


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which pictures are wanted; every word must occur in the prompt, `model` in the name of the
    variant or of its base. Letter case does not matter."""

    words: tuple[str, ...] = ()
    job: int | None = None
    model: str | None = None
    seed: int | None = None


def read_images(conn: Connection, paths: Paths, wanted: ImageFilter, limit: int) -> list[ImageView]:
    """At most `limit` pictures, the newest job's first, in the order in which a job made them."""
    rows = [*_of_results(conn, wanted, limit), *_of_events(conn, wanted, limit)]
    rows.sort(key=lambda row: -row.id)  # stable: the order within a job stays
    found: dict[tuple[int, str], ImageView] = {}
    for row in rows:
        view = _view(paths, row)
        found.setdefault((view.job_id, view.path), view)  # resumed runs tell their pictures again
    return list(found.values())[:limit]


def _of_results(conn: Connection, wanted: ImageFilter, limit: int) -> Iterable[Row[Any]]:
    each = func.json_each(jobs.c.result, "$.images").table_valued(
        "key", "value", joins_implicitly=True
    )
    query = (
        select(jobs.c.id, jobs.c.ulid, jobs.c.spec, each.c.value.label("image"))
        .where(jobs.c.kind.in_(_KINDS), jobs.c.result.is_not(None))
        .order_by(jobs.c.id.desc(), each.c.key)
    )
    return conn.execute(_narrowed(query, wanted, each.c.value).limit(limit)).all()


def _of_events(conn: Connection, wanted: ImageFilter, limit: int) -> Iterable[Row[Any]]:
    image = cast(events.c.payload, String)
    query = (
        select(jobs.c.id, jobs.c.ulid, jobs.c.spec, image.label("image"))
        .join(events, events.c.job_id == jobs.c.id)
        .where(jobs.c.kind.in_(_KINDS), jobs.c.result.is_(None), jobs.c.attempt > 0)
        .where(events.c.kind == "image_saved")
        .order_by(jobs.c.id.desc(), events.c.id)
    )
    return conn.execute(_narrowed(query, wanted, image).limit(limit)).all()


def _narrowed(query: Select[Any], wanted: ImageFilter, image: ColumnElement[Any]) -> Select[Any]:
    def holds(field: ColumnElement[Any], part: str) -> ColumnElement[bool]:
        return field.icontains(part, autoescape=True)

    for word in wanted.words:
        query = query.where(holds(func.json_extract(image, "$.prompt"), word))
    if wanted.job is not None:
        query = query.where(jobs.c.id == wanted.job)
    if wanted.seed is not None:
        query = query.where(func.json_extract(image, "$.seed") == wanted.seed)
    if wanted.model is not None:
        base = func.json_extract(cast(jobs.c.spec, String), "$.model")
        own = func.json_extract(image, "$.model")
        query = query.where(holds(base, wanted.model) | holds(own, wanted.model))
    return query


def _view(paths: Paths, row: Row[Any]) -> ImageView:
    image: Mapping[str, Any] = at_home(paths, row.ulid, json.loads(row.image))
    path = str(image.get("path") or "")
    return ImageView(
        job_id=row.id,
        base=str(row.spec.get("model") or ""),
        model=str(image.get("model") or "dense"),
        prompt=str(image.get("prompt") or ""),
        seed=int(image.get("seed") or 0),
        path=path,
        thumbnail=str(image.get("thumbnail") or path),
    )
