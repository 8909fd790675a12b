"""Thumbnails in rows and columns. Only those that are seen are ever read, by one thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import get_current_worker

from obstui.text import one_line
from obstui.tui import images
from obstui.tui.images import Wanted
from obstui.tui.theme import style

if TYPE_CHECKING:
    from obstui.store import ImageView

LOW, HIGH = 9, 11  # lines that a row of pictures takes, about, on a low and on a high screen
_HIGH_SCREEN = 33
_KEPT = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """`columns` cells of `width` x `height`, of which the left column is a gutter and the last line
    the caption; `rows` of them fit."""

    columns: int
    rows: int
    width: int
    height: int

    @property
    def picture(self) -> tuple[int, int]:
        return self.width - 1, self.height - 1


def plan(width: int, height: int) -> Plan:
    """Cells for square pictures, as many rows as fill the height."""
    rows = max(1, round(height / (HIGH if height >= _HIGH_SCREEN else LOW)))
    lines = max(2, height // rows)
    columns = max(1, width // (2 * (lines - 1) + 2))
    return Plan(columns, rows, max(2, width // columns), lines)


class PictureGrid(Widget, can_focus=True):
    """Shows `pictures`, one of them chosen."""

    DEFAULT_CSS = "PictureGrid { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1, 0)", "Before", id="grid.left", show=False,
                tooltip="The picture before"),
        Binding("right,l", "move(1, 0)", "Next", id="grid.right", show=False,
                tooltip="The next picture"),
        Binding("up,k", "move(0, -1)", "Up", id="grid.up", show=False, tooltip="The row above"),
        Binding("down,j", "move(0, 1)", "Down", id="grid.down", show=False,
                tooltip="The row below"),
        Binding("pageup,b", "page(-1)", "Page up", id="grid.pageup", show=False,
                tooltip="A screen back, to newer pictures"),
        Binding("pagedown,space", "page(1)", "Page down", id="grid.pagedown", show=False,
                tooltip="A screen on, to older pictures"),
        Binding("home,g", "end(0)", "First", id="grid.first", show=False,
                tooltip="The newest picture"),
        Binding("end,G", "end(-1)", "Last", id="grid.last", show=False,
                tooltip="The oldest picture that is read"),
    ]  # fmt: skip

    class Chosen(Message):
        """Another picture is chosen, or there are others."""

    class Opened(Message):
        """The chosen picture was clicked."""

    class Ready(Message, bubble=False):
        """The thread has drawn pictures of this shape."""

        def __init__(self, shape: tuple[int, int, str], made: dict[str, list[Strip] | str]) -> None:
            super().__init__()
            self.shape, self.made = shape, made

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.pictures: Sequence[ImageView] = ()
        self.place = 0
        self._first = 0  # row at the top
        self._mode = "half"
        self._plan = Plan(1, 1, 2, 2)
        self._shape = (1, 1, "half")
        self._made: dict[str, list[Strip] | str] = {}

    @property
    def chosen(self) -> ImageView | None:
        return self.pictures[self.place] if self.place < len(self.pictures) else None

    # -- what is shown -----------------------------------------------------------------------

    def show(self, pictures: Sequence[ImageView], mode: str) -> None:
        """Draw these; the chosen one stays the same picture, unless it was the newest."""
        if pictures == self.pictures and mode == self._mode:
            self._retry()
            return
        before = self.chosen
        self.pictures, self._mode = pictures, mode
        kept = pictures.index(before) if self.place and before in pictures else 0
        self._fit()
        self._go(kept, always=True)

    def on_resize(self, event: events.Resize) -> None:
        self._fit()
        self._go(self.place, always=True)

    def _fit(self) -> None:
        self._plan = plan(*self.size)
        shape = (*self._plan.picture, self._mode)
        if shape != self._shape:
            self._shape, self._made = shape, {}

    def choose(self, place: int) -> None:
        """Choose a picture by its place."""
        self._go(place)

    def _go(self, place: int, *, always: bool = False) -> None:
        place = max(0, min(len(self.pictures) - 1, place))
        row, before = place // self._plan.columns, (self.place, self._first)
        last = max(0, -(-len(self.pictures) // self._plan.columns) - self._plan.rows)
        first = max(row - self._plan.rows + 1, min(row, self._first))
        old, self.place, self._first = self.place, place, min(first, last)
        if always or self._first != before[1]:
            self.refresh()
            self._read()
        else:
            self.refresh(self._caption(old), self._caption(place))
        if always or before != (self.place, self._first):
            self.post_message(self.Chosen())

    def _seen(self) -> range:
        start = self._first * self._plan.columns
        return range(start, min(len(self.pictures), start + self._plan.columns * self._plan.rows))

    def _region(self, place: int) -> Region:
        row, column = divmod(place, self._plan.columns)
        width, height = self._plan.width, self._plan.height
        return Region(column * width, (row - self._first) * height, width, height)

    def _caption(self, place: int) -> Region:
        """Where the chosen picture is marked: nothing else is drawn anew when another is chosen."""
        cell = self._region(place)
        return Region(cell.x, cell.bottom - 1, cell.width, 1)

    # -- reading -----------------------------------------------------------------------------

    def _retry(self) -> None:
        """Look again for pictures that were not there."""
        faulty = [self.pictures[place].thumbnail for place in self._seen()]
        faulty = [path for path in faulty if isinstance(self._made.get(path), str)]
        for path in faulty:
            del self._made[path]
        if faulty:
            self._read()

    def _read(self) -> None:
        if self._mode == "off" or not self.size.area:
            return
        seen = [self.pictures[place].thumbnail for place in self._seen()]
        if len(self._made) > _KEPT:
            self._made = {path: self._made[path] for path in seen if path in self._made}
        if missing := [path for path in dict.fromkeys(seen) if path not in self._made]:
            self._load(missing, self._shape, self._plan.columns)

    @work(thread=True, group="thumbnails", exclusive=True, exit_on_error=False)
    def _load(self, paths: list[str], shape: tuple[int, int, str], at_once: int) -> None:
        # A row at once: Textual sends what is left of a changed cell along with it.
        width, height, mode = shape
        worker = get_current_worker()
        for start in range(0, len(paths), at_once):
            made: dict[str, list[Strip] | str] = {}
            for path in paths[start : start + at_once]:
                if worker.is_cancelled:
                    return
                try:
                    made[path] = images.render(Wanted(path, "", width, height, mode))
                except images.Unreadable as err:
                    made[path] = str(err)
            self.post_message(self.Ready(shape, made))

    def on_picture_grid_ready(self, event: Ready) -> None:
        if event.shape != self._shape:
            return
        self._made |= event.made
        fresh = [self._region(place) for place in self._seen()
                 if self.pictures[place].thumbnail in event.made]  # fmt: skip
        if fresh:
            self.refresh(*fresh)

    # -- drawing -----------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        row, line = divmod(y, self._plan.height)
        ground = self.rich_style
        start = (self._first + row) * self._plan.columns
        segments: list[Segment] = []
        if row < self._plan.rows:
            for place in range(start, min(len(self.pictures), start + self._plan.columns)):
                segments += self._cell(place, line, ground)
        return Strip(segments).adjust_cell_length(self.size.width, ground)

    def _cell(self, place: int, line: int, ground: Style) -> list[Segment]:
        picture, here = self.pictures[place], place == self.place
        width, height = self._plan.picture
        gutter = Segment(" ", ground)
        if line == height:
            words = one_line(f"{picture.job_id} {picture.model}", limit=width - 1)
            look = ground + Style.parse(
                f"{style('accent')} bold reverse" if here else style("muted")
            )
            mark = Segment("▸" if here else " ", ground + Style.parse(style("accent")))
            lit = min(width, 2 * height)
            return [mark, Segment(f"{words:<{lit}}", look), Segment(" " * (width - lit), ground)]
        made = self._made.get(picture.thumbnail, "")
        if isinstance(made, str):
            words = (made if line == height // 2 else "")[: width - 1]
            return [gutter, Segment(f"{words:^{width}}", ground + Style.parse(style("faint")))]
        top = (height - len(made)) // 2
        if not 0 <= line - top < len(made):
            return [gutter, Segment(" " * width, ground)]
        strip = made[line - top]
        return [gutter, *strip, Segment(" " * (width - strip.cell_length), ground)]

    # -- acting ------------------------------------------------------------------------------

    def action_move(self, columns: int, rows: int) -> None:
        place = self.place + columns + rows * self._plan.columns
        if 0 <= place < len(self.pictures):
            self._go(place)
        elif rows > 0 and place // self._plan.columns == (len(self.pictures) - 1) // (
            self._plan.columns
        ):
            self._go(len(self.pictures) - 1)  # the last row is shorter

    def action_page(self, step: int) -> None:
        self._go(self.place + step * self._plan.columns * self._plan.rows)

    def action_end(self, place: int) -> None:
        self._go(place % max(1, len(self.pictures)))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.action_move(0, 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.action_move(0, -1)

    def on_click(self, event: events.Click) -> None:
        row, column = event.y // self._plan.height, event.x // self._plan.width
        place = (self._first + row) * self._plan.columns + column
        if column < self._plan.columns and place in self._seen():
            if place == self.place:
                self.post_message(self.Opened())
            self._go(place)
