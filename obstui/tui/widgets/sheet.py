"""Tables of rows by key; the columns that do not fit into a sheet are a key press away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.message import Message
from textual.widgets import DataTable
from textual.widgets.data_table import RowKey

from obstui.tui.theme import style
from obstui.tui.widgets.still import alike

_PADDING = 2
_DRAWN = 200
"""Twice the lines of the tallest terminal that anybody has."""


@dataclass(frozen=True, slots=True)
class Head:
    """A column: `width` cells, without the air around them."""

    key: str
    label: str
    width: int
    right: bool = True

    def sorted(self, *, falling: bool) -> Head:
        """The head of the column that the rows are sorted by."""
        return replace(self, label=arrowed(self.label, self.width, falling=falling))


def arrowed(label: str, width: int, *, falling: bool) -> str:
    """The label of the column that rows are sorted by; what fills its `width` cells gives way."""
    arrow = "↓" if falling else "↑"
    words = f"{label} {arrow}"
    return words if len(words) <= width else f"{label[: width - 1]}{arrow}"


def draw_from_little_memory(table: DataTable[Text]) -> None:
    """Textual keeps the last ten thousand cells that a table has drawn, also those of rows as they
    were before: some megabytes for each table, in a dashboard that is left open all night."""
    table._cell_render_cache.maxsize = 10 * _DRAWN
    for cache in (table._row_render_cache, table._row_renderable_cache, table._line_cache):
        cache.maxsize = _DRAWN


class Rows(DataTable[Text], inherit_bindings=False):
    """Rows by key: only cells that differ are drawn again, and the selection follows the row's key.
    Enter is left to the screen, which knows what it does."""

    DEFAULT_CSS = """
    Rows { scrollbar-size-vertical: 1; overflow-x: hidden; background: $background; }
    Rows:focus { background-tint: $background 0%; }
    Rows > .datatable--header { background: $background; color: $text-muted; text-style: none; }
    Rows > .datatable--cursor { text-style: $block-cursor-text-style; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", "Down", id="sheet.down", show=False,
                tooltip="The row below"),
        Binding("up,k", "cursor_up", "Up", id="sheet.up", show=False, tooltip="The row above"),
        Binding("pagedown", "page_down", "Page down", id="sheet.page-down", show=False,
                tooltip="A page further down"),
        Binding("pageup", "page_up", "Page up", id="sheet.page-up", show=False,
                tooltip="A page further up"),
        Binding("home,g", "scroll_top", "First", id="sheet.first", show=False,
                tooltip="The first row"),
        Binding("end,G", "scroll_bottom", "Last", id="sheet.last", show=False,
                tooltip="The last row"),
    ]  # fmt: skip

    class Chosen(Message):
        """Another row is chosen (None: there is none), or other columns show."""

        def __init__(self, key: str | None) -> None:
            super().__init__()
            self.key = key

    class HeadClicked(Message):
        """The person clicked on a column's head."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, cursor_type="row", cell_padding=_PADDING // 2,
                         cursor_foreground_priority="renderable")  # fmt: skip
        draw_from_little_memory(self)
        self._heads: tuple[Head, ...] = ()
        self._cells: dict[str, tuple[Text, ...]] = {}
        self._laid: list[Head] = []
        self._drawn: dict[str, list[Text]] = {}
        self._chosen: str | None = None
        self._filling = False

    @property
    def chosen(self) -> str | None:
        """The selected row."""
        return self._chosen

    def choose(self, key: str) -> None:
        """Select this row, now or as soon as it is drawn."""
        self._choose(key)
        if self._drawn:
            self._keep_selection()

    def show(self, heads: Sequence[Head], rows: Mapping[str, Sequence[Text]]) -> None:
        """Draw what is new: `rows` in their order, a cell for each head."""
        self._heads = tuple(heads)
        self._cells = {key: tuple(cells) for key, cells in rows.items()}
        self._draw()

    def _visible(self) -> list[int]:
        """The columns that show, by their place among all."""
        return list(range(len(self._heads)))

    def _draw(self) -> None:
        if not self.size.width or not self._heads:
            return  # not laid out yet: `on_resize` comes back here
        places = self._visible()
        heads = [self._heads[place] for place in places]
        drawn = {key: [row[place] for place in places] for key, row in self._cells.items()}
        self._filling = True
        with self.app.batch_update():
            if heads != self._laid or list(drawn) != list(self._drawn):
                self._refill(heads, drawn)
            else:
                self._update(drawn)
        self._drawn, self._filling = drawn, False
        self._keep_selection()

    def _refill(self, heads: list[Head], drawn: Mapping[str, list[Text]]) -> None:
        top = self.scroll_offset.y
        self.clear(columns=heads != self._laid)
        if heads != self._laid:
            for head in heads:
                label = Text(head.label, justify="right" if head.right else "left")
                self.add_column(label, key=head.key, width=head.width)
            self._laid = heads
        for key, cells in drawn.items():
            self.add_row(*cells, key=key)
        self.scroll_to(y=top, animate=False)

    def _update(self, drawn: Mapping[str, list[Text]]) -> None:
        for key, cells in drawn.items():
            for head, old, new in zip(self._laid, self._drawn[key], cells, strict=True):
                if not alike(old, new):
                    self.update_cell(key, head.key, new)

    def _keep_selection(self) -> None:
        if self._chosen in self._drawn:
            row = self.get_row_index(RowKey(self._chosen or ""))
            if row != self.cursor_row:
                self.move_cursor(row=row, animate=False)
        else:
            keys = list(self._drawn)
            self._choose(keys[min(self.cursor_row, len(keys) - 1)] if keys else None)

    def _choose(self, key: str | None) -> None:
        if key != self._chosen:
            self._chosen = key
            self.post_message(self.Chosen(key))

    def watch_cursor_coordinate(self, old: Coordinate, new: Coordinate) -> None:
        """Choose the row under the cursor at once: rows that come before the message of it is read
        would take the cursor back."""
        super().watch_cursor_coordinate(old, new)
        keys = list(self._drawn)
        if not self._filling and new.row < len(keys):
            self._choose(keys[new.row])

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        event.stop()
        self.post_message(self.HeadClicked(str(event.column_key.value)))

    def on_resize(self, event: events.Resize) -> None:
        if self._heads:
            self._draw()
            self.post_message(self.Chosen(self._chosen))


class Sheet(Rows):
    """The first `kept` columns always show; of the others as many as fit, in their order, from the
    one that the person has moved to. Columns are never cut and never change width."""

    DEFAULT_CSS = "Sheet { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "cursor_right", "More columns", id="sheet.right", show=False,
                tooltip="The columns further right"),
        Binding("left,h", "cursor_left", "Columns before", id="sheet.left", show=False,
                tooltip="The columns further left"),
    ]  # fmt: skip

    def __init__(self, *, id: str, kept: int = 1) -> None:  # noqa: A002
        super().__init__(id=id)
        self._kept, self._first = kept, 0

    @property
    def hidden(self) -> tuple[int, int]:
        """How many columns lie to the left and to the right of those that show."""
        shown = len(self._visible()) - self._kept
        return self._first, max(0, len(self._heads) - self._kept - self._first - shown)

    def hint(self) -> Text:
        """Where there are more columns; empty where all show, or nothing yet."""
        before, after = self.hidden if self._laid else (0, 0)
        words = f"  ← {before}" if before else ""
        words += f"  → {after}" if after else ""
        many = "s" if before + after > 1 else ""
        return Text(f"{words} more column{many}" if words else "", style("accent"))

    def show(self, heads: Sequence[Head], rows: Mapping[str, Sequence[Text]]) -> None:
        self._first = max(0, min(self._first, len(heads) - self._kept - 1))
        super().show(heads, rows)

    def _visible(self) -> list[int]:
        """The columns that show, by their place among all."""
        room = self.scrollable_content_region.width
        kept = list(range(min(self._kept, len(self._heads))))
        room -= sum(self._heads[place].width + _PADDING for place in kept)
        for place in range(self._kept + self._first, len(self._heads)):
            room -= self._heads[place].width + _PADDING
            if room < 0:
                break
            kept.append(place)
        return kept

    def action_cursor_right(self) -> None:
        if self.hidden[1]:
            self._move(1)

    def action_cursor_left(self) -> None:
        if self._first:
            self._move(-1)

    def _move(self, step: int) -> None:
        self._first += step
        self._draw()
        self.post_message(self.Chosen(self._chosen))


def cell(words: str, look: str = "text", *, right: bool = True) -> Text:
    """One cell's text; what is too long ends in an ellipsis."""
    return Text(words, style(look), justify="right" if right else "left", no_wrap=True,
                overflow="ellipsis")  # fmt: skip
