"""The line above the table: what is looked for, how much of it there is, what is marked."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from obstui.tui.theme import style
from obstui.tui.widgets.still import Still

DEBOUNCE = 0.15
LONGEST = 1000


class FilterLine(Vertical):
    """Takes no room while there is neither a filter nor anything to tell."""

    DEFAULT_CSS = """
    FilterLine { height: auto; display: none; padding: 0 1; background: $surface; }
    FilterLine.-shown { display: block; }
    FilterLine Horizontal { height: 1; }
    FilterLine #filter-sign { width: 2; }
    FilterLine Input { width: 1fr; height: 1; border: none; padding: 0; background: $surface; }
    FilterLine Input:focus { border: none; background-tint: $surface 0%; }
    FilterLine #filter-found { width: auto; margin-left: 1; }
    FilterLine #filter-sign, FilterLine Input { display: none; }
    FilterLine.-filter #filter-sign, FilterLine.-filter Input { display: block; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Clear the filter", id="filter.clear",
                tooltip="Forget the filter and go back to the table"),
        # With priority: the input has an Enter of its own.
        Binding("enter,down", "leave", "To the table", id="filter.leave", priority=True,
                tooltip="Keep the filter and go to the table"),
    ]  # fmt: skip

    class Changed(Message):
        """The person has typed another filter, some moments ago, or is `done` with it."""

        def __init__(self, text: str, *, done: bool) -> None:
            super().__init__()
            self.text, self.done = text, done

    def __init__(self, table: str, *, id: str | None = None) -> None:  # noqa: A002
        """`table` is the selector of what has the keys when the filter is left."""
        super().__init__(id=id)
        self._table = table
        self._timer: Timer | None = None
        self._told = False

    def compose(self) -> ComposeResult:
        with Horizontal():
            sign = Still(id="filter-sign")
            sign.show("/")
            yield sign
            words = Input(
                placeholder="state:failed kind:prune sparsity>0.2 age<1d text",
                max_length=LONGEST,
                select_on_focus=False,
                id="filter-text",
            )
            words.cursor_blink = False
            yield words
            yield Still(id="filter-found")
        yield Still(id="filter-fault")

    @property
    def text(self) -> str:
        return self.query_one(Input).value

    def open(self) -> None:
        """Show the input and let it have the keys."""
        self.add_class("-filter", "-shown")
        self.screen.set_focus(self.query_one(Input))

    def put(self, text: str) -> None:
        """Have this filter stand here; nobody is told."""
        with self.prevent(Input.Changed):
            self.query_one(Input).value = text

    def tell(self, words: Text, fault: str) -> None:
        """What was found and marked; what is wrong with the filter."""
        self.query_one("#filter-found", Still).show(words)
        self.query_one("#filter-fault", Still).show(Text(fault, style("bad")))
        self._told = bool(words.plain)
        self._fold()

    def _fold(self) -> None:
        asked = bool(self.text) or self.query_one(Input).has_focus
        self.set_class(asked, "-filter")
        self.set_class(asked or self._told, "-shown")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(DEBOUNCE, self._tell_change)

    def _tell_change(self) -> None:
        self._timer = None
        self.post_message(self.Changed(self.text, done=False))

    def action_leave(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self.post_message(self.Changed(self.text, done=True))
        self.screen.set_focus(self.screen.query_one(self._table))
        self.call_after_refresh(self._fold)

    def action_close(self) -> None:
        self.query_one(Input).value = ""
        self.action_leave()
