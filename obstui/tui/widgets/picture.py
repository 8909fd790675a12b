"""A picture in half-blocks, and a row of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.containers import HorizontalScroll, Vertical
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from obstui.tui import images
from obstui.tui.images import Wanted
from obstui.tui.pixels import Painting
from obstui.tui.theme import style
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.tui.app import Dashboard

NARROWEST = 12  # cells; more pictures than fit at this width scroll sideways


class Picture(Widget):
    """One picture, as large as the widget allows. Reading and scaling happen in a thread."""

    DEFAULT_CSS = "Picture { height: 1fr; width: 1fr; }"

    class Ready(Message, bubble=False):
        """The thread has the picture (or the reason why there is none) for `wanted`."""

        def __init__(self, wanted: Wanted, made: list[Strip] | Painting | str) -> None:
            super().__init__()
            self.wanted, self.made = wanted, made

    def __init__(self, path: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.path = path
        self._against = ""
        self._mode = "half"
        self._wanted: Wanted | None = None
        self._strips: Sequence[Strip] | str = ""

    def show(self, path: str, mode: str | None = None, *, against: str = "") -> None:
        """Draw the picture at `path`, or where it differs from the one at `against`; what was drawn
        before stays until it is ready."""
        self.path, self._against, self._mode = path, against, mode or self._mode
        self._ask()

    def on_resize(self, event: events.Resize) -> None:
        self._ask()

    def retry(self) -> None:
        """Look again for a picture that was not there."""
        if isinstance(self._strips, str):
            self._wanted = None
            self._ask()

    def reload(self) -> None:
        """Look at the file again: it may be another picture now."""
        self._wanted = None
        self._ask()

    def _ask(self) -> None:
        wanted = Wanted(self.path, self._against, *self.size, self._mode)
        if wanted == self._wanted or not self.size.area:
            return
        self._wanted = wanted
        if not self.path or self._mode == "off":
            self.post_message(self.Ready(wanted, "" if not self.path else "picture off (i)"))
        else:
            self._load(wanted)

    @work(thread=True, group="picture", exclusive=True, exit_on_error=False)
    def _load(self, wanted: Wanted) -> None:
        try:
            made = self._make(wanted)
        except images.Unreadable as err:
            made = str(err)
        self.post_message(self.Ready(wanted, made))

    def _make(self, wanted: Wanted) -> list[Strip] | Painting | str:
        """In the thread. Raises Unreadable."""
        return images.render(wanted)

    def on_picture_ready(self, event: Ready) -> None:
        if event.wanted == self._wanted and event.made != self._strips:
            self._draw(event.made)

    def _draw(self, made: list[Strip] | Painting | str) -> None:
        self._strips = made.strips if isinstance(made, Painting) else made
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, height, ground = self.size.width, self.size.height, self.rich_style
        if isinstance(self._strips, str):
            words = self._strips if y == height // 2 else ""
            look = ground + Style.parse(style("muted"))
            return Strip([Segment(words.center(width)[:width], look)])
        if y >= len(self._strips):
            return Strip.blank(width, ground)
        strip = self._strips[y]
        left = (width - strip.cell_length) // 2
        padded = Strip([Segment(" " * left, ground), *strip])
        return padded.adjust_cell_length(width, ground)


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture with its caption; `path` is the full one, `thumbnail` what the row draws."""

    caption: str
    path: str
    thumbnail: str


class _Cell(Vertical):
    DEFAULT_CSS = """
    _Cell { height: 1fr; margin-right: 1; }
    _Cell Still { text-align: center; width: 1fr; height: 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.caption, self.picture = Still(), Picture()

    def compose(self) -> ComposeResult:
        yield self.caption
        yield self.picture

    def on_click(self) -> None:
        row = self.parent
        if isinstance(row, PictureRow):
            self.post_message(PictureRow.Picked(list(row.query(_Cell)).index(self)))


class PictureRow(HorizontalScroll, can_focus=False):
    """Pictures side by side, one of them marked."""

    DEFAULT_CSS = "PictureRow { height: 1fr; scrollbar-size-horizontal: 1; }"

    class Picked(Message):
        """The person clicked the picture with this place in the row."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._shots: tuple[Shot, ...] = ()
        self._mode = "half"
        self._marked: int | None = None

    @property
    def shots(self) -> tuple[Shot, ...]:
        return self._shots

    async def show(
        self, shots: tuple[Shot, ...], *, marked: int | None = None, mode: str = ""
    ) -> None:
        """Draw these pictures; cells are reused, so stepping through rows does not flicker."""
        mode = mode or cast("Dashboard", self.app).pictures.grid
        wanted = (shots, marked, mode)
        if wanted == (self._shots, self._marked, self._mode):
            return
        self._shots, self._marked, self._mode = wanted
        cells = list(self.query(_Cell))
        if len(shots) > len(cells):
            cells += (fresh := [_Cell() for _ in range(len(shots) - len(cells))])
            await self.mount_all(fresh)
        for cell in cells[len(shots) :]:
            cell.display = False
        self._fit()
        for index, (cell, shot) in enumerate(zip(cells, shots, strict=False)):
            cell.display = True
            look = "strong" if index == marked else "muted"
            mark = "▸ " if index == marked else ""
            cell.caption.show(Text(mark + shot.caption, style(look), no_wrap=True))
            cell.picture.show(shot.thumbnail or shot.path, mode)
        if marked is not None and marked < len(cells):
            cells[marked].scroll_visible(animate=False)

    def on_resize(self, event: events.Resize) -> None:
        self._fit()

    def _fit(self) -> None:
        """All cells equally wide: pictures that differ by a column would look different."""
        if self._shots:
            width = max(NARROWEST, self.size.width // len(self._shots) - 1)
            for cell in self.query(_Cell):
                cell.styles.width = width

    def retry(self) -> None:
        """Look again for pictures that were not there yet."""
        for cell in self.query(_Cell):
            cell.picture.retry()
