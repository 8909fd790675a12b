"""What every key does on the screen below and everywhere, made from its bindings."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from obstui.config import Settings
from obstui.tui.appearance import Appearance, spelled
from obstui.tui.theme import style

if TYPE_CHECKING:
    from obstui.tui.looks import Looks

_NAMES = {"question_mark": "?", "colon": ":", "plus": "+", "minus": "-", "enter": "Enter",
          "escape": "Esc", "left": "←", "right": "→", "up": "↑", "down": "↓",
          "space": "Space", "tab": "Tab", "shift+tab": "Shift+Tab", "slash": "/",
          "asterisk": "*", "comma": ",", "full_stop": ".", "pageup": "PgUp", "pagedown": "PgDn",
          "less_than_sign": "<", "greater_than_sign": ">",
          "left_square_bracket": "[", "right_square_bracket": "]",
          "left_curly_bracket": "{", "right_curly_bracket": "}"}  # fmt: skip

WIDEST = 120  # as in the stylesheet


@dataclass(slots=True)
class KeyLine:
    """An action of ours: its keys, what it is called, what it does, its id in the settings, and
    whether it can be done now."""

    keys: list[str]
    words: str
    tip: str
    id: str
    enabled: bool
    everywhere: bool


def key_name(key: str, look: Appearance) -> str:
    """What is printed on the key."""
    name = _NAMES.get(key, key.upper() if key[1:].isdecimal() else key)
    return spelled(name) if look.ascii else name


def key_lines(screen: Screen[Any]) -> list[KeyLine]:
    """Our own bindings on `screen`, those of the whole dashboard last, and of both those that are
    not possible now. An action that makes no sense there (its check says False) is left out."""
    by_action: dict[str, KeyLine] = {}
    look = cast("Looks", screen.app).appearance
    for key, (node, binding, enabled, tooltip) in screen.active_bindings.items():
        if not binding.id or binding.system:
            continue
        line = by_action.setdefault(
            binding.action,
            KeyLine([], binding.description, tooltip or binding.tooltip, binding.id, enabled,
                    isinstance(node, App)),
        )  # fmt: skip
        if (name := key_name(key, look)) not in line.keys:
            line.keys.append(name)
    return sorted(by_action.values(), key=lambda line: (line.everywhere, not line.enabled))


class KeysScreen(ModalScreen[None]):
    """A list to read and to scroll; any of the usual keys closes it."""

    CSS_PATH = "keys.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "Close", id="keys.close",
                tooltip="Back to the screen below"),
        Binding("j,down", "scroll('scroll_down')", "Down", id="keys.down", tooltip="Read on"),
        Binding("k,up", "scroll('scroll_up')", "Up", id="keys.up", tooltip="Back up"),
        Binding("space,pagedown", "scroll('page_down')", "Page", id="keys.page",
                tooltip="The next page"),
        Binding("pageup", "scroll('page_up')", "Page up", id="keys.page-up",
                tooltip="The page before"),
    ]  # fmt: skip

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        self._lines = key_lines(below)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            with VerticalScroll(id="keys", can_focus=False):
                yield Static(self._table_for(self.app.size.width), markup=False)
            yield Static(
                "j k scroll · Esc closes · ctrl+p or : finds a command by its name", id="hint",
                markup=False,
            )  # fmt: skip
            where = Settings.path() if self.app.size.width >= 110 else "the settings file"
            yield Static(f"Other keys: [keys] in {where}", id="where", markup=False)

    def _table_for(self, screen: int) -> Text:
        """The keys, for a screen of so many cells across."""
        room = min(WIDEST, int(screen * 0.96)) - 8
        width = min(16, max((len(" ".join(line.keys)) for line in self._lines), default=0))
        name = max((len(line.words) for line in self._lines), default=0)
        ids = max((len(line.id) for line in self._lines), default=0) if room >= 100 else 0
        table = Text()
        for everywhere, title in ((False, "On this screen"), (True, "Everywhere")):
            lines = [line for line in self._lines if line.everywhere is everywhere]
            if not lines:
                continue
            table.append(f"{title}\n", style("strong"))
            for line in lines:
                table.append_text(_row(line, width, name, ids, room)).append("\n")
            table.append("\n")
        table.rstrip()
        return table

    async def action_scroll(self, how: str) -> None:
        await self.query_one("#keys").run_action(how)


def _row(line: KeyLine, width: int, name: int, ids: int, room: int) -> Text:
    """Keys, name and what it does, in a column of its own; its id behind that where `ids` leaves
    no column for it. What does nothing now is dim from end to end, and says so."""

    def look(name: str) -> str:
        return style(name if line.enabled else "faint")

    row = Text.assemble(
        (f"{' '.join(line.keys):>{width}}  ", look("accent")),
        (f"{line.words:<{name}} ", look("text")),
    )
    if ids:
        row.append(f"{line.id:<{ids}}  ", look("faint"))
    tip = line.tip if line.enabled else f"{line.tip} (not now)"
    tip = tip if ids else f"{tip} · {line.id}"
    indent = row.cell_len
    wrapped = textwrap.wrap(tip, max(20, room - indent), break_on_hyphens=False) or [""]
    return row.append(f"\n{' ' * indent}".join(wrapped), look("muted"))
