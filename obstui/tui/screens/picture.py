"""One picture as large as the terminal allows; the arrows go to its neighbours."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer

from obstui.tui import images
from obstui.tui.shots import ShotRow
from obstui.tui.theme import style
from obstui.tui.widgets.picture import Picture
from obstui.tui.widgets.still import Still


class PictureScreen(Screen[tuple[int, int]]):
    """Dismissed with the (row, column) it was left at: the screen below stands there too."""

    CSS_PATH = "picture.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,backspace", "back", "Back", id="picture.back",
                tooltip="Back to the pictures side by side"),
        Binding("left,h", "step(0, -1)", "Model before", id="picture.left",
                tooltip="The picture to the left: flips between models in place"),
        Binding("right,l", "step(0, 1)", "Model after", id="picture.right",
                tooltip="The picture to the right: flips between models in place"),
        Binding("up,k", "step(-1, 0)", "Prompt before", id="picture.up", show=False,
                tooltip="The same model at the prompt before"),
        Binding("down,j", "step(1, 0)", "Prompt after", id="picture.down", show=False,
                tooltip="The same model at the next prompt"),
        Binding("i", "mode", "Image mode", id="picture.mode",
                tooltip="Half-blocks, letters or no picture"),
    ]  # fmt: skip

    def __init__(self, rows: list[ShotRow], row: int, column: int) -> None:
        super().__init__()
        self._rows, self._place, self._mode = rows, (row, column), images.MODES[0]

    def compose(self) -> ComposeResult:
        yield Still(id="caption")
        yield Picture(id="picture")
        yield Still(id="path")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self._draw()

    def _draw(self) -> None:
        row, column = self._place
        shot = self._rows[row].shots[column]
        caption = Text.assemble((shot.caption, style("strong")), "  ",
                                (self._rows[row].caption, style("muted")))  # fmt: skip
        caption.no_wrap = True
        self.query_one("#caption", Still).show(caption)
        self.query_one("#path", Still).show(Text(shot.path, style("faint"), no_wrap=True))
        self.query_one(Picture).show(shot.path, self._mode)

    def action_step(self, rows: int, columns: int) -> None:
        row = max(0, min(len(self._rows) - 1, self._place[0] + rows))
        column = max(0, min(len(self._rows[row].shots) - 1, self._place[1] + columns))
        self._place = (row, column)
        self._draw()

    def action_mode(self) -> None:
        self._mode = images.MODES[(images.MODES.index(self._mode) + 1) % len(images.MODES)]
        self._draw()

    def action_back(self) -> None:
        self.dismiss(self._place)
