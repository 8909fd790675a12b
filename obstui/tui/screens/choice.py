"""Small windows to choose in: one of several things to do, or which columns to show."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label, OptionList
from textual.widgets.option_list import Option

_MOVES: list[BindingType] = [
    Binding("j", "move('cursor_down')", "Down", id="choice.down", show=False,
            tooltip="The one below"),
    Binding("k", "move('cursor_up')", "Up", id="choice.up", show=False, tooltip="The one above"),
]  # fmt: skip


class Choice(ModalScreen[str | None]):
    """Dismissed with the key of what was chosen; None: nothing."""

    CSS_PATH = "choice.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close", id="choice.close", tooltip="Change nothing"),
        *_MOVES,
    ]

    def __init__(self, title: str, options: Sequence[tuple[str, str]]) -> None:
        """`options`: keys and words."""
        super().__init__()
        self._title, self._options = title, options

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Label(self._title, id="title", markup=False)
            yield OptionList(*(Option(Text(words), id=key) for key, words in self._options))
            yield Label("Enter does it, Esc leaves it.", id="hint", markup=False)

    async def action_move(self, action: str) -> None:
        await self.query_one(OptionList).run_action(action)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class Selections(ModalScreen[frozenset[str] | None]):
    """Dismissed with the keys of all that is switched on."""

    CSS_PATH = "choice.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,o", "accept", "Close", id="selections.close", tooltip="Show these"),
        Binding("space,x", "switch", "On or off", id="selections.switch",
                tooltip="Switch the marked one on or off"),
        *_MOVES,
    ]  # fmt: skip

    def __init__(self, title: str, options: Sequence[tuple[str, str]], on: Collection[str]) -> None:
        """`options`: keys and words; `on`: the keys of those that are on now."""
        super().__init__()
        self._title, self._options, self._on = title, dict(options), set(on)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Label(self._title, id="title", markup=False)
            yield OptionList(*(Option(self._words(key), id=key) for key in self._options))
            yield Label("Space switches one on or off, Esc closes.", id="hint", markup=False)

    def _words(self, key: str) -> Text:
        # A sign that is there or not tells more than the colour of one.
        return Text(f"[{'x' if key in self._on else ' '}] {self._options[key]}")

    async def action_move(self, action: str) -> None:
        await self.query_one(OptionList).run_action(action)

    def action_switch(self) -> None:
        self.query_one(OptionList).action_select()

    @on(OptionList.OptionSelected)
    def _switched(self, event: OptionList.OptionSelected) -> None:
        if key := event.option.id:
            self._on ^= {key}
            event.option_list.replace_option_prompt(key, self._words(key))

    def action_accept(self) -> None:
        self.dismiss(frozenset(self._on))
