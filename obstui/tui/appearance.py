"""How the dashboard is to look on this terminal, and the filter that makes it ASCII."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from obstui.tui import theme


@dataclass(frozen=True, slots=True)
class Appearance:
    """`theme` is a name of `theme.THEMES`, or "" for the one that was chosen last. `ascii`: no
    character beyond ASCII. `low_bandwidth`: fewer bytes before all else."""

    theme: str = ""
    ascii: bool = False
    low_bandwidth: bool = False

    @property
    def letters_only(self) -> bool:
        """Whether pictures are drawn in letters at best."""
        return self.ascii or self.low_bandwidth or colourless()


def colourless() -> bool:
    """Whether the person wants no colours: NO_COLOR, set to anything but nothing."""
    return bool(os.environ.get("NO_COLOR"))


class _Table(dict[int, str]):
    """For str.translate: twins are found once."""

    def __missing__(self, number: int) -> str:
        twin = chr(number) if number < 128 else theme.ascii_twin(chr(number))
        self[number] = twin
        return twin


_TABLE = _Table()


def to_ascii(text: str) -> str:
    """`text` in ASCII, in as many cells."""
    return text if text.isascii() else text.translate(_TABLE)


_KEYS = {"←": "Left", "→": "Right", "↑": "Up", "↓": "Down", "⏎": "Enter", "⌫": "Backspace"}


def spelled(key: str) -> str:
    """A key's sign as a word: its twin in ASCII is the name of another key."""
    for sign, word in _KEYS.items():
        key = key.replace(sign, word)
    return key


class Ascii(LineFilter):
    """The last step before the terminal: whatever a widget draws, people's own text, borders."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(to_ascii(text), look, control) for text, look, control in segments]
