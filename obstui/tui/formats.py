"""Numbers and times as the dashboard writes them."""

from __future__ import annotations

import datetime as dt

from obstui.estimate import Estimate


def duration(seconds: float) -> str:
    """Three words at most: "8 s", "12 min", "1 h 20 min", "2 d 3 h"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def measured(seconds: float) -> str:
    """What a step took, also a very short one: "4 ms", "1.3 s"."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def brief(seconds: float) -> str:
    """At most seven cells: "42 s", "12 min", "1h 20m", "2d 3h"."""
    minutes = round(seconds / 60)
    if minutes < 60:
        return duration(seconds)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 24 else f"{hours // 24}d {hours % 24}h"


def calm(seconds: float) -> float:
    """`seconds` rounded so that a countdown changes seldom and claims no precision it lacks."""
    for limit, step in ((10, 10), (60, 10), (600, 60), (3600, 300), (36_000, 600)):
        if seconds <= limit:
            return max(step, round(seconds / step) * step)
    return round(seconds / 3600) * 3600


def time_left(estimate: Estimate) -> str:
    """The estimate as a sentence's end."""
    if estimate.seconds is None:
        return "estimating"
    prefix = "at least" if estimate.at_least else "about"
    return f"{prefix} {duration(calm(estimate.seconds))} left"


def time_left_brief(estimate: Estimate) -> str:
    """The estimate in a column: "≈ 2 min", "≥ 2 min", "…"."""
    if estimate.seconds is None:
        return "…"
    return f"{'≥' if estimate.at_least else '≈'} {brief(calm(estimate.seconds))}"


def size(count: float) -> str:
    """Bytes in binary units, three digits."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000 or unit == "TiB":
            break
        value /= 1024
    digits = 0 if unit == "B" or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def room(free: float) -> str:
    """Bytes that are free: no digit that the next file changes, but where there are few."""
    gib = free / 2**30
    return f"{int(gib):,} GiB" if gib >= 10 else size(free)


def params(count: int) -> str:
    """A parameter count: "1.912 B", "48.3 M", "812 K"."""
    for limit, unit, digits in ((1e9, "B", 3), (1e6, "M", 1), (1e3, "K", 0)):
        if count >= limit:
            return f"{count / limit:.{digits}f} {unit}"
    return str(count)


def change(value: float, base: float, form: str = ".1f") -> str:
    """`value` against `base`: "−25.0 %", "" without a base."""
    if not base or value == base:
        return ""
    return f"{'−' if value < base else '+'}{abs(value / base - 1) * 100:{form}} %"


def number(value: object, form: str = ".3f") -> str:
    """A measured number in this format, a dash where none was measured."""
    return format(value, form) if isinstance(value, (int, float)) else "–"


def when(at: float, now: float) -> str:
    """The time of day today, else the day: "21:38", "22 Nov"."""
    moment, today = dt.datetime.fromtimestamp(at), dt.datetime.fromtimestamp(now)
    if moment.date() == today.date():
        return f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b}"


def time_of_day(at: float) -> str:
    """ "21:38", for what lies within a day."""
    return f"{dt.datetime.fromtimestamp(at):%H:%M}"


def clock(at: float) -> str:
    """ "21:38:05", as in the lines of a job's log."""
    return f"{dt.datetime.fromtimestamp(at):%H:%M:%S}"


def whole(value: object) -> str:
    """A count with separators, a dash where there is none."""
    return f"{value:,}" if isinstance(value, int) else "–"
