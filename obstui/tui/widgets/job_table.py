"""The table of jobs: what runs first, then what waits in its order, then what is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable
from textual.widgets.data_table import RowKey

from obstui import estimate
from obstui.text import one_line
from obstui.tui import formats, wording
from obstui.tui.theme import state_glyph, state_style, style
from obstui.tui.widgets.bars import fraction_done, percent, progress_bar

if TYPE_CHECKING:
    from obstui.store import JobView
    from obstui.tui.follow import Snapshot

PADDING = 2  # cells that every column spends on air


@dataclass(frozen=True, slots=True)
class Column:
    """A column of fixed width. `from_width`: tables narrower than this do without it."""

    key: str
    label: str
    width: int
    from_width: int = 0


COLUMNS = (
    Column("id", "job", 4),
    Column("kind", "kind", 8, from_width=76),
    Column("name", "name", 0),
    Column("state", "state", 13),
    Column("progress", "progress", 0),
    Column("time", "time", 9),
    Column("created", "queued", 6, from_width=88),
)


def columns_for(width: int) -> list[tuple[Column, int]]:
    """The columns that a table of `width` cells shows, with their widths; they fill it exactly."""
    shown = [column for column in COLUMNS if width >= column.from_width]
    free = width - sum(column.width + PADDING for column in shown)
    progress = max(8, min(34, free * 47 // 100))
    flexible = {"name": max(6, free - progress), "progress": progress}
    return [(column, column.width or flexible[column.key]) for column in shown]


def order(job: JobView) -> tuple[int, float, float]:
    """Sort key: running, then waiting as the worker will take them, then finished, newest first."""
    if job.live:
        return (0, job.started_at or job.created_at, job.id)
    if not job.finished:
        return (1 if job.state == "queued" else 2, -job.priority, job.id)
    return (3, -(job.finished_at or 0.0), -job.id)


class JobTable(DataTable[Text]):
    """Rows are keyed by job id; the selection follows the job, not the line."""

    DEFAULT_CSS = "JobTable { height: 1fr; scrollbar-size-vertical: 1; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", id="queue.open",
                tooltip="See the selected job on a screen of its own"),
    ]  # fmt: skip

    class Chosen(Message):
        """The person moved to another job (None: there is none)."""

        def __init__(self, job_id: int | None) -> None:
            super().__init__()
            self.job_id = job_id

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, cell_padding=1,
                         cursor_foreground_priority="renderable")  # fmt: skip
        self._columns: list[tuple[Column, int]] = []
        self._rows: dict[str, tuple[object, list[Text]]] = {}
        self._order: list[str] = []
        self._wanted: str | None = None
        self._awaited: str | None = None
        self._snapshot: Snapshot | None = None
        self._now = 0.0

    @property
    def job_id(self) -> int | None:
        """The selected job."""
        return int(self._wanted) if self._wanted is not None else None

    def choose(self, job_id: int) -> None:
        """Select this job, now or as soon as it is in the table."""
        self._awaited = str(job_id)
        self._keep_selection()

    def show(self, snapshot: Snapshot, now: float) -> None:
        """Bring the rows up to date, touching only cells that differ."""
        self._snapshot, self._now = snapshot, now
        if not self._columns or not snapshot.read:
            return  # not laid out yet (`on_resize` comes back here), or nothing read yet
        jobs = sorted(snapshot.jobs, key=order)
        wanted = {str(job.id): self._row(job) for job in jobs}
        with self.app.batch_update():
            if wanted.keys() == self._rows.keys():
                self._update_cells(wanted)
            else:
                self._refill(wanted)
            self._sort(list(wanted))
            self._rows = wanted
            self._keep_selection()

    def _row(self, job: JobView) -> tuple[object, list[Text]]:
        """The cells of a job, and what they were made from."""
        snapshot = self._snapshot
        assert snapshot is not None
        left = ""
        if job.live:
            left = formats.time_left_brief(
                estimate.remaining(job.progress, self._now, history=snapshot.history(job))
            )
        source = (job, left, formats.when(job.created_at, self._now))
        known = self._rows.get(str(job.id))
        if known is not None and known[0] == source:
            return known
        cells = {
            "id": Text(str(job.id), style("muted"), justify="right"),
            "kind": Text(job.kind, style("muted")),
            "name": Text(one_line(snapshot.title(job), limit=200), self._name_style(job)),
            "state": self._state(job),
            "progress": self._progress(job),
            "time": Text(left or wording.took(job), style("muted"), justify="right"),
            "created": Text(source[2], style("muted"), justify="right"),
        }
        return source, [self._fit(cells[column.key], width) for column, width in self._columns]

    @staticmethod
    def _fit(cell: Text, width: int) -> Text:
        cell.no_wrap = True
        cell.truncate(width, overflow="ellipsis")
        return cell

    @staticmethod
    def _name_style(job: JobView) -> str:
        return style("strong") if job.live else style("muted" if job.finished else "text")

    @staticmethod
    def _state(job: JobView) -> Text:
        words = wording.state_words(job)
        return Text(f"{state_glyph(words)} {words}", state_style(words))

    def _progress(self, job: JobView) -> Text:
        if not job.live:
            bad = job.state in ("failed", "quarantined")
            return Text(wording.outcome(job), style("bad" if bad else "muted"))
        width = next(width for column, width in self._columns if column.key == "progress")
        progress = job.progress or {}
        fraction = fraction_done(progress)
        name = one_line(progress.get("phase") or "starting", limit=12)
        if fraction is None:
            return Text(name, style("accent"))
        room = width - len(name) - 7
        cell = Text(f"{name} ", style("text"))
        if room >= 3:
            cell.append_text(progress_bar(fraction, room))
            return cell.append(f"{percent(fraction):>6}", style("accent"))
        return cell.append(percent(fraction), style("accent"))

    def _update_cells(self, wanted: dict[str, tuple[object, list[Text]]]) -> None:
        for key, row in wanted.items():
            known = self._rows[key]
            if row is known:
                continue
            for (column, _), old, new in zip(self._columns, known[1], row[1], strict=True):
                if old != new:
                    self.update_cell(key, column.key, new)

    def _refill(self, wanted: dict[str, tuple[object, list[Text]]]) -> None:
        gone, fresh = self._rows.keys() - wanted.keys(), wanted.keys() - self._rows.keys()
        if len(gone) + len(fresh) > max(20, len(wanted) // 4):
            top = self.scroll_y
            self.clear()
            self.call_after_refresh(self.scroll_to, y=top, animate=False)
            fresh, gone = set(wanted), set()
        for key in gone:
            self.remove_row(key)
        self._rows = {key: row for key, row in self._rows.items() if key not in fresh | gone}
        self._update_cells({key: wanted[key] for key in self._rows if key in wanted})
        for key, (_, cells) in wanted.items():
            if key in fresh:
                self.add_row(*cells, key=key)
        self._order = [str(row.key.value) for row in self.ordered_rows]

    def _sort(self, keys: list[str]) -> None:
        if keys != self._order:
            # DataTable sorts by cells only; the one in column "id" spells the row's key.
            place = {key: index for index, key in enumerate(keys)}
            self.sort("id", key=lambda cell: place[str(cell)])
            self._order = keys

    def _keep_selection(self) -> None:
        if self._awaited in self._rows:
            awaited, self._awaited = self._awaited, None
            self._choose_key(awaited)
            self._place_cursor(scroll=True)
        elif self._wanted is None or self._wanted not in self._rows:
            row = min(self.cursor_row, len(self._order) - 1)
            self._choose_key(self._order[row] if self._order else None)
        self._place_cursor()

    def _place_cursor(self, *, scroll: bool = False) -> None:
        if self._wanted is not None and self._wanted in self._rows:
            row = self.get_row_index(RowKey(self._wanted))
            if row != self.cursor_row:
                self.move_cursor(row=row, animate=False, scroll=scroll)

    def _choose_key(self, key: str | None) -> None:
        if key != self._wanted:
            self._wanted = key
            self.post_message(self.Chosen(self.job_id))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Choose the job under the cursor; not a row it only crossed while rows were refilled."""
        event.stop()
        row = self.cursor_row
        if 0 <= row < len(self._order) and self._order[row] == event.row_key.value:
            self._choose_key(event.row_key.value)

    def on_resize(self, event: events.Resize) -> None:
        """Columns have fixed widths; a new width of the table means new columns."""
        wanted = columns_for(self.scrollable_content_region.width)
        if wanted != self._columns:
            self._columns = wanted
            self._rows, self._order = {}, []
            self.clear(columns=True)
            for column, width in wanted:
                label = Text(column.label, style("muted"))
                if column.key in ("id", "time", "created"):
                    label.justify = "right"
                self.add_column(label, key=column.key, width=width)
        if self._snapshot is not None:
            self.show(self._snapshot, self._now)
