"""The memory of a job as a strip over its time, with what the device says beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from obstui.tui import formats
from obstui.tui.facts import Sample
from obstui.tui.theme import style

HEIGHTS = "▁▂▃▄▅▆▇█"
GIB = 1 << 30
LABEL = 5  # cells before a strip; the time line of a replay stands above it and begins there, too
TIGHT = 0.92  # of the card
_MINUTE, _HOUR = 60, 3600
_LENGTHS = (
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 20, 30)),
    *(hours * _HOUR for hours in (1, 2, 4, 8, 12, 24, 48, 96, 192)),
)


@dataclass(frozen=True, slots=True)
class Span:
    """The time from left to right; nothing is drawn after `now`. Seconds since the epoch."""

    began: float
    ended: float
    now: float

    @property
    def seconds(self) -> float:
        return max(self.ended - self.began, 1.0)

    def column(self, at: float, width: int) -> int:
        return max(0, min(width - 1, int((at - self.began) / self.seconds * width)))


def live_span(began: float, now: float) -> Span:
    """A span that holds `now` and seldom grows: a strip that shifts with every second would be
    drawn anew with every second."""
    elapsed = max(0.0, now - began)
    length = next((length for length in _LENGTHS if length >= elapsed), elapsed)
    return Span(began, began + length, now)


def newest(progress: Mapping[str, Any] | None, at: float) -> Sample | None:
    """What a running job says right now."""
    memory = (progress or {}).get("memory") or {}
    if memory.get("now") is None:
        return None
    now = int(memory["now"])
    gpu = (progress or {}).get("gpu") or {}
    return Sample(
        at=at,
        device=str(memory.get("device") or ""),
        now=now,
        high=now,
        peak=int(memory.get("peak") or now),
        total=int(memory.get("total") or 0),
        utilisation=gpu.get("utilisation"),
        power=gpu.get("power"),
        temperature=gpu.get("temperature"),
    )


def strip(
    samples: Sequence[Sample], span: Span, width: int, top: float, forecast: int | None = None
) -> Text:
    """One row: the most memory in each column's time, against `top` bytes; in the time to come what
    is forecast."""
    last = span.column(span.now, width)
    ahead = "·" if forecast is None else _height(forecast / top)
    line = Text()
    for column, level in enumerate(_levels(samples, span, width)):
        if column > last:
            line.append(ahead, style("faint"))
        elif level is None:
            line.append(" ")
        else:
            tight = level / top > TIGHT and samples[-1].device != "cpu"
            look = "warn" if tight or level > (forecast or math.inf) else "good"
            line.append(_height(level / top), style(look))
    return line


def _height(share: float) -> str:
    return HEIGHTS[max(0, min(7, int(share * 8)))]


def _levels(samples: Sequence[Sample], span: Span, width: int) -> list[int | None]:
    """A column without a sample of its own shows the one before."""
    found: list[int | None] = [None] * width
    for sample in samples:
        column = span.column(sample.at, width)
        found[column] = max(found[column] or 0, sample.high)
    before: int | None = None
    for column, level in enumerate(found):
        before = found[column] = before if level is None else level
    return found


def telemetry(
    samples: Sequence[Sample], span: Span, width: int, *, forecast: int | None = None
) -> Text:
    """Two lines: the strip, and the numbers as of its end. Empty without a sample."""
    if not samples:
        return Text()
    last = samples[-1]
    samples = [sample for sample in samples if sample.device == last.device]
    on_card = last.device not in ("", "cpu")
    top = max(last.total if on_card else last.peak, last.peak, 1)
    line = Text("VRAM " if on_card else "RAM  ", style("muted"), no_wrap=True)
    told = forecast if on_card else None
    line.append_text(strip(samples, span, max(8, width - LABEL), top, told))
    words = Text(" " * LABEL, no_wrap=True).append_text(_numbers(last, forecast, on_card=on_card))
    length = f"→ {formats.duration(span.seconds)}"
    if words.cell_len + len(length) + 2 <= width:
        words.pad_right(width - words.cell_len - len(length))
        words.append(length, style("faint"))
    words.truncate(width, overflow="ellipsis")
    return Text("\n").join([line, words])


def _numbers(last: Sample, forecast: int | None, *, on_card: bool) -> Text:
    parts = [Text(formats.size(last.now), style("strong"))]
    if on_card and last.total:
        parts[0] = Text(f"{last.now / GIB:.1f}", style("strong"))
        parts[0].append(f" of {last.total / GIB:.1f} GiB", style("muted"))
    elif not on_card:
        parts[0].append(" of this process", style("muted"))
    parts.append(Text(f"peak {formats.size(last.peak)}", style("text")))
    if on_card and forecast:
        over = last.peak > forecast
        parts.append(Text(f"forecast {formats.size(forecast)}", style("warn" if over else "muted")))
    if on_card:
        told = ((last.utilisation, "%"), (last.power, "W"), (last.temperature, "°C"))
        said = [f"{value} {unit}" for value, unit in told if value is not None]
        words = "  ".join(said) if said else "no NVML reading"
        parts.insert(1, Text(words, style("text" if said else "muted")))
    return Text(" · ", style("faint")).join(parts)
