"""Pictures as terminal cells: read, scaled and turned into strips away from the UI thread."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = ("half", "ascii", "off")
"""Half-blocks: two square pixels a cell. Ascii: brightness as a letter. Off: words only."""

_LETTERS = " .:-=+*#%@"


class Unreadable(Exception):
    """The picture cannot be shown; the message is a short reason."""


def render(path: str, width: int, height: int, mode: str) -> list[Strip]:
    """The picture at `path` in at most `width` x `height` cells, its shape kept. Raises Unreadable.

    Half-written and missing files are normal while a job runs.
    """
    try:
        stamp = Path(path).stat().st_mtime_ns
    except OSError:
        raise Unreadable("no picture yet") from None
    return _render(path, stamp, width, height, mode)


@lru_cache(maxsize=128)
def _render(path: str, stamp: int, width: int, height: int, mode: str) -> list[Strip]:
    picture = _scaled(path, width, height)
    if mode == "ascii":
        return _letters(picture)
    return _half_blocks(picture)


def _scaled(path: str, width: int, height: int) -> Image:
    """RGB, as large as fits `width` x 2 `height` pixels, an even number of rows."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (2 * width, 4 * height))
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Unreadable("unreadable picture") from None
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
        strips.append(Strip([Segment(text)], columns))
    return strips
