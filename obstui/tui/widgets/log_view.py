"""A job's log to read: it follows its end until the person leaves that; search, wrap, copy."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input

from obstui.tui import formats
from obstui.tui.clipboard import copy
from obstui.tui.tail import Tail
from obstui.tui.theme import style
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.tui.app import Dashboard


class LogLines(ScrollView, can_focus=True):
    """The lines themselves, drawn only where they are seen. While it does not follow, it keeps the
    lines it has, so that nothing moves under the reader's eyes."""

    # A scrollbar that came and went would change the width that lines are wrapped to.
    DEFAULT_CSS = "LogLines { height: 1fr; scrollbar-size: 1 1; scrollbar-gutter: stable; }"

    class Moved(Message, bubble=True):
        """Another place, other lines, or another way to show them."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._newest = self._tail = Tail()
        self.follow, self.wrap = True, False
        self._needle = ""
        self._rows: list[tuple[int, str]] = []  # (line, its characters) of each row
        self._hit: int | None = None

    # -- lines -------------------------------------------------------------------------------

    @property
    def lines(self) -> tuple[str, ...]:
        return self._tail.lines

    @property
    def tail(self) -> Tail:
        return self._tail

    @property
    def waiting(self) -> int:
        """How many lines have come since it stopped to follow."""
        if not self._tail.starts or self._newest.path != self._tail.path:
            return 0
        return len(self._newest.starts) - bisect_right(self._newest.starts, self._tail.starts[-1])

    def show(self, tail: Tail) -> None:
        if tail is self._newest or tail == self._newest:
            return
        self._newest = tail
        if self.follow or (tail.path, tail.moment) != (self._tail.path, self._tail.moment):
            self._take()
        self.post_message(self.Moved())

    def _take(self) -> None:
        self._tail = self._newest
        self._hit = None
        self._lay_out()
        if self.follow:
            self.scroll_end(animate=False, immediate=True)

    @property
    def _room(self) -> Size:
        """What is left beside the scrollbars."""
        return self.scrollable_content_region.size

    def _lay_out(self) -> None:
        lines = self._tail.lines
        if self.wrap:
            longest = max(1, self._room.width)
            self._rows = [
                (number, part)
                for number, line in enumerate(lines)
                for part in chop_cells(line, longest) or [""]
            ]
        else:
            self._rows = list(enumerate(lines))
            longest = max(map(cell_len, lines), default=0)
        self.virtual_size = Size(longest, len(self._rows))
        self.refresh()

    # -- where -------------------------------------------------------------------------------

    def set_follow(self, follow: bool) -> None:
        self.follow = follow
        if follow:
            self._take()
        self.post_message(self.Moved())

    def set_wrap(self, wrap: bool) -> None:
        top = self._rows[self._top][0] if self._rows else 0
        self.wrap = wrap
        self._lay_out()
        if self.follow:
            self.scroll_end(animate=False)
        else:
            self._go_to(top)
        self.post_message(self.Moved())

    @property
    def _top(self) -> int:
        """The first row on the screen: while it follows, the end is shown wherever a scroll that is
        under way has got to."""
        end = max(0, len(self._rows) - self._room.height)
        return end if self.follow else min(self.scroll_offset.y, end)

    def _go_to(self, line: int) -> None:
        row = next((row for row, (number, _) in enumerate(self._rows) if number == line), 0)
        self.scroll_to(y=row, animate=False, immediate=True)

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self.post_message(self.Moved())

    def on_resize(self, event: events.Resize) -> None:
        if self.wrap:
            self._lay_out()
        if self.follow:
            self.scroll_end(animate=False)

    def _leave_the_end(self) -> None:
        if self.follow:
            # Where it stands now is where the person starts from.
            self.scroll_to(y=self._top, animate=False, immediate=True)
            self.follow = False
            self.post_message(self.Moved())

    on_mouse_scroll_up = on_scroll_up = on_scroll_to = _leave_the_end

    def action_scroll_up(self) -> None:
        self._leave_the_end()
        super().action_scroll_up()

    def action_page_up(self) -> None:
        self._leave_the_end()
        super().action_page_up()

    def action_scroll_home(self) -> None:
        self._leave_the_end()
        super().action_scroll_home()

    def action_scroll_end(self) -> None:
        self.set_follow(True)

    # -- search ------------------------------------------------------------------------------

    @property
    def hits(self) -> list[int]:
        """The numbers of the lines that hold what is sought, whatever its case."""
        if not self._needle:
            return []
        return [n for n, line in enumerate(self._tail.lines) if self._sought.search(line)]

    @property
    def _sought(self) -> re.Pattern[str]:
        return re.compile(re.escape(self._needle), re.IGNORECASE)

    @property
    def hit(self) -> int | None:
        return self._hit

    @property
    def needle(self) -> str:
        return self._needle

    def seek(self, needle: str) -> None:
        """Mark every `needle`; go to the last one above the end of the screen."""
        self._needle, self._hit = needle, None
        if self.hits:
            self.find(-1)
        self.refresh()
        self.post_message(self.Moved())

    def find(self, direction: int) -> None:
        """Go to the next hit (1) or the one before (-1), round the ends."""
        if not (hits := self.hits):
            return
        if self._hit is None:
            last = min(self._top + self._room.height, len(self._rows)) - 1
            place = bisect_right(hits, self._rows[last][0] if self._rows else 0) - 1
        else:
            place = bisect_right(hits, self._hit) - 1 + direction
        self._leave_the_end()
        self._hit = hits[place % len(hits)]
        self._go_to(max(0, self._hit - self._room.height // 2))
        self.refresh()
        self.post_message(self.Moved())

    @property
    def marked(self) -> str:
        """The line found, else all that is on the screen."""
        if self._hit is not None:
            return self._tail.lines[self._hit]
        numbers = [number for number, _ in self._rows[self._top : self._top + self._room.height]]
        return "\n".join(self._tail.lines[number] for number in dict.fromkeys(numbers))

    # -- drawing -----------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width, ground = self.size.width, self.rich_style
        row = y + self._top
        if row >= len(self._rows):
            return Strip.blank(width, ground)
        number, line = self._rows[row]
        words = Text(line, style("text"), no_wrap=True)
        if self._needle:
            look = f"{style('warn')} reverse" if number == self._hit else f"{style('warn')} bold"
            for found in self._sought.finditer(line):
                words.stylize(look, *found.span())
        segments = [
            Segment(s.text, ground + s.style if isinstance(s.style, Style) else ground)
            for s in words.render(self.app.console)
            if s.text != "\n"
        ]
        left = 0 if self.wrap else self.scroll_offset.x
        return Strip(segments).crop_extend(left, left + width, ground)


def _why_empty(tail: Tail) -> str:
    if tail.moment is None:
        return "The log is empty: nothing was written to it."
    if tail.whole:
        return f"Nothing had been written to the log at {formats.clock(tail.moment)}."
    return f"What the log held at {formats.clock(tail.moment)} is too far up in {tail.path}."


class LogView(Vertical):
    """The lines, a line that says where they are, and the search beneath."""

    DEFAULT_CSS = """
    LogView #log-search { display: none; height: 1; border: none; padding: 0; }
    LogView.-seeking #log-search { display: block; }
    LogView #log-foot { height: 1; display: block; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow", id="log.follow",
                tooltip="Follow the log's end, or stay where you are"),
        Binding("slash", "seek", "Search", id="log.search", key_display="/",
                tooltip="Find a word in the log"),
        Binding("n", "find(1)", "Next", id="log.next", show=False, tooltip="The next line found"),
        Binding("N", "find(-1)", "Before", id="log.before", show=False,
                tooltip="The line found before"),
        Binding("W", "wrap", "Wrap", id="log.wrap", show=False,
                tooltip="Break long lines, or cut them off"),
        Binding("y", "copy", "Copy", id="log.copy", show=False,
                tooltip="Copy the line found, else what is on the screen"),
        Binding("k", "up", "Up", id="log.up", show=False, tooltip="One line up"),
        Binding("j", "down", "Down", id="log.down", show=False, tooltip="One line down"),
    ]  # fmt: skip

    def compose(self) -> ComposeResult:
        yield LogLines(id="log-lines")
        yield Still(id="log-foot")
        yield Input(id="log-search", placeholder="find in the log", compact=True)

    @property
    def body(self) -> LogLines:
        return self.query_one(LogLines)

    @property
    def lines(self) -> tuple[str, ...]:
        return self.body.lines

    def show(self, tail: Tail) -> None:
        self.body.show(tail)
        if not tail.lines:  # nothing moves
            self._say_where()

    def on_resize(self) -> None:
        self._say_where()

    @on(LogLines.Moved)
    def _say_where(self) -> None:
        body = self.body
        line = Text(no_wrap=True)
        if not body.lines:
            line.append(_why_empty(body.tail), style("muted"))
            self.query_one("#log-foot", Still).show(line)
            return
        if waiting := body.waiting:
            words = f" {waiting} new line{'s' if waiting > 1 else ''} "
            line.append(words, f"{style('accent')} reverse").append("  ")
        if (moment := body.tail.moment) is not None:
            line.append(f"as it stood at {formats.clock(moment)}", style("text"))
        else:
            line.append("following" if body.follow else "stopped", style("text"))
        line.append(f"  {len(body.lines):,} lines", style("muted"))
        if not body.tail.whole:
            line.append(f", the last of {body.tail.path}", style("muted"))
        if body.needle:
            hits = body.hits
            at = hits.index(body.hit) + 1 if body.hit in hits else 0
            found = f"{at} of {len(hits)}" if hits else "not found:"
            line.append(f"  {found} ", style("text" if hits else "warn"))
            line.append(f'"{body.needle}"', style("text"))
        line.truncate(max(1, self.size.width), overflow="ellipsis")
        self.query_one("#log-foot", Still).show(line)

    def action_follow(self) -> None:
        self.body.set_follow(not self.body.follow)

    def action_wrap(self) -> None:
        self.body.set_wrap(not self.body.wrap)

    def action_find(self, direction: int) -> None:
        self.body.find(direction)

    def action_up(self) -> None:
        self.body.action_scroll_up()

    def action_down(self) -> None:
        self.body.action_scroll_down()

    async def action_copy(self) -> None:
        words = self.body.marked
        count = words.count("\n") + 1
        what = "1 line" if count == 1 else f"{count:,} lines"
        await copy(cast("Dashboard", self.app), words, what)

    def action_seek(self) -> None:
        self.add_class("-seeking")
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def _sought(self, event: Input.Submitted) -> None:
        event.stop()
        self._end_search(event.value)

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" and self.query_one(Input).has_focus:
            event.stop()
            self._end_search("")

    def _end_search(self, needle: str) -> None:
        self.remove_class("-seeking")
        self.body.focus()
        self.body.seek(needle)
