"""The page that shares a sweep: one HTML file with its tables, charts and pictures inside."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from obstui import __version__, picture_files
from obstui.charts import Dot, Level, scatter
from obstui.conditions import conditions
from obstui.measured import (
    METRICS,
    Measured,
    Metric,
    Reseed,
    axes,
    front,
    measured,
    reseeds,
)
from obstui.store import JobView, Reader
from obstui.text import one_line

PICTURE_SIDE = 384
"""Pixels; larger pictures are scaled down, so that a page of a hundred stays a few megabytes."""

PICTURE_ROWS = 12
"""Prompts that a comparison shows; the page says how many there are."""

_METHODS = ("obs", "magnitude", "imported")
_MEASURE = ("prune", "compare", "bench")


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture in a row of a comparison: its model, and the file as a data URL (None: gone)."""

    model: str
    source: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """The pictures of one prompt and seed, dense first."""

    prompt: str
    seed: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The pictures of a compare job; `total` counts its prompts and seeds, shown or not, and
    `across` is how many models stand in a row."""

    job: JobView
    conditions: str
    rows: tuple[Row, ...]
    total: int
    across: int


@dataclass(frozen=True, slots=True)
class Layers:
    """What a prune did to each target: `rows` are (target, units, [(kept, error) by level])."""

    job: JobView
    levels: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[tuple[int | None, float | None], ...]], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A base model with everything measured of it; `best` are the front by the cost and the quality
    `by`, and `sources` the jobs that measured, each with its conditions."""

    base: str
    rows: tuple[Measured, ...]
    metrics: tuple[Metric, ...]
    by: tuple[Metric, Metric] | None
    best: frozenset[tuple[str, str]]
    charts: tuple[Markup, ...]
    reseed: Reseed | None
    sources: tuple[tuple[JobView, str], ...]


def render(reader: Reader, jobs: Sequence[JobView], *, title: str, now: float) -> str:
    """The page about these jobs. Only what they made and measured is on it; pictures that have
    been deleted are said to be gone. Raises StoreError."""
    done = [job for job in jobs if job.state == "succeeded"]
    rows, scales = measured(done), reseeds(done)
    devices = {worker.device: worker.device_name for worker in reader.workers()}
    told = {job.id: conditions(job, devices) for job in done if job.kind in _MEASURE}
    environment = Environment(
        loader=PackageLoader("obstui", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = lambda text: one_line(str(text), limit=300)
    environment.filters["shared"] = _without_place
    return environment.get_template("page.html.j2").render(
        title=one_line(title, limit=120),
        version=__version__,
        made=time.strftime("%d %B %Y, %H:%M", time.localtime(now)),
        sections=[
            _section(
                base,
                [row for row in rows if row.base == base],
                scales.get(base),
                tuple(
                    (job, told[job.id])
                    for job in sorted(done, key=lambda job: job.id)
                    if job.id in told and job.spec.get("model") == base
                ),
            )
            for base in dict.fromkeys(row.base for row in rows)
        ],
        comparisons=[_comparison(job, told[job.id]) for job in done if job.kind == "compare"],
        layers=[found for job in done if job.kind == "prune" and (found := _layers(reader, job))],
        jobs=sorted(jobs, key=lambda job: job.id),
    )


def _without_place(model: str) -> str:
    """Where a folder lies on this machine is nothing to share; a hub's id is a name as it is."""
    return Path(model).name if Path(model).is_absolute() else model


def _section(
    base: str,
    rows: list[Measured],
    reseed: Reseed | None,
    sources: tuple[tuple[JobView, str], ...],
) -> Section:
    known = [m for m in METRICS if any(m.of(row) is not None for row in rows)]
    costs, qualities = axes(rows)
    pairs = [(costs[0], quality) for quality in qualities]
    if qualities:
        pairs += [(cost, qualities[0]) for cost in costs if cost.key in ("step_ms", "image_s")][:1]
    by = pairs[0] if pairs else None
    best = front(rows, *by) if by else frozenset()
    charts = tuple(chart for pair in pairs if (chart := _chart(rows, *pair, reseed)) is not None)
    return Section(base, tuple(rows), tuple(known), by, best, charts, reseed, sources)


def _chart(
    rows: Sequence[Measured], cost: Metric, quality: Metric, reseed: Reseed | None
) -> Markup | None:
    best = front(rows, cost, quality)
    dots = [
        Dot(x, y, row.model, _group(row), (row.base, row.model) in best)
        for row in cost.among(quality.among(rows))
        if not row.dense and (x := cost.of(row)) is not None and (y := quality.of(row)) is not None
    ]
    if len(dots) < 2:
        return None
    arrow = "better ↑" if quality.better > 0 else "better ↓"
    height = quality.of_reseed(reseed)
    level = None if height is None else Level(height, "dense, another seed")
    # What the dense model costs; how far it is from itself would be no place in the chart.
    dense = next((x for row in rows if row.dense and (x := cost.of(row)) is not None), None)
    limit = None if dense is None else Level(dense, "dense")
    label = f"{quality.label} · {arrow}"
    return scatter(dots, cost.label, label, level, limit, most=quality.most)


def _group(row: Measured) -> int:
    return _METHODS.index(row.method) if row.method in _METHODS else len(_METHODS)


def _comparison(job: JobView, told: str) -> Comparison:
    found: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for image in (job.result or {}).get("images") or ():
        place = str(image.get("prompt") or ""), int(image.get("seed") or 0)
        found.setdefault(place, {})[str(image.get("model"))] = image
    models = [str(model.get("model")) for model in (job.result or {}).get("models") or ()]
    rows = tuple(
        Row(
            one_line(prompt, limit=400),
            seed,
            tuple(Figure(m, data_url(str(images[m].get("path")))) for m in models if m in images),
        )
        for (prompt, seed), images in list(found.items())[:PICTURE_ROWS]
    )
    across = max((len(row.figures) for row in rows), default=1)
    return Comparison(job, told, rows, len(found), across)


def data_url(path: str, side: int = PICTURE_SIDE) -> str | None:
    """A job's picture as JPEG inside a `data:` URL, at most `side` pixels wide and high; None when
    it cannot be read."""
    from PIL import Image

    try:
        with picture_files.opened(path) as found:
            picture = found.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    octets = io.BytesIO()
    picture.save(octets, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(octets.getvalue()).decode('ascii')}"


def _layers(reader: Reader, job: JobView) -> Layers | None:
    solved: dict[str, dict[str, Any]] = {}
    for event in reader.events(job.id, kinds=["target_solved"]):
        known = solved.setdefault(event.payload["name"], {"kept": {}, "error": {}})
        known["kept"] |= event.payload.get("kept") or {}
        known["error"] |= event.payload.get("error") or {}
    units = {
        target["name"]: int(target["units"])
        for event in reader.events(job.id, kinds=["targets_found"])
        for target in event.payload["targets"]
    }
    levels = tuple(
        sorted({level for facts in solved.values() for level in facts["kept"]}, key=float)
    )
    if not levels:
        return None
    rows = tuple(
        (
            name,
            units.get(name, 0),
            tuple((facts["kept"].get(level), facts["error"].get(level)) for level in levels),
        )
        for name, facts in solved.items()
    )
    return Layers(job, levels, rows)


def write(path: Path, text: str) -> None:
    """The file appears whole or not at all. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def jobs_of(reader: Reader, *, sweep: int | None, ids: Iterable[int]) -> list[JobView]:
    """The jobs a page is about: those of a sweep, the named ones, else all that have ended well.
    Jobs that do not exist are left out. Raises StoreError."""
    if sweep is not None:
        return reader.jobs(sweep=sweep, limit=100_000)
    if named := tuple(ids):
        return [job for job_id in named if (job := reader.job(job_id)) is not None]
    return reader.jobs(states=("succeeded",), limit=100_000)
