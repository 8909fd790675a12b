"""Text that is longer than its place."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll


class Reading(VerticalScroll):
    """Scrolled by the keys that move through every list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Down", id="reading.down", show=False, tooltip="Read on"),
        Binding("k", "scroll_up", "Up", id="reading.up", show=False, tooltip="Back up"),
        Binding("g", "scroll_home", "First", id="reading.first", show=False,
                tooltip="The first line"),
        Binding("G", "scroll_end", "Last", id="reading.last", show=False,
                tooltip="The last line"),
    ]  # fmt: skip
