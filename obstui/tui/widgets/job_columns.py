"""The columns of the job table: which there are, which fit, and what stands in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from obstui import estimate
from obstui.text import one_line
from obstui.tui import formats, wording
from obstui.tui.theme import state_glyph, state_style, style
from obstui.tui.widgets.bars import percent, progress_bar
from obstui.tui.widgets.status_line import device_name

if TYPE_CHECKING:
    from obstui.store import JobView
    from obstui.tui.follow import Snapshot

PADDING = 2  # cells that every column spends on air
MARK = "◆"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of fixed width (0: it shares what is left). `keep`: where room is short, the columns
    with the lowest go first; those without stay. `always`: no choice of the person's. `words`: its
    name where there is more room."""

    key: str
    label: str
    width: int = 0
    keep: int | None = None
    right: bool = False
    always: bool = False
    words: str = ""


COLUMNS = (
    Column("id", "job", 5, right=True, always=True),
    Column("kind", "kind", 8, keep=8),
    Column("name", "name", always=True),
    Column("state", "state", 13, always=True),
    Column("progress", "progress"),
    Column("time", "time", 9, keep=9, right=True, words="time taken or left"),
    Column("created", "queued", 6, keep=4, right=True),
    Column("started", "started", 7, keep=5, right=True),
    Column("finished", "ended", 6, keep=6, right=True),
    Column("priority", "prio", 4, keep=7, right=True, words="priority"),
    Column("sweep", "sweep", 11, keep=3),
    Column("model", "model", 16, keep=2),
    Column("result", "best result", 16, keep=2),
    Column("gpu", "gpu", 10, keep=1),
)
USUAL = frozenset({"id", "kind", "name", "state", "progress", "time", "created", "started", "gpu"})
_ROOM_FOR_WORDS = 50
"""Cells that name and progress have together before a usual column may have any; one that was
chosen needs to leave them half of it."""


def columns_for(
    width: int, chosen: Collection[str] = USUAL, *, id_width: int = 5
) -> list[tuple[Column, int]]:
    """The chosen columns that a table of `width` cells has room for, with their widths, which fill
    it exactly. `id_width`: cells of the longest id and its mark."""
    shown = [column for column in COLUMNS if column.always or column.key in chosen]
    fixed = {column.key: column.width for column in COLUMNS} | {"id": id_width}
    room = _ROOM_FOR_WORDS if frozenset(chosen) == USUAL else _ROOM_FOR_WORDS // 2

    def free() -> int:
        return width - sum(fixed[column.key] + PADDING for column in shown)

    for column in sorted((c for c in shown if c.keep is not None), key=lambda c: c.keep or 0):
        if free() < (room if column.key != "time" else 20):
            shown.remove(column)
    left = free()
    progress = max(12, min(30, left * 46 // 100)) if any(c.key == "progress" for c in shown) else 0
    flexible = {"name": max(6, left - progress), "progress": progress}
    return [(column, fixed[column.key] or flexible[column.key]) for column in shown]


@dataclass(frozen=True, slots=True)
class Row:
    """What the cells of one job are made from: equal rows look the same."""

    job: JobView
    title: str
    left: str
    device: str
    sweep: str
    blocked: str
    today: int
    marked: bool
    theme: str


def row_of(job: JobView, snapshot: Snapshot, now: float, *, marked: bool, theme: str) -> Row:
    today = time.localtime(now).tm_yday
    left = ""
    if job.live:
        history = snapshot.history(job)
        left = formats.time_left_brief(estimate.remaining(job.progress, now, history=history))
    # What holds every job up is said once, above the table.
    blocked = "" if job.blocked == snapshot.nobody else wording.blocked_brief(job, now)
    title = snapshot.title(job)
    sweep = wording.sweep_brief(snapshot.sweeps.get(job.sweep_id or 0))
    device = _device(job, snapshot) if job.device else ""
    return Row(job, title, left, device, sweep, blocked, today, marked, theme)


def _device(job: JobView, snapshot: Snapshot) -> str:
    """What the device is called, with its place where several are called so."""
    names = {worker.device: device_name(worker) for worker in snapshot.workers}
    name = names.get(str(job.device), str(job.device))
    alike = [device for device, other in names.items() if other == name]
    return f"{name} #{alike.index(str(job.device))}" if len(alike) > 1 else name


def cells_of(row: Row, columns: list[tuple[Column, int]], now: float) -> list[Text]:
    """The cells of a row, each as wide as its column at most."""
    return [_fit(_CELLS[column.key](row, width, now), width, column) for column, width in columns]


def _fit(cell: Text, width: int, column: Column) -> Text:
    cell.no_wrap = True
    cell.truncate(width, overflow="ellipsis")
    if column.right:
        cell.justify = "right"
    return cell


def _fitting(width: int, words: str, brief: str) -> str:
    return words if cell_len(words) <= width else brief


def _id(row: Row, width: int, now: float) -> Text:
    if row.marked:
        return Text(f"{MARK}{row.job.id}", style("warn"))
    return Text(str(row.job.id), style("muted"))


def id_of(cell: Text) -> str:
    """The job that a cell of the first column is about."""
    return cell.plain.lstrip(MARK)


def _name(row: Row, width: int, now: float) -> Text:
    look = "strong" if row.job.live else "muted" if row.job.finished else "text"
    return Text(one_line(row.title, limit=200), style(look))


def _state(row: Row, width: int, now: float) -> Text:
    words = wording.state_words(row.job)
    return Text(f"{state_glyph(words)} {words}", state_style(words))


def _progress(row: Row, width: int, now: float) -> Text:
    job = row.job
    if job.state == "queued":
        waits = _fitting(width, row.blocked, wording.waits_brief(row.blocked))
        return Text(waits, style("muted"))
    if not job.live:
        bad = job.state in ("failed", "quarantined")
        words = _fitting(width, wording.outcome(job), wording.outcome_brief(job))
        return Text(words, style("bad" if bad else "muted"))
    progress = job.progress or {}
    fraction = estimate.fraction_done(progress)
    name = one_line(progress.get("phase") or "starting", limit=12)
    if fraction is None:
        return Text(name, style("accent"))
    if len(name) + 7 > width:
        return Text(percent(fraction), style("accent"))
    room = width - len(name) - 7
    cell = Text(f"{name} ", style("text"))
    if room >= 3:
        cell.append_text(progress_bar(fraction, room))
        return cell.append(f"{percent(fraction):>6}", style("accent"))
    return cell.append(percent(fraction), style("accent"))


def _muted(words: Callable[[Row, float], str]) -> Callable[[Row, int, float], Text]:
    return lambda row, width, now: Text(one_line(words(row, now), limit=120), style("muted"))


def _when(at: float | None, now: float) -> str:
    return "" if at is None else formats.when(at, now)


_CELLS: Mapping[str, Callable[[Row, int, float], Text]] = {
    "id": _id,
    "kind": _muted(lambda row, now: row.job.kind),
    "name": _name,
    "state": _state,
    "progress": _progress,
    "time": _muted(lambda row, now: row.left or wording.took(row.job)),
    "created": _muted(lambda row, now: _when(row.job.created_at, now)),
    "started": _muted(lambda row, now: _when(row.job.started_at, now)),
    "finished": _muted(lambda row, now: _when(row.job.finished_at, now)),
    "priority": _muted(lambda row, now: str(row.job.priority) if row.job.priority else ""),
    "sweep": _muted(lambda row, now: row.sweep),
    "model": _muted(lambda row, now: wording.model_brief(row.job)),
    "result": _muted(lambda row, now: wording.best_result(row.job)),
    "gpu": _muted(lambda row, now: row.device),
}
