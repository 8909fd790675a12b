"""What every key does on the screen below, made from its bindings."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from obstui.tui.theme import style

_NAMES = {"question_mark": "?", "colon": ":", "plus": "+", "minus": "-", "enter": "Enter",
          "escape": "Esc", "left": "←", "right": "→", "up": "↑", "down": "↓",
          "space": "Space", "tab": "Tab", "shift+tab": "Shift+Tab",
          "left_square_bracket": "[", "right_square_bracket": "]"}  # fmt: skip


def key_lines(screen: Screen[Any]) -> list[tuple[str, str, str]]:
    """(keys, description, tooltip) of each of our own bindings that is active on `screen`."""
    by_action: dict[str, tuple[list[str], str, str]] = {}
    for key, (_, binding, enabled, tooltip) in screen.active_bindings.items():
        if enabled and binding.id and not binding.system:
            keys, _, _ = by_action.setdefault(
                binding.action, ([], binding.description, tooltip or binding.tooltip)
            )
            name = _NAMES.get(key, key)
            if name not in keys:
                keys.append(name)
    return [(" ".join(keys), words, tip) for keys, words, tip in by_action.values()]


class KeysScreen(ModalScreen[None]):
    """A list to read; any of the usual keys closes it."""

    CSS_PATH = "keys.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "Close", id="keys.close",
                tooltip="Back to the screen below"),
    ]  # fmt: skip

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        self._lines = key_lines(below)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Keys", id="title", markup=False)
            with VerticalScroll(id="keys"):
                yield Static(self._table(), markup=False)
            yield Static(
                "ctrl+p or : finds a command by its name.",
                id="hint",
                markup=False,
            )

    def _table(self) -> Text:
        width = max((len(keys) for keys, _, _ in self._lines), default=0)
        return Text("\n").join(
            Text.assemble(
                (f"{keys:>{width}}  ", style("accent")),
                (f"{words:<16}", style("text")),
                (tip, style("muted")),
            )
            for keys, words, tip in self._lines
        )
