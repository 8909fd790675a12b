"""The one picture of a screen, in real pixels where the terminal has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer

from obstui.tui import images, pixels
from obstui.tui.images import Wanted
from obstui.tui.pixels import Painting
from obstui.tui.widgets.picture import Picture

if TYPE_CHECKING:
    from obstui.tui.app import Dashboard

SETTLED = 0.15  # seconds without another step, before a picture's many bytes are sent


class FullPicture(Picture):
    """At most one of them is on a screen, and nothing may scroll it: pixels are no characters."""

    class Drawn(Message):
        """A picture is on its way to the terminal; `cost` is what it takes, in bytes."""

        def __init__(self, mode: str, cost: int) -> None:
            super().__init__()
            self.mode, self.cost = mode, cost

    _painting: Painting | None = None
    _second = False
    _waiting: Timer | None = None

    def _ask(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
        if self._mode in pixels.MODES and self._wanted is not None:
            self._waiting = self.set_timer(SETTLED, super()._ask)
        else:
            super()._ask()

    def _make(self, wanted: Wanted) -> list[Strip] | Painting | str:
        if wanted.mode not in pixels.MODES:
            return images.render(wanted)
        shown = cast("Dashboard", self.app).pictures
        return images.paint(wanted, shown, second=self._second)

    def _draw(self, made: list[Strip] | Painting | str) -> None:
        before, self._painting = self._painting, made if isinstance(made, Painting) else None
        if self._painting is not None:
            self._second = not self._second
            if not self._painting.over:
                self._send(self._painting.data)
        super()._draw(made)
        self.restore()
        if before is not None and before.remove:
            self.call_after_refresh(self._send, before.remove)
        self.post_message(self.Drawn(self._mode, self._cost(made)))

    def _cost(self, made: list[Strip] | Painting | str) -> int:
        strips = made.strips if isinstance(made, Painting) else made
        cells = sum(len(strip.render(self.app.console).encode()) for strip in strips
                    if isinstance(strip, Strip))  # fmt: skip
        return cells + (len(made.data) if isinstance(made, Painting) else 0)

    def restore(self) -> None:
        """Draw again what the terminal has lost: the screen was covered, and is painted anew."""
        self.call_after_refresh(self._stamp)

    def _stamp(self) -> None:
        """Sixels go over the blank cells, once those are there."""
        painting = self._painting
        if painting is None or not painting.over or self.app.screen is not self.screen:
            return
        x = self.region.x + (self.size.width - painting.width) // 2
        self._send(f"\x1b7\x1b[{self.region.y + 1};{x + 1}H{painting.data}\x1b8")

    def _send(self, data: str) -> None:
        """Through the writer that Textual's own output goes through, in order with it."""
        if (driver := self.app._driver) is not None:
            driver.write(data)

    def on_unmount(self) -> None:
        if self._painting is not None:
            self._send(self._painting.remove)
