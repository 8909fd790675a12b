"""The sweep view's rows, columns and points: what it shows of the measured models, and in which
order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from obstui.measured import (
    DENSE,
    METRICS,
    Measured,
    Metric,
    Reseed,
    front,
    measured,
    reseeds,
)
from obstui.text import one_line, short_model
from obstui.tui import formats
from obstui.tui.follow import MadeReading, spec_title
from obstui.tui.theme import style
from obstui.tui.widgets import chart
from obstui.tui.widgets.chart import Axis, Level, Point
from obstui.tui.widgets.job_columns import MARK
from obstui.tui.widgets.sheet import Head, cell

if TYPE_CHECKING:
    from obstui.store import Reader

Key = tuple[str, str]
"""The base and model of a row."""


@dataclass(frozen=True, slots=True)
class Board:
    """Every measured model, by base, dense first; the sweeps that made some and the jobs that made
    several, newest first, each with its name; and by base what another seed of the dense model
    does."""

    rows: tuple[Measured, ...] = ()
    sweeps: tuple[tuple[int, str], ...] = ()
    jobs: tuple[tuple[int, str], ...] = ()
    reseeds: Mapping[str, Reseed] = field(default_factory=dict)


class BoardReading(MadeReading[Board]):
    """Reads the board; a base of which only variants were made gets its dense row too."""

    def version(self, reader: Reader) -> object:
        return super().version(reader), _named_sweeps(reader)

    def read(self, reader: Reader) -> Board:
        done = reader.jobs(states=("succeeded",), limit=1_000_000)
        rows = measured(done)
        used = {row.sweep_id for row in rows}
        sweeps = tuple(sweep for sweep in _named_sweeps(reader) if sweep[0] in used)
        made = Counter(row.job_id for row in rows)
        jobs = tuple((job.id, job.name or spec_title(job)) for job in done if made[job.id] > 1)
        return Board(tuple(_headed(rows)), sweeps, jobs, reseeds(done))


def _named_sweeps(reader: Reader) -> tuple[tuple[int, str], ...]:
    return tuple((sweep.id, sweep.name) for sweep in reader.sweeps())


def _headed(rows: Iterable[Measured]) -> Iterable[Measured]:
    for base, group in groupby(rows, key=lambda row: row.base):
        models = list(group)
        known = {row.dense_params for row in models} - {None}
        if not models[0].dense and known:
            yield Measured(base, DENSE, DENSE, 0.0, params=max(n for n in known if n))
        yield from models


def key_of(row: Measured) -> Key:
    return row.base, row.model


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows show: all, or those whose `field` has this value, with the dense model of each."""

    words: str = "all jobs"
    field: str = ""
    value: object = None

    def of(self, rows: Sequence[Measured]) -> list[Measured]:
        if not self.field:
            return list(rows)
        bases = {row.base for row in rows if self._passes(row)}
        return [row for row in rows if self._passes(row) or (row.dense and row.base in bases)]

    def _passes(self, row: Measured) -> bool:
        return bool(getattr(row, self.field) == self.value)


def filters(found: Board) -> list[Filter]:
    """The one that shows all, and those to one base, sweep or job."""
    bases = dict.fromkeys(row.base for row in found.rows)
    return [
        Filter(),
        *(Filter(one_line(base, limit=60), "base", base) for base in bases),
        *(Filter(_named("sweep", each, name), "sweep_id", each) for each, name in found.sweeps),
        *(Filter(_named("job", each, name), "job_id", each) for each, name in found.jobs),
    ]


def _named(kind: str, number: int, name: str) -> str:
    return f"{kind} {number}{f': {one_line(name, limit=60)}' if name else ''}"


@dataclass(frozen=True, slots=True)
class Column:
    """`sort` gives what rows are sorted by, None last; `rising`: small ones come first at first."""

    head: Head
    words: Callable[[Measured], str]
    sort: Callable[[Measured], float | str | None]
    rising: bool = True


def _figure(metric: Metric, label: str, width: int) -> Column:
    words = metric.text
    if metric.key == "params":
        words = lambda row: formats.params(row.params)  # noqa: E731
    elif metric.key == "size_bytes":
        words = lambda row: formats.size(row.size_bytes) if row.size_bytes else "–"  # noqa: E731
    return Column(Head(metric.key, label, width), words, metric.of, rising=metric.better < 0)


def _name(row: Measured) -> str:
    return short_model(row.base) if row.dense else f"  {row.model}"


def _removed(row: Measured) -> str:
    return "–" if row.dense or row.removed is None else f"{row.removed * 100:.1f} %"


_METRICS = {metric.key: metric for metric in METRICS}
_KEPT = (
    Column(Head("front", "", 1), lambda row: "", lambda row: None),
    Column(Head("model", "model", 13, right=False), _name, lambda row: row.model),
)
_METHOD = Column(Head("method", "method", 9, right=False),
                 lambda row: "–" if row.dense else row.method, lambda row: row.method)  # fmt: skip
_REST = (
    Column(Head("sparsity", "sparsity", 8),
           lambda row: "–" if row.dense else f"{row.sparsity * 100:g} %",
           lambda row: row.sparsity),
    Column(Head("settings", "settings", 18, right=False), lambda row: row.settings,
           lambda row: row.settings or None),
    _figure(_METRICS["params"], "params", 7),
    _figure(_METRICS["psnr"], "PSNR", 6),
    _figure(_METRICS["ssim"], "SSIM", 6),
    _figure(_METRICS["step_ms"], "step ms", 9),
    _figure(_METRICS["image_s"], "image s", 8),
    _METHOD,
    _figure(_METRICS["noise_error"], "noise", 8),
    _figure(_METRICS["latent_distance"], "latent", 8),
    _figure(_METRICS["clip"], "CLIP", 6),
    _figure(_METRICS["attributes"], "attr %", 6),
    Column(Head("removed", "removed", 7), _removed, lambda row: row.removed),
    _figure(_METRICS["size_bytes"], "weights", 8),
)  # fmt: skip
COLUMNS = {column.head.key: column for column in (*_KEPT, *_REST)}
"""The most telling first: what does not fit is moved to."""

KEPT = len(_KEPT)


def columns(rows: Sequence[Measured]) -> list[Column]:
    """The columns with something to say about these rows; the method first where it tells them
    apart, and the settings as wide as they are."""
    several = len({row.method for row in rows if not row.dense}) > 1
    order = [_METHOD, *(c for c in _REST if c is not _METHOD)] if several else _REST
    told = [c for c in order if any(c.sort(row) is not None for row in rows)]
    return [*_KEPT, *(_fitted(c, rows) if c.head.key == "settings" else c for c in told)]


def _fitted(column: Column, rows: Sequence[Measured]) -> Column:
    longest = max(len(column.words(row)) for row in rows)
    width = max(len(column.head.label) + 2, min(column.head.width, longest))
    return replace(column, head=replace(column.head, width=width))


def ordered(rows: Sequence[Measured], by: str | None, *, reverse: bool) -> list[Measured]:
    """By base, dense first; within a base by a column, or as they came."""
    found: list[Measured] = []
    for _, group in groupby(rows, key=lambda row: row.base):
        models = list(group)
        found += [row for row in models if row.dense]
        variants = [row for row in models if not row.dense]
        if by is not None and by in COLUMNS:
            variants = _sorted(variants, COLUMNS[by], reverse=reverse)
        found += variants
    return found


def _sorted(rows: Sequence[Measured], column: Column, *, reverse: bool) -> list[Measured]:
    known = [row for row in rows if column.sort(row) is not None]
    missing = [row for row in rows if column.sort(row) is None]
    falling = reverse == column.rising
    return sorted(known, key=column.sort, reverse=falling) + missing  # type: ignore[arg-type]


def heads(shown: Sequence[Column], by: str | None, *, reverse: bool) -> list[Head]:
    """The columns' heads, that of the sorted one with an arrow."""
    return [
        c.head.sorted(falling=reverse == c.rising) if c.head.key == by else c.head for c in shown
    ]


def cells(
    row: Measured, shown: Sequence[Column], best: Collection[Key], marks: Collection[Key]
) -> list[Text]:
    """A row's cells. On the front it is marked by a glyph and a colour."""
    on_front, marked = key_of(row) in best, key_of(row) in marks
    found = [cell(chart.FRONT if on_front else " ", "good")]
    look = "strong" if row.dense else "good" if on_front else "text"
    name = one_line(_name(row).strip(), limit=200)
    indent = "" if row.dense else "  "
    if marked:
        indent, look = (MARK if row.dense else f"{MARK:<2}"), "warn"
    found.append(cell(indent + name, look, right=False))
    for column in shown[KEPT:]:
        words = one_line(column.words(row), limit=40)
        found.append(cell(words, "faint" if words == "–" else "text", right=column.head.right))
    return found


def points(
    rows: Sequence[Measured], x: Metric, y: Metric, chosen: Key | None
) -> tuple[list[Point], frozenset[Key]]:
    """What the chart shows of these rows, and which of them are on the front."""
    best = front(rows, x, y)
    found = []
    for row in x.among(y.among(rows)):
        across, up = x.of(row), y.of(row)
        if across is None or up is None:
            continue
        sign = chart.DENSE if row.dense else chart.FRONT if key_of(row) in best else chart.OTHER
        name = row.base if row.dense else row.model
        found.append(Point(across, up, name, row.base, sign, key_of(row) == chosen))
    return found, best


def levels(rows: Sequence[Measured], y: Metric, known: Mapping[str, Reseed]) -> list[Level]:
    """Another seed of each dense model of these rows, where a comparison measured it in `y`."""
    found = {
        base: height
        for base in dict.fromkeys(row.base for row in rows)
        if (height := y.of_reseed(known.get(base))) is not None
    }
    if len(found) == 1:
        return [Level(height, "another seed") for height in found.values()]
    return [Level(height, f"{base}, another seed") for base, height in found.items()]


def axis(metric: Metric) -> Axis:
    return Axis(metric.label, metric.log, metric.most)


def facts(row: Measured, *, on_front: bool, reseed: Reseed | None) -> Text:
    """Who made and measured the chosen model, and how it stands; of the dense one also what another
    seed does."""
    name = row.base if row.dense else f"{row.base}, {row.model}"
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(one_line(name, limit=60), style("strong"))
    if row.dense:
        line.append("  the dense model", style("muted"))
        if reseed is not None:
            line.append(f"  another seed: {reseed.words}", style("muted"))
    elif on_front:
        line.append(f"  {chart.FRONT} on the front", style("good"))
    if row.job_id is not None:
        line.append(f"  made by job {row.job_id}", style("muted"))
    if row.settings:
        line.append(f" with {one_line(row.settings, limit=80)}", style("text"))
    if row.measured_by:
        jobs = ", ".join(map(str, row.measured_by))
        several = "s" if len(row.measured_by) > 1 else ""
        line.append(f"  measured by job{several} {jobs}", style("muted"))
    if row.apart:
        line.append("  * under other conditions than the others: not comparable", style("warn"))
    if row.unsure:
        line.append("  ~ its times scatter into the dense model's", style("warn"))
    if row.held_out_error is not None:
        line.append(f"  held-out error {row.held_out_error:.4f}", style("muted"))
    return line
