"""Pictures for the terminal: which way to show them, read and scaled away from the UI thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from obstui import picture_files
from obstui.tui import pixels
from obstui.tui.difference import heat
from obstui.tui.pixels import Box, Painting
from obstui.tui.probe import Terminal, probe

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = ("half", "ascii", "off")
"""Half-blocks: two square pixels a cell. Ascii: brightness as a letter. Off: words only."""
LIMIT = 1 << 20
_USUAL_CELL = (10, 20)  # pixels, where the terminal does not say

_LETTERS = " .:-=+*#%@"


class Unreadable(Exception):
    """The picture cannot be shown; the message is a short reason."""


@dataclass(frozen=True, slots=True)
class Display:
    """How this terminal shows pictures: `modes` are what a full screen goes through, the best one
    first; `cell` is a character in pixels; one picture takes at most `limit` bytes of pixels."""

    modes: tuple[str, ...] = MODES
    cell: tuple[int, int] = _USUAL_CELL
    truecolor: bool = True
    tmux: bool = False
    limit: int = LIMIT

    def few_colours(self, mode: str) -> bool:
        """Whether this terminal shows a picture in colours that are not quite its own."""
        return mode == "half" and not self.truecolor

    @property
    def grid(self) -> str:
        """The mode where several pictures stand side by side: never pixels."""
        return self.modes[0] if self.modes[0] in MODES else MODES[0]


def ask_terminal(wanted: str, colours: str | None, limit: int = LIMIT) -> Display:
    """What this process's terminal can show; it is asked only where that matters."""
    return display(wanted, Terminal() if wanted in MODES else probe(), colours, limit)


def choose_mode(wanted: str, terminal: Terminal, colours: str | None) -> str:
    """The mode for what the person wants ("auto" for the best) on this terminal, whose `colours`
    are Rich's name of the colour system, None for none.

    Sixel comes first: terminals that know both draw kitty's pictures, but not their placeholders.
    """
    if wanted != "auto":
        return wanted
    if colours not in ("truecolor", "256"):
        return "ascii" if colours is None else "half"
    if terminal.sixel and terminal.cell:
        return "sixel"
    return "kitty" if terminal.kitty else "half"


def display(wanted: str, terminal: Terminal, colours: str | None, limit: int = LIMIT) -> Display:
    """All that this terminal can do, beginning with what `choose_mode` says."""
    chosen = choose_mode(wanted, terminal, colours)
    able = {"kitty": terminal.kitty, "sixel": terminal.sixel and terminal.cell is not None}
    known = [*(mode for mode in pixels.MODES if able[mode] or mode == chosen), *MODES]
    place = known.index(chosen)
    return Display(
        modes=(*known[place:], *known[:place]),
        cell=terminal.cell or _USUAL_CELL,
        truecolor=colours == "truecolor",
        tmux=terminal.tmux,
        limit=limit,
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture in a place of `width` x `height` cells: the one at `path`, or where it differs from
    the one at `against`."""

    path: str
    against: str
    width: int
    height: int
    mode: str


def render(wanted: Wanted) -> list[Strip]:
    """The picture in cells, its shape kept. Raises Unreadable.

    Half-written and missing files are normal while a job runs.
    """
    return _render(wanted, _stamp(wanted.path), _stamp(wanted.against) if wanted.against else 0)


def paint(wanted: Wanted, shown: Display, *, second: bool) -> Painting:
    """The picture in real pixels. Raises Unreadable."""
    picture = _picture(wanted)
    box = Box(wanted.width, wanted.height, shown.cell, shown.limit)
    if wanted.mode == "sixel":
        return pixels.sixel(picture, box)
    return pixels.kitty(picture, box, second=second, truecolor=shown.truecolor, tmux=shown.tmux)


def _picture(wanted: Wanted) -> Image:
    picture = read(wanted.path)
    return heat(picture, read(wanted.against)) if wanted.against else picture


def settings_of(path: str) -> str:
    """How the picture was made, as its file tells it in the text chunk that most programs write;
    empty if it does not. Raises Unreadable."""
    with _opened(path) as picture:
        return str(getattr(picture, "text", {}).get("parameters", ""))


def read(path: str) -> Image:
    """The picture in RGB. Raises Unreadable."""
    with _opened(path) as picture:
        return picture.convert("RGB")


@contextmanager
def _opened(path: str) -> Iterator[Image]:
    from PIL import Image

    try:
        with picture_files.opened(path) as picture:
            yield picture
    except FileNotFoundError:
        raise Unreadable("no picture here") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Unreadable("unreadable picture") from None


def _stamp(path: str) -> int:
    if path.startswith(picture_files.INSIDE):
        return 0  # it cannot change
    try:
        return Path(path).stat().st_mtime_ns
    except (OSError, ValueError):
        raise Unreadable("no picture here") from None


@lru_cache(maxsize=128)
def _render(wanted: Wanted, *stamps: int) -> list[Strip]:
    """`stamps` are when the files were written: a newer one is read again."""
    small = _scaled(_picture(wanted), wanted.width, wanted.height)
    return _letters(small) if wanted.mode == "ascii" else _half_blocks(small)


def _scaled(picture: Image, width: int, height: int) -> Image:
    """As large as fits `width` x 2 `height` pixels, an even number of rows."""
    from PIL import Image

    scale = min(width / picture.width, 2 * height / picture.height)
    columns = max(1, min(width, round(picture.width * scale)))
    rows = max(2, min(2 * height, 2 * round(picture.height * scale / 2)))
    return picture.resize((columns, rows), Image.Resampling.LANCZOS)


@lru_cache(maxsize=8192)
def _style(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Style:
    return Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom))


def _half_blocks(picture: Image) -> list[Strip]:
    """One strip for each pair of pixel rows; equal neighbours share a segment to save bytes."""
    raw, columns = picture.tobytes(), picture.width
    pixels = [(raw[i], raw[i + 1], raw[i + 2]) for i in range(0, len(raw), 3)]
    strips = []
    for start in range(0, len(pixels), 2 * columns):
        tops = pixels[start : start + columns]
        bottoms = pixels[start + columns : start + 2 * columns]
        cells = [_style(top, bottom) for top, bottom in zip(tops, bottoms, strict=True)]
        strips.append(Strip([Segment("▀", style) for style in cells], columns).simplify())
    return strips


def _letters(picture: Image) -> list[Strip]:
    raw, columns, rows = picture.convert("L").tobytes(), picture.width, picture.height
    strips = []
    for row in range(0, rows, 2):
        line = raw[row * columns : (row + 1) * columns]
        text = "".join(_LETTERS[value * len(_LETTERS) // 256] for value in line)
        strips.append(Strip([Segment(text, Style.null())], columns))  # filters want a style
    return strips
