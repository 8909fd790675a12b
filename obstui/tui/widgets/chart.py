"""A scatter of a few points with their names, and lines of braille dots between those of a front.

Drawn line by line in plain cells, so that it goes through any terminal; the points that belong
together and the chosen one differ by glyph as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from obstui.text import one_line
from obstui.tui.theme import style

DENSE, FRONT, OTHER = "◇", "■", "○"
_LOOKS = {DENSE: "muted", FRONT: "good", OTHER: "text"}
_BRAILLE = 0x2800
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a cell
_ACROSS, _DOWN = 2, 4  # dots in a cell
_NAME = 14
_LEVEL = "┄"


@dataclass(frozen=True, slots=True)
class Axis:
    """`log`: by powers of ten, wherever all values are above zero. `most`: no value is above."""

    label: str
    log: bool = False
    most: float = math.inf


@dataclass(frozen=True, slots=True)
class Point:
    """`sign` is DENSE, FRONT or OTHER; a line joins the FRONT points of one `series`."""

    x: float
    y: float
    name: str
    series: str
    sign: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A named height that the points are compared with: a line across the chart."""

    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to 0..1, with ticks at round values inside."""

    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...] = field(default=())

    def share(self, value: float) -> float:
        return (_log(value, self.log) - self.low) / (self.high - self.low)


def scale(values: Iterable[float], *, log: bool, ticks: int, most: float = math.inf) -> Scale:
    """A scale with a little air around `values` (at least one), none above `most`, and about
    `ticks` round values."""
    known = list(values)
    log = log and min(known) > 0
    low, high = _log(min(known), log), _log(max(known), log)
    air = 0.06 * (high - low) or abs(high) * 0.05 or 0.5
    low, high = low - air, high + air if log else max(high, min(high + air, most))
    if log and (decades := _decades(low, high)):
        return Scale(low, high, log, decades[:: -(-len(decades) // ticks)])
    marks: list[float] = []
    while len(marks) < 2:
        step = _round_step((high - low) / ticks)
        digits = max(0, -math.floor(math.log10(step)))
        marks = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
        ticks += 1
    if log:
        return Scale(low, high, log, tuple((10**m, f"{10**m:.1e}") for m in marks))
    return Scale(low, high, log, tuple((m, f"{m:,.{digits}f}") for m in marks))


def _log(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _decades(low: float, high: float) -> tuple[tuple[float, str], ...]:
    exponents = range(math.ceil(low), math.floor(high) + 1)
    return tuple((10.0**e, f"1e{e}") for e in exponents) if len(exponents) > 1 else ()


def _round_step(rough: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is no less than `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)


Cell = tuple[str, str]
"""A character, and the palette's name for its look."""


class _Canvas:
    """Cells to write on; braille dots lie below what is written."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells: list[list[Cell]] = [[(" ", "text")] * width for _ in range(height)]
        self._dots: dict[tuple[int, int], int] = {}
        self._rules: list[tuple[int, range]] = []

    def rule(self, y: int, columns: range) -> None:
        """A line across these columns, below all else."""
        self._rules.append((y, columns))

    def write(self, x: int, y: int, words: str, look: str) -> None:
        for place, character in enumerate(words, x):
            if 0 <= place < self.width and 0 <= y < self.height:
                self._cells[y][place] = (character, look)

    def free(self, x: int, y: int, length: int) -> bool:
        inside = 0 <= y < self.height and x >= 0 and x + length <= self.width
        return inside and all(self._cells[y][p][0] == " " for p in range(x, x + length))

    def line(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Dots from one to the other, in dot coordinates."""
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(steps + 1):
            x = round(start[0] + (end[0] - start[0]) * step / steps)
            y = round(start[1] + (end[1] - start[1]) * step / steps)
            spot = x // _ACROSS, y // _DOWN
            self._dots[spot] = self._dots.get(spot, 0) | _BITS[y % _DOWN][x % _ACROSS]

    def lines(self) -> list[list[Cell]]:
        for (x, y), bits in self._dots.items():
            if self.free(x, y, 1):
                self._cells[y][x] = (chr(_BRAILLE + bits), "good")
        for y, columns in self._rules:
            for x in columns:
                if self.free(x, y, 1):
                    self._cells[y][x] = (_LEVEL, "faint")
        return self._cells


def draw(
    width: int,
    height: int,
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    levels: Sequence[Level] = (),
) -> list[list[Cell]]:
    """The chart in cells: a heading, the points between their axes, the ticks of x."""
    canvas = _Canvas(width, height)
    _heading(canvas, f"{y.label} against {x.label}", {point.sign for point in points})
    if not points or height < 5 or width < 24:
        return canvas.lines()
    heights = [*(point.y for point in points), *(level.y for level in levels)]
    ys = scale(heights, log=y.log, ticks=max(2, (height - 3) // 3), most=y.most)
    left = max((len(words) for _, words in ys.ticks), default=0) + 1
    across, down = width - left - 2, height - 3
    xs = scale((p.x for p in points), log=x.log, ticks=max(2, across // 12))
    for row in range(down):
        canvas.write(left, row + 1, "│", "faint")
    for value, words in ys.ticks:
        row = down - round(ys.share(value) * (down - 1))
        canvas.write(left - len(words), row, words, "muted")
        canvas.write(left, row, "┤", "faint")
    canvas.write(left, height - 2, "└" + "─" * (across + 1), "faint")
    for value, words in xs.ticks:
        column = left + 1 + round(xs.share(value) * (across - 1))
        canvas.write(column, height - 2, "┴", "faint")
        begin = min(column - len(words) // 2, width - len(words))
        if canvas.free(begin - 1, height - 1, len(words) + 1):
            canvas.write(begin, height - 1, words, "muted")

    def row_of(value: float) -> int:
        return down - round(ys.share(value) * (down - 1))

    spots = {
        point: (left + 1 + round(xs.share(point.x) * (across - 1)),
                row_of(point.y))
        for point in points
    }  # fmt: skip
    _join(canvas, spots)
    _place(canvas, spots)
    for level in levels:
        _level(canvas, left + 1, row_of(level.y), one_line(level.name, limit=across))
    _name(canvas, spots)
    return canvas.lines()


def _heading(canvas: _Canvas, words: str, signs: Collection[str]) -> None:
    canvas.write(0, 0, words, "strong")
    known = ((FRONT, "front"), (OTHER, "beaten"), (DENSE, "dense"))
    legend = [(sign, name) for sign, name in known if sign in signs]
    begin = canvas.width - sum(len(name) + 4 for _, name in legend) + 2
    if begin > len(words) + 1:
        for sign, name in legend:
            canvas.write(begin, 0, sign, _LOOKS[sign])
            canvas.write(begin + 2, 0, name, "muted")
            begin += len(name) + 4


def _join(canvas: _Canvas, spots: dict[Point, tuple[int, int]]) -> None:
    """A line through the front of each series, from the cheapest to the dearest."""
    for series in {point.series for point in spots}:
        front = sorted(
            (point for point in spots if point.series == series and point.sign == FRONT),
            key=lambda point: (point.x, point.y),
        )
        for one, other in pairwise(front):
            (a, b), (c, d) = spots[one], spots[other]
            middle = _DOWN // 2
            canvas.line((a * _ACROSS, b * _DOWN + middle), (c * _ACROSS, d * _DOWN + middle))


def _ranked(spots: Iterable[Point]) -> list[Point]:
    """The most important last."""
    return sorted(spots, key=lambda point: (point.chosen, point.sign == FRONT))


def _place(canvas: _Canvas, spots: dict[Point, tuple[int, int]]) -> None:
    """Signs, the most important ones on top."""
    for point in _ranked(spots):
        column, row = spots[point]
        look = "accent" if point.chosen else _LOOKS[point.sign]
        canvas.write(column, row, point.sign, look)


def _level(canvas: _Canvas, left: int, row: int, name: str) -> None:
    """The line, and its name on it as far right as nothing is hidden."""
    last = canvas.width - len(name) - 2
    places = range(last, left, -1)
    begin = next((p for p in places if canvas.free(p - 1, row, len(name) + 2)), canvas.width)
    canvas.write(begin, row, name, "muted")
    canvas.rule(row, range(left, min(begin - 1, canvas.width)))
    canvas.rule(row, range(begin + len(name) + 1, canvas.width))


def _name(canvas: _Canvas, spots: dict[Point, tuple[int, int]]) -> None:
    """The points' names wherever they hide nothing."""
    for point in reversed(_ranked(spots)):
        column, row = spots[point]
        name = one_line(point.name, limit=_NAME)
        look = "strong" if point.chosen else "muted"
        for begin in (column + 2, column - len(name) - 1):
            if canvas.free(begin - 1, row, 1) and canvas.free(begin, row, len(name) + 1):
                canvas.write(begin, row, name, look)
                break
        else:
            begin = max(0, min(column - len(name) // 2, canvas.width - len(name)))
            beside = (row - 1, row + 1, row - 2, row + 2) if point.chosen else ()
            for near in beside:
                if 0 < near < canvas.height - 2 and canvas.free(begin, near, len(name)):
                    canvas.write(begin, near, name, look)
                    break


class Chart(Widget):
    """Shows points; draws itself again only when they, the axes or its size differ."""

    DEFAULT_CSS = "Chart { height: 1fr; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._shown: tuple[Axis, Axis, tuple[Point, ...], tuple[Level, ...]] | None = None
        self._made: tuple[object, list[list[Cell]]] = (None, [])

    def show(self, x: Axis, y: Axis, points: Sequence[Point], levels: Sequence[Level] = ()) -> None:
        wanted = (x, y, tuple(points), tuple(levels))
        if wanted != self._shown:
            self._shown = wanted
            self.refresh()

    @property
    def lines(self) -> list[list[Cell]]:
        """What is drawn, line by line."""
        if self._shown is None:
            return []
        key = (self._shown, self.size)
        if key != self._made[0]:
            self._made = key, draw(self.size.width, self.size.height, *self._shown)
        return self._made[1]

    def render_line(self, y: int) -> Strip:
        lines = self.lines
        if y >= len(lines):
            return Strip.blank(self.size.width, self.rich_style)
        segments = [
            Segment(character, self.rich_style + Style.parse(style(look)))
            for character, look in lines[y]
        ]
        return Strip(segments, len(segments)).simplify()
