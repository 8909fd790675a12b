"""Pictures in real pixels: kitty's graphics protocol with placeholders, and sixel.

kitty: https://sw.kovidgoyal.net/kitty/graphics-protocol/#unicode-placeholders
sixel: https://vt100.net/docs/vt3xx-gp/chapter14.html
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = ("kitty", "sixel")

_PLACEHOLDER = "\U0010eeee"
# The marks that tell a placeholder its row and column, by the protocol's table: hexadecimal code
# points, with runs of them as first-last.
_MARKS = (
    "305 30d-30e 310 312 33d-33f 346 34a-34c 350-352 357 35b 363-36f 483-487 592-595 597-599 "
    "59c-5a1 5a8-5a9 5ab-5ac 5af 5c4 610-617 657-65b 65d-65e 6d6-6dc 6df-6e2 6e4 6e7-6e8 6eb-6ec "
    "730 732-733 735-736 73a 73d 73f-741 743 745 747 749-74a 7eb-7f1 7f3 816-819 81b-823 825-827 "
    "829-82d 951 953-954"
)
_CHUNK = 4096  # bytes of base64 in one command
_CUBE = (0, 95, 135, 175, 215, 255)  # the levels of the 256 colours' cube
_SHRINK = 0.75
_FEWEST_COLOURS = 16


@dataclass(frozen=True, slots=True)
class Box:
    """What a picture may take: `width` x `height` cells of `cell` pixels, and `limit` bytes."""

    width: int
    height: int
    cell: tuple[int, int]
    limit: int


@dataclass(frozen=True, slots=True)
class Painting:
    """A picture ready for the terminal. `data` is written before the `width` x `height` cells of
    `strips` are drawn (kitty) or over them (sixel, whose strips are blank)."""

    data: str
    strips: tuple[Strip, ...]
    width: int
    height: int
    over: bool
    remove: str = ""


# -- kitty -----------------------------------------------------------------------------------


def kitty(picture: Image, box: Box, *, second: bool, truecolor: bool, tmux: bool) -> Painting:
    """`picture` as large as `box` allows. Two numbers take turns (`second`), so that one picture
    can be replaced by the next before it is removed.

    A placeholder's colour is its picture's number: 24 bits of it, or with 256 colours the place in
    the palette. Numbers differ between processes, which may share one terminal through tmux.
    """
    colour, number = _number(second, truecolor)
    columns, rows = _cells(picture, box)
    commands = [
        f"\x1b_G{head};{part}\x1b\\"
        for head, part in _chunks(_png(picture, box), number, columns, rows)
    ]
    style = Style(color=colour)
    strips = tuple(
        Strip([Segment(_row(y, columns), style)], columns)
        for y in range(rows)
    )  # fmt: skip
    remove = f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\"
    if tmux:
        commands, remove = [_passed(command) for command in commands], _passed(remove)
    return Painting("".join(commands), strips, columns, rows, over=False, remove=remove)


def _number(second: bool, truecolor: bool) -> tuple[Color, int]:
    place = os.getpid() % 107 + (108 if second else 1)
    red, green, blue = (_CUBE[place // 36], _CUBE[place // 6 % 6], _CUBE[place % 6])
    colour = Color.from_rgb(red, green, blue)
    if truecolor:
        return colour, red << 16 | green << 8 | blue
    return colour, colour.downgrade(ColorSystem.EIGHT_BIT).number or 0


def _chunks(png: bytes, number: int, columns: int, rows: int) -> list[tuple[str, str]]:
    text = base64.b64encode(png).decode("ascii")
    parts = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    first = f"a=T,U=1,q=2,f=100,i={number},c={columns},r={rows},"
    return [
        (f"{'' if place else first}m={int(place < len(parts) - 1)}", part)
        for place, part in enumerate(parts)
    ]


def _row(y: int, columns: int) -> str:
    """A row of placeholders: the first says row and column 0, the others follow from it."""
    marks = diacritics()
    return _PLACEHOLDER + marks[y] + marks[0] + _PLACEHOLDER * (columns - 1)


@lru_cache(maxsize=1)
def diacritics() -> str:
    """The combining marks for 0, 1, 2, ... in the protocol's order."""
    found = []
    for run in _MARKS.split():
        first, _, last = run.partition("-")
        found += [chr(code) for code in range(int(first, 16), int(last or first, 16) + 1)]
    return "".join(found)


def _passed(command: str) -> str:
    """A command that tmux hands on to its own terminal."""
    return "\x1bPtmux;" + command.replace("\x1b", "\x1b\x1b") + "\x1b\\"


def _png(picture: Image, box: Box) -> bytes:
    """The terminal enlarges, so nothing is sent that it would not show; to stay within the limit
    first the colours are reduced, then the size."""
    small = picture.copy()
    small.thumbnail((box.width * box.cell[0], box.height * box.cell[1]))
    data = _encoded(small)
    while len(data) * 4 / 3 > box.limit and min(small.size) > 16:
        data = _encoded(small.quantize(256))
        if len(data) * 4 / 3 > box.limit:
            small = small.resize((int(small.width * _SHRINK), int(small.height * _SHRINK)))
    return data


def _encoded(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


# -- sixel -----------------------------------------------------------------------------------


def sixel(picture: Image, box: Box) -> Painting:
    """`picture` as large as `box` allows; where that takes too many bytes, with fewer colours and
    then smaller."""
    colours = 256
    while True:
        columns, rows = _cells(picture, box)
        # Sixels come six rows at a time: a part of six below the last cell would scroll it.
        size = (columns * box.cell[0], max(6, rows * box.cell[1] // 6 * 6))
        data = _sixels(picture.resize(size), colours)
        if len(data) <= box.limit or min(box.width, box.height) <= 2:
            blank = tuple(Strip.blank(columns, Style.null()) for _ in range(rows))
            return Painting(data, blank, columns, rows, over=True)
        if colours > _FEWEST_COLOURS:
            colours //= 4
        else:
            box = replace(box, width=int(box.width * _SHRINK), height=int(box.height * _SHRINK))


def _sixels(picture: Image, colours: int) -> str:
    import numpy as np

    flat = picture.quantize(colours)
    pixels = np.asarray(flat)  # [height, width], a palette's index each
    palette = flat.getpalette() or []
    parts = [f'\x1bP0;1;0q"1;1;{flat.width};{flat.height}']
    for index in np.unique(pixels).tolist():
        r, g, b = (round(value * 100 / 255) for value in palette[3 * index : 3 * index + 3])
        parts.append(f"#{index};2;{r};{g};{b}")
    weights = (1 << np.arange(6, dtype=np.uint8))[:, None]
    for top in range(0, flat.height, 6):
        band = pixels[top : top + 6]
        for index in np.unique(band).tolist():
            bits = ((band == index) * weights[: len(band)]).sum(axis=0, dtype=np.uint8)
            row = (bits + 63).tobytes().decode("ascii").rstrip("?")
            parts.append(f"#{index}{_RUN.sub(_counted, row)}$")
        parts.append("-")
    parts.append("\x1b\\")
    return "".join(parts)


_RUN = re.compile(r"(.)\1{3,}")


def _counted(run: re.Match[str]) -> str:
    return f"!{len(run[0])}{run[1]}"


# -- both ------------------------------------------------------------------------------------


def _cells(picture: Image, box: Box) -> tuple[int, int]:
    """Columns and rows that show the whole picture in its own shape."""
    wide, high = box.cell
    height = min(box.height, len(diacritics()))
    scale = min(box.width * wide / picture.width, height * high / picture.height)
    columns = max(1, min(box.width, math.floor(picture.width * scale / wide + 1e-6)))
    rows = max(1, min(height, math.floor(picture.height * scale / high + 1e-6)))
    return columns, rows
