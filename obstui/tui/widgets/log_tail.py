"""The end of a job's log, beside other things: it follows unless the mouse scrolls up."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from obstui.tui.theme import style


class LogTail(ScrollView, can_focus=False):
    """Plain lines, drawn only where they are seen."""

    DEFAULT_CSS = "LogTail { height: 1fr; scrollbar-size: 1 1; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: tuple[str, ...] = ()
        self.follow = True
        self._height = 0

    @property
    def lines(self) -> tuple[str, ...]:
        return self._lines

    def show(self, lines: tuple[str, ...]) -> None:
        """Draw these lines; the place is kept unless it follows."""
        if lines == self._lines:
            return
        self._lines = lines
        longest = max((len(line) for line in lines), default=0)
        self.virtual_size = Size(longest, len(lines))
        if self.follow:
            self.scroll_end(animate=False, immediate=True)
        self.refresh()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        # The layout scrolls, too: only a person leaves the end, and only a settled view returns.
        if self.size.height == self._height and new >= self.max_scroll_y:
            self.follow = True

    def on_resize(self) -> None:
        self._height = self.size.height
        if self.follow:
            self.scroll_end(animate=False)

    def on_mouse_scroll_up(self) -> None:
        self.follow = False

    def render_line(self, y: int) -> Strip:
        width, ground = self.size.width, self.rich_style
        # While it follows, the end is shown wherever a scroll that is under way has got to.
        top = max(0, len(self._lines) - self.size.height) if self.follow else self.scroll_offset.y
        index = y + top
        if index >= len(self._lines):
            return Strip.blank(width, ground)
        left = self.scroll_offset.x
        look = ground + Style.parse(style("muted"))
        strip = Strip([Segment(self._lines[index], look)])
        return strip.crop_extend(left, left + width, ground)
