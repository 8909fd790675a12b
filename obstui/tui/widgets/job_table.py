"""The table of jobs: one stretch of what the store found, in the store's order."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar, Self

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.geometry import Region
from textual.message import Message
from textual.widgets import DataTable
from textual.widgets.data_table import RowKey

from obstui.tui.widgets.job_columns import (
    COLUMNS,
    USUAL,
    Column,
    Row,
    cells_of,
    columns_for,
    id_of,
    row_of,
)
from obstui.tui.widgets.sheet import arrowed, draw_from_little_memory
from obstui.tui.widgets.still import alike

if TYPE_CHECKING:
    from obstui.tui.follow import Snapshot

NEAR = 40
"""Rows from an end of the stretch at which the next one is asked for."""

_SORTED_BY = {"id": "id", "name": "name", "state": "state", "finished": "finished", "time": "time"}


class JobTable(DataTable[Text], inherit_bindings=False):
    """Rows are keyed by job id; the selection follows the job, not the line. All keys but Enter are
    the screen's, whose list goes on where the table's rows end."""

    DEFAULT_CSS = "JobTable { height: 1fr; scrollbar-size-vertical: 1; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Open", id="queue.open",
                tooltip="See the selected job on a screen of its own"),
    ]  # fmt: skip

    _in_part = False
    """Whether single cells are being written."""
    _filling = False
    """Whether rows come and go, which moves the cursor where nobody has led it."""

    class Chosen(Message):
        """The person moved to another job (None: there is none)."""

        def __init__(self, job_id: int | None) -> None:
            super().__init__()
            self.job_id = job_id

    class EndReached(Message):
        """The person came near the first row (`step` -1) or the last one (+1)."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, cell_padding=1,
                         cursor_foreground_priority="renderable")  # fmt: skip
        draw_from_little_memory(self)
        self.chosen_columns: frozenset[str] = USUAL
        self.marks: Collection[int] = ()
        self._columns: list[tuple[Column, int]] = []
        self._heads: list[str] = []
        self._rows: dict[str, tuple[Row, list[Text]]] = {}
        self._order: list[str] = []
        self._wanted: str | None = None
        self._awaited: str | None = None
        self._on_line: int | None = None
        self._snapshot: Snapshot | None = None
        self._now = 0.0

    @property
    def job_id(self) -> int | None:
        """The selected job."""
        return int(self._wanted) if self._wanted is not None else None

    @property
    def tells_order(self) -> bool:
        """Whether a head says by what the rows are sorted."""
        return any(head.endswith(("↓", "↑")) for head in self._heads)

    def choose(self, job_id: int, line: int | None = None) -> None:
        """Select this job, now or as soon as it is in the table; on this line of the screen."""
        self._awaited, self._on_line = str(job_id), line
        self._keep_selection()

    def choose_row(self, row: int) -> None:
        """Select the job in this row (-1: the last)."""
        if self._order:
            self.choose(int(self._order[row]))

    def show(self, snapshot: Snapshot, now: float) -> None:
        """Bring the rows up to date, touching only cells that differ."""
        self._snapshot, self._now = snapshot, now
        if not self.size.width or not snapshot.read:
            return  # not laid out yet (`on_resize` comes back here), or nothing read yet
        line = self.line
        self._filling = True
        self._lay_out(snapshot)
        jobs = snapshot.found.jobs if snapshot.found is not None else ()
        theme = self.app.theme
        wanted = {}
        for job in jobs:
            row = row_of(job, snapshot, now, marked=job.id in self.marks, theme=theme)
            known = self._rows.get(str(job.id))
            same = known is not None and known[0] == row
            wanted[str(job.id)] = (
                known if known and same else (row, cells_of(row, self._columns, now))
            )
        with self.app.batch_update():
            if wanted.keys() == self._rows.keys():
                self._update_cells(wanted)
            else:
                self._refill(wanted, line)
            self._sort(list(wanted))
            self._rows = wanted
            self._filling = False
            self._keep_selection()

    def _lay_out(self, snapshot: Snapshot) -> None:
        """Columns have fixed widths; another width, choice or order means new columns."""
        found = snapshot.found
        ids = [job.id for job in found.jobs] if found is not None else []
        wanted = columns_for(
            self.scrollable_content_region.width,
            self.chosen_columns,
            id_width=max(5, len(str(max(ids, default=0))) + 1),
        )
        heads = [self._head(column, width, snapshot) for column, width in wanted]
        if (wanted, heads) == (self._columns, self._heads):
            return
        self._columns, self._heads = wanted, heads
        self._rows, self._order = {}, []
        self.clear(columns=True)
        for (column, width), head in zip(wanted, heads, strict=True):
            label = Text(head, justify="right" if column.right else "left")
            self.add_column(label, key=column.key, width=width)

    @property
    def left_out(self) -> list[str]:
        """What the chosen columns that have no room are called."""
        shown = {column.key for column, _ in self._columns}
        return [column.words or column.label for column in COLUMNS
                if column.key in self.chosen_columns and column.key not in shown]  # fmt: skip

    @staticmethod
    def _head(column: Column, width: int, snapshot: Snapshot) -> str:
        listing = snapshot.found.listing if snapshot.found is not None else None
        if listing is None or _SORTED_BY.get(listing.sort) != column.key:
            return column.label
        falling = (listing.sort in ("finished", "time")) != listing.reverse
        return arrowed(column.label, width, falling=falling)

    def _update_cells(self, wanted: dict[str, tuple[Row, list[Text]]]) -> None:
        for key, row in wanted.items():
            known = self._rows[key]
            if row is known:
                continue
            self._in_part = True
            for (column, _), old, new in zip(self._columns, known[1], row[1], strict=True):
                if not alike(old, new):
                    self.update_cell(key, column.key, new)
            self._in_part = False
            self.refresh_row(self.get_row_index(key))

    def refresh(
        self,
        *regions: Region,
        repaint: bool = True,
        layout: bool = False,
        recompose: bool = False,
    ) -> Self:
        """A cell that changes would have the whole table sent: only its row is."""
        if self._in_part and not (regions or layout or recompose):
            return self
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _refill(self, wanted: dict[str, tuple[Row, list[Text]]], line: int) -> None:
        gone, fresh = self._rows.keys() - wanted.keys(), wanted.keys() - self._rows.keys()
        if len(gone) + len(fresh) > max(20, len(wanted) // 4):
            self.clear()
            fresh, gone = set(wanted), set()
            if self._wanted in wanted:
                # The selected job stays on its line of the screen, whatever lies around it now.
                self._put_on_line(list(wanted).index(self._wanted), line)
        for key in gone:
            self.remove_row(key)
        self._rows = {key: row for key, row in self._rows.items() if key not in fresh | gone}
        self._update_cells({key: wanted[key] for key in self._rows if key in wanted})
        for key, (_, cells) in wanted.items():
            if key in fresh:
                self.add_row(*cells, key=key)
        self._order = [str(row.key.value) for row in self.ordered_rows]

    def _put_on_line(self, row: int, line: int) -> None:
        def put() -> None:
            if 0 < self.virtual_size.height <= len(self._order):  # still that of fewer rows
                self.call_after_refresh(put)
                return
            # Forced, for the scrollbar that allows it may not have been laid out yet.
            self.scroll_to(y=max(0, row - line), animate=False, force=True)
            self._on_line = None

        self._on_line = line
        self.call_after_refresh(put)

    @property
    def line(self) -> int:
        """How far below the top of what is visible the selected job stands, or is about to."""
        if self._on_line is not None:
            return self._on_line
        return max(0, min(self.cursor_row - round(self.scroll_y), self.size.height - 2))

    def _sort(self, keys: list[str]) -> None:
        if keys != self._order:
            # DataTable sorts by cells only; the one in column "id" spells the row's key.
            place = {key: index for index, key in enumerate(keys)}
            self.sort("id", key=lambda cell: place[id_of(cell)])
            self._order = keys

    def _keep_selection(self) -> None:
        if self._awaited in self._rows:
            awaited, self._awaited = self._awaited, None
            self._choose_key(awaited)
            self._place_cursor(scroll=True)
            if self._on_line is not None:
                self._put_on_line(self.cursor_row, self._on_line)
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

    def watch_cursor_coordinate(self, old: Coordinate, new: Coordinate) -> None:
        """Choose the job under the cursor at once: rows that come before the message of it is read
        would take the cursor back."""
        super().watch_cursor_coordinate(old, new)
        if not self._filling and new.row < len(self._order):
            if self._order[new.row] != self._wanted:
                self._awaited = None
            self._choose_key(self._order[new.row])

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._tell_end(self.cursor_row)

    def _tell_end(self, row: int) -> None:
        found = self._snapshot.found if self._snapshot is not None else None
        if found is None or self._rows.keys() != {str(job.id) for job in found.jobs}:
            return
        begin, end = found.listing.offset, found.listing.offset + len(found.jobs)
        if begin > 0 and row < NEAR:
            self.post_message(self.EndReached(-1))
        elif end < found.total and row >= len(self._order) - NEAR:
            self.post_message(self.EndReached(1))

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Whoever scrolls to an end of the stretch selects what is there, and so comes further."""
        super().watch_scroll_y(old, new)
        found = self._snapshot.found if self._snapshot is not None else None
        if found is None or len(found.jobs) >= found.total or old == new or not self._order:
            return
        height = max(1, self.size.height - 1)
        if new > old and round(new) >= self.max_scroll_y > 0:
            if self.cursor_row < len(self._order) - height:
                self.move_cursor(row=len(self._order) - 1, scroll=False)
        elif new < old and round(new) <= 0 < found.listing.offset and self.cursor_row > height:
            self.move_cursor(row=0, scroll=False)

    def on_click(self, event: events.Click) -> None:
        """A click on the selected job opens it, in whichever column: DataTable compares cells."""
        if event.style.meta.get("row") == self.cursor_row:
            event.prevent_default()
            event.stop()
            self.action_select_cursor()

    def on_resize(self, event: events.Resize) -> None:
        """The columns follow the width."""
        if self._snapshot is not None:
            self.show(self._snapshot, self._now)
