"""Scatter charts as SVG, for pages that are read without us: no script, no font, no other file."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 14, 46
LOG_FROM = 30.0
"""An axis whose largest value is so many times its smallest, all positive, is logarithmic."""


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A named point. `group` chooses its colour and shape; `best` ones are joined by a line."""

    x: float
    y: float
    name: str
    group: int
    best: bool


@dataclass(frozen=True, slots=True)
class Level:
    """A named value that the dots are compared with: a line right through the chart."""

    value: float
    name: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Where values lie between 0 and 1 of an axis, and the values that get a mark."""

    low: float
    high: float
    log: bool
    marks: tuple[float, ...]

    def place(self, value: float) -> float:
        if self.log:
            low, high = math.log10(self.low), math.log10(self.high)
            return (math.log10(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], marks: int = 5, most: float = math.inf) -> Axis:
    """An axis that holds all values, with about as many round marks as asked for; none above the
    most that a value can be, and none below zero where no value is: most figures cannot be."""
    low, high = min(values), max(values)
    if low >= sys.float_info.min and high / low >= LOG_FROM:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        step = max(1, round((last - first) / marks))
        return Axis(
            10.0**first, 10.0**last, True, tuple(10.0**e for e in range(first, last + 1, step))
        )
    span = (high - low) or abs(high)
    if span / marks < sys.float_info.min:
        span = 1.0
    rough = span / marks
    unit = 10.0 ** math.floor(math.log10(rough))
    step_size = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough)
    least = 0.0 if low >= 0 else -math.inf
    low = max(least, math.floor((low - span * 0.06) / step_size) * step_size)
    high = max(high, min(most, math.ceil((high + span * 0.06) / step_size) * step_size))
    count = math.floor((high - low) / step_size + 1e-9)
    return Axis(low, high, False, tuple(low + step_size * n for n in range(count + 1)))


def scatter(
    dots: Sequence[Dot],
    x_label: str,
    y_label: str,
    level: Level | None = None,
    limit: Level | None = None,
    most: float = math.inf,
) -> Markup:
    """The chart as an `<svg>` element, coloured by the classes of the page, with a `level` among
    the heights and a `limit` among the places from left to right; no height is above `most`.
    Raises ValueError without dots.
    """
    if not dots:
        raise ValueError("a chart needs a dot")
    across = axis([dot.x for dot in dots] + ([limit.value] if limit else []))
    up = axis([dot.y for dot in dots] + ([level.value] if level else []), most=most)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + across.place(x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up.place(y) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y_label)} against {escape(x_label)}">'
    ]
    for mark in across.marks:
        x, bottom = at(mark, up.low)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15:.1f}" text-anchor="middle">'
            f"{_mark(mark, across)}</text>"
        )
    for mark in up.marks:
        left, y = at(across.low, mark)
        end = WIDTH - RIGHT
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6:.1f}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{_mark(mark, up)}</text>"
        )
    best = sorted((dot for dot in dots if dot.best), key=lambda dot: dot.x)
    if len(best) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(dot.x, dot.y) for dot in best))
        parts.append(f'<polyline class="front" points="{line}"/>')
    taken = [_around(*at(dot.x, dot.y)) for dot in dots]
    if limit is not None:  # before the level's name, which must not lie on it
        parts.append(_limit(limit, at(limit.value, up.low)[0], taken))
    if level is not None:
        parts.append(_level(level, at(across.low, level.value)[1], taken))
    for dot in sorted(dots, key=lambda dot: not dot.best):
        x, y = at(dot.x, dot.y)
        parts.append(_shape(dot, x, y))
        parts.append(_name(dot, x, y, taken))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="axis" transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text></svg>'
    )
    return Markup("".join(parts))


def _mark(value: float, along: Axis) -> str:
    if along.log:
        return f"10<tspan dy='-4' font-size='70%'>{round(math.log10(value))}</tspan>"
    steps = along.marks[1] - along.marks[0]
    digits = max(0, -math.floor(math.log10(steps) + 1e-9))
    return f"{value:.1e}" if digits > 4 else f"{value:,.{digits}f}"


def _shape(dot: Dot, x: float, y: float) -> str:
    """A shape for each group, so that the chart reads without colour."""
    look = f'class="dot g{dot.group}"'
    title = f"<title>{escape(dot.name)}</title>"
    match dot.group % 4:
        case 0:
            return f'<circle {look} cx="{x:.1f}" cy="{y:.1f}" r="4.5">{title}</circle>'
        case 1:
            return (
                f'<rect {look} x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8">{title}</rect>'
            )
        case 2:
            points = f"{x:.1f},{y - 5:.1f} {x - 5:.1f},{y + 4:.1f} {x + 5:.1f},{y + 4:.1f}"
        case _:
            points = (
                f"{x:.1f},{y - 6:.1f} {x + 5:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 5:.1f},{y:.1f}"
            )
    return f'<polygon {look} points="{points}">{title}</polygon>'


def _level(level: Level, y: float, taken: list[Box]) -> str:
    """The line, and its name above or below it, at an end if one is free."""
    width = _width(level.name)
    room = WIDTH - RIGHT - LEFT - 12 - width
    boxes = [
        (left, y + shift - 11, left + width, y + shift)
        for left in (LEFT + 6 + room * share for share in (0, 1, 0.8, 0.6, 0.4, 0.2))
        for shift in (-3, 13)
    ]
    line = f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    named = _named(level, boxes, taken)
    taken.append((LEFT, y - 1, WIDTH - RIGHT, y + 1))
    return line + named


def _limit(limit: Level, x: float, taken: list[Box]) -> str:
    """As `_level`, from top to bottom."""
    width = _width(limit.name)
    boxes = [
        (left, low - 11, left + width, low)
        for left in (x + 5, x - 5 - width)
        for low in (TOP + 12, HEIGHT - BOTTOM - 4, (TOP + HEIGHT - BOTTOM) / 2)
        if left >= LEFT and left + width <= WIDTH - RIGHT
    ]
    taken.append((x - 1, TOP, x + 1, HEIGHT - BOTTOM))
    line = f'<line class="level" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return line + _named(limit, boxes, taken)


def _named(level: Level, boxes: Sequence[Box], taken: list[Box]) -> str:
    """The name in that of the boxes where it hides the least."""
    if not boxes:
        return ""
    place = min(boxes, key=lambda box: sum(_meet(box, other) for other in taken))
    taken.append(place)
    return (
        f'<text class="tick" x="{place[0]:.1f}" y="{place[3] - 2:.1f}">{escape(level.name)}</text>'
    )


def _name(dot: Dot, x: float, y: float, taken: list[Box]) -> str:
    """The dot's name as near to it as nothing is hidden; where all is taken, where it hides the
    least: a dot without a name tells nothing."""
    width = _width(dot.name)
    spots = [("start", x + 8, y), ("end", x - 8, y)]
    for away in (12, 24, 36, 48):
        spots += [
            (anchor, x + shift, y + side * away)
            for side in (-1, 1)
            for anchor, shift in (("middle", 0), ("start", 4), ("end", -4))
        ]
    boxes: list[tuple[int, Box, str, float]] = []
    for anchor, at, middle in spots:
        left = at - {"start": 0, "middle": width / 2, "end": width}[anchor]
        box = (left, middle - 6, left + width, middle + 6)
        if left >= LEFT and box[2] <= WIDTH - RIGHT and box[1] >= TOP and box[3] <= HEIGHT - BOTTOM:
            boxes.append((sum(_meet(box, other) for other in taken), box, anchor, at))
    if not boxes:
        return ""
    _, box, anchor, at = min(boxes, key=lambda each: each[0])
    taken.append(box)
    return (
        f'<text class="name" x="{at:.1f}" y="{box[1] + 9.5:.1f}" text-anchor="{anchor}">'
        f"{escape(dot.name)}</text>"
    )


def _width(name: str) -> float:
    """Of a name where letters are largest, on a narrow screen, about."""
    return 8.4 * len(name)


def _around(x: float, y: float) -> Box:
    return x - 5, y - 5, x + 5, y + 5


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
