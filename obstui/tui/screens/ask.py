"""A small window with a few questions, open until the answers have been taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label

from obstui.tui.theme import style
from obstui.tui.widgets.still import Still
from obstui.tui.writer import Declined

if TYPE_CHECKING:
    from obstui.store import Store
    from obstui.tui.app import Dashboard


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, answered with a line of text."""

    key: str
    label: str
    hint: str
    needed: bool = True


class Ask(ModalScreen[str | None]):
    """`take` gets the answers by their keys, in the store's thread, and gives the sentence that the
    window is dismissed with; what it raises is said in the window. None: nothing was done."""

    CSS_PATH = "ask.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="ask.leave", tooltip="Back, nothing done"),
        Binding("ctrl+s", "submit", "Do it", id="ask.submit", priority=True,
                tooltip="Check the answers and do it"),
    ]  # fmt: skip

    def __init__(
        self,
        title: str,
        questions: Sequence[Asked],
        yes: str,
        take: Callable[[Store, Mapping[str, str]], str],
    ) -> None:
        super().__init__()
        self._title, self._questions, self._yes, self._take = title, questions, yes, take
        self._sending = False

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Label(self._title, id="title", markup=False)
            for question in self._questions:
                with Horizontal(classes="question"):
                    yield Label(question.label, markup=False)
                    answer = Input(id=f"ask-{question.key}", placeholder=question.hint,
                                   compact=True)  # fmt: skip
                    answer.cursor_blink = False
                    yield answer
            yield Still(id="fault")
            with Horizontal(id="buttons"):
                yield Button("Back (Esc)", id="no", compact=True)
                yield Button(f"{self._yes} (Enter)", id="yes", variant="primary", compact=True)

    def _answer(self, question: Asked) -> Input:
        return self.query_one(f"#ask-{question.key}", Input)

    @on(Input.Submitted)
    def _next(self) -> None:
        """To the first question that still wants an answer; else it is done."""
        for question in self._questions:
            answer = self._answer(question)
            if question.needed and not answer.value.strip() and not answer.has_focus:
                answer.focus()
                return
        self.action_submit()

    @on(Button.Pressed, "#yes")
    def action_submit(self) -> None:
        answers = {q.key: self._answer(q).value.strip() for q in self._questions}
        missing = [q for q in self._questions if q.needed and not answers[q.key]]
        if missing:
            self._say(f"The {missing[0].label} is missing: {missing[0].hint}.")
            self._answer(missing[0]).focus()
        elif not self._sending:
            self._sending = True
            self._send(answers)

    @work(group="ask", exclusive=True, exit_on_error=False)
    async def _send(self, answers: Mapping[str, str]) -> None:
        app = cast("Dashboard", self.app)
        try:
            said = await app.write(lambda store: self._take(store, answers))
        except Declined as err:
            self._say(str(err))
        else:
            self.dismiss(said)
        finally:
            self._sending = False

    def _say(self, words: str) -> None:
        self.query_one("#fault", Still).show(Text(words, style("bad")))

    @on(Button.Pressed, "#no")
    def action_leave(self) -> None:
        self.dismiss(None)
