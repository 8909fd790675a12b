"""One line of tabs: their keys, their names, and the mouse."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.message import Message

from obstui.tui.theme import style
from obstui.tui.widgets.still import Still


class TabLine(Still):
    """Tells which tab was clicked; who shows it is the screen's business."""

    class Clicked(Message):
        """The person wants this tab."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._spans: list[tuple[int, int, str]] = []

    def tell(self, tabs: dict[str, tuple[str, str]], here: str, more: Text) -> None:
        """`tabs`: key and label of each by its name; `more` stands behind them."""
        line, self._spans = Text(no_wrap=True), []
        for name, (key, label) in tabs.items():
            start = line.cell_len
            line.append(f"{key} ", style("accent"))
            line.append(label, f"{style('strong')} underline" if name == here else style("muted"))
            self._spans.append((start, line.cell_len, name))
            line.append("   ")
        self.show(line.append_text(more))

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        for start, end, name in self._spans:
            if at is not None and start <= at.x < end:
                self.post_message(self.Clicked(name))
