"""One picture as large as the terminal allows; the arrows go to its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from obstui import picture_files
from obstui.text import one_line
from obstui.tui import images
from obstui.tui.clipboard import copy
from obstui.tui.formats import size
from obstui.tui.screens.view import Whole
from obstui.tui.shots import ShotRow
from obstui.tui.theme import style
from obstui.tui.widgets.full_picture import FullPicture
from obstui.tui.widgets.key_bar import KeyBar
from obstui.tui.widgets.still import Still

MODE_WORDS = {"kitty": "kitty", "sixel": "sixel", "half": "half-blocks", "ascii": "letters",
              "off": "no pictures"}  # fmt: skip


class PictureScreen(Whole[tuple[int, int]]):
    """Dismissed with the (row, column) it was left at: the screen below stands there too."""

    CSS_PATH = "picture.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,backspace", "back", "Back", id="picture.back",
                tooltip="Back to the pictures side by side"),
        Binding("left,h", "step(0, -1)", "Before", id="picture.left",
                tooltip="The picture to the left: flips between models in place"),
        Binding("right,l", "step(0, 1)", "Next", id="picture.right",
                tooltip="The picture to the right: flips between models in place"),
        Binding("up,k", "step(-1, 0)", "Prompt before", id="picture.up", show=False,
                tooltip="The same model at the prompt before"),
        Binding("down,j", "step(1, 0)", "Prompt after", id="picture.down", show=False,
                tooltip="The same model at the next prompt"),
        Binding("i", "mode", "Image mode", id="picture.mode",
                tooltip="Pixels where the terminal has them, half-blocks, letters, no picture"),
        Binding("c", "compare", "Compare", id="picture.compare",
                tooltip="Beside the pictures of the same prompt and seed by other models"),
        Binding("e", "again", "Like it", id="picture.again",
                tooltip="A new generation with the picture's prompt, seed and settings: the form"),
        Binding("y", "copy", "Copy path", id="picture.copy",
                tooltip="Copy the name of the picture's file"),
    ]  # fmt: skip

    class Told(Message, bubble=False):
        """The file at `path` was read: `words` say how it was made."""

        def __init__(self, path: str, words: str) -> None:
            super().__init__()
            self.path, self.words = path, words

    def __init__(
        self, rows: list[ShotRow], row: int, column: int, compare: Callable[[str], None]
    ) -> None:
        """`compare`: opens the picture in a file beside those of other models."""
        super().__init__()
        self._compare = compare
        self._rows, self._place, self._mode = rows, (row, column), 0

    @property
    def _modes(self) -> tuple[str, ...]:
        return self.dashboard.pictures.modes

    @property
    def _path(self) -> str:
        row, column = self._place
        return self._rows[row].shots[column].path

    def compose_whole(self) -> ComposeResult:
        yield Still(id="caption")
        yield FullPicture(id="picture")
        yield Still(id="made")
        yield Still(id="path")
        yield KeyBar()

    def on_mount(self) -> None:
        self._draw()

    def on_screen_resume(self) -> None:
        self.query_one(FullPicture).restore()

    def _draw(self) -> None:
        row, column = self._place
        shot = self._rows[row].shots[column]
        caption = Text.assemble((shot.caption, style("strong")), "  ",
                                (self._rows[row].caption, style("muted")))  # fmt: skip
        caption.no_wrap = True
        self.query_one("#caption", Still).show(caption)
        self.query_one(FullPicture).show(shot.path, self._modes[self._mode])
        self._read_settings(shot.path)

    @work(thread=True, group="settings", exclusive=True, exit_on_error=False)
    def _read_settings(self, path: str) -> None:
        try:
            words = images.settings_of(path)
        except images.Unreadable:
            words = ""
        self.post_message(self.Told(path, words))

    def on_picture_screen_told(self, event: Told) -> None:
        if event.path == self._path:
            self.query_one("#made", Still).show(settings_line(event.words))

    def on_full_picture_drawn(self, event: FullPicture.Drawn) -> None:
        """Its cost, and the end of its path, which tells one picture from another."""
        few = ", in 256 colours" if self.dashboard.pictures.few_colours(event.mode) else ""
        words = f"{MODE_WORDS[event.mode]}{few}, {size(event.cost)}  "
        line = Text(words, style("text"), no_wrap=True)
        still = self.query_one("#path", Still)
        path = one_line(picture_files.name_of(self._path), limit=4000)
        room = still.content_size.width - line.cell_len
        fits = cell_len(path) <= room
        still.show(line.append(path if fits else f"…{_ending(path, room - 1)}", style("faint")))

    def action_step(self, rows: int, columns: int) -> None:
        row = max(0, min(len(self._rows) - 1, self._place[0] + rows))
        column = max(0, min(len(self._rows[row].shots) - 1, self._place[1] + columns))
        if (row, column) != self._place:
            self._place = (row, column)
            self._draw()

    def action_mode(self) -> None:
        self._mode = (self._mode + 1) % len(self._modes)
        self._draw()

    def action_compare(self) -> None:
        self._compare(self._path)

    async def action_copy(self) -> None:
        path = picture_files.name_of(self._path)
        await copy(self.dashboard, path, "The path", self._say_in_line)

    def _say_in_line(self, words: str, look: str = "good") -> None:
        """In the line of the path: a toast would leave a hole in the pixels."""
        line = Text(one_line(words), style(look), no_wrap=True, overflow="ellipsis")
        self.query_one("#path", Still).show(line)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "again" and self.dashboard.readonly:
            return False
        return super().check_action(action, parameters)

    def action_again(self) -> None:
        self.dashboard.like_picture(self._path, lambda words: self._say_in_line(words, "warn"))

    def action_back(self) -> None:
        self.dismiss(self._place)


def _ending(text: str, width: int) -> str:
    """As many of the last characters as take `width` cells."""
    begin = len(text)
    while begin and cell_len(text[begin - 1 :]) <= width:
        begin -= 1
    return text[begin:]


def settings_line(words: str) -> Text:
    """How a picture was made on one line: its settings without the prompt, which stands above."""
    lines = [one_line(line, limit=1000) for line in words.splitlines()]
    negative = next((line for line in lines if line.startswith("Negative prompt: ")), "")
    last = lines[-1] if lines and ": " in lines[-1] and lines[-1] != negative else ""
    line = Text(no_wrap=True, overflow="ellipsis")
    for place, part in enumerate(part for part in (last, negative) if part):
        line.append("  " * bool(place) + part, style("muted"))
    return line
