"""Asks before anything that cannot be taken back. The safe answer has the focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, what follows from yes, and the words on the buttons."""

    title: str
    consequence: str
    yes: str
    no: str


class Confirm(ModalScreen[bool]):
    """Dismissed with the answer."""

    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes", tooltip="Do it"),
        Binding("n,escape,q", "answer(False)", "No", id="confirm.no", tooltip="Leave it as it is"),
        Binding("left,h,right,l", "app.focus_next", "Other button", id="confirm.other",
                show=False, tooltip="Move to the other button"),
    ]  # fmt: skip

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Label(self.question.title, id="title", markup=False)
            yield Label(self.question.consequence, id="consequence", markup=False)
            with Horizontal(id="buttons"):
                yield Button(f"{self.question.no} (n)", id="no", compact=True)
                yield Button(f"{self.question.yes} (y)", id="yes", variant="error", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
