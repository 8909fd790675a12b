"""Daily time windows: "23:00-07:00", of this computer's zone or of a named one."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

_FORM = re.compile(
    r"^(?P<from>\d{1,2}:\d{2})\s*(?:-|–|to)\s*(?P<to>\d{1,2}:\d{2})(?:\s+(?P<zone>[\w/+-]{1,64}))?$"
)
_LOOK_AHEAD = 3 * 24 * 60
"""Minutes. Where the clocks go forward a short window may be missing from a day; not from three."""


def parse_window(text: str) -> str:
    """The window's one spelling, "23:00-07:00" or "23:00-07:00 Europe/Berlin". Raises ValueError.

    It may cross midnight; its end is not part of it.
    """
    match = _FORM.match(text.strip())
    if not match:
        raise ValueError("write a time window as 23:00-07:00, with a zone after it if you like")
    start, end = _minutes(match["from"]), _minutes(match["to"])
    if start == end:
        raise ValueError("the time window is empty: its beginning is its end")
    zone = match["zone"]
    if zone:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"no time zone {zone}: for example Europe/Berlin") from None
    span = f"{_clock(start)}-{_clock(end)}"
    return f"{span} {zone}" if zone else span


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if hours > 24 or minutes > 59 or (hours == 24 and minutes):
        raise ValueError(f"{text} is no time of day")
    return (hours * 60 + minutes) % (24 * 60)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


@lru_cache(maxsize=256)
def _parts(window: str) -> tuple[int, int, ZoneInfo | None]:
    span, _, zone = window.partition(" ")
    start, end = map(_minutes, span.split("-"))
    return start, end, ZoneInfo(zone) if zone else None


def is_open(window: str, now: float) -> bool:
    """Whether the wall clock shows a time within a (parsed) window at `now`, seconds since the
    epoch. An hour that the clocks repeat counts both times."""
    start, end, zone = _parts(window)
    shown = datetime.fromtimestamp(now, zone)
    minute = shown.hour * 60 + shown.minute
    return start <= minute < end if start < end else minute >= start or minute < end


def closes_at(window: str, now: float) -> float:
    """When a window that is open at `now` closes next."""
    return _next_closing(window, int(now // 60) + 1)


@lru_cache(maxsize=1024)
def _next_closing(window: str, minute: int) -> float:
    for ahead in range(_LOOK_AHEAD):
        if not is_open(window, (minute + ahead) * 60.0):
            return (minute + ahead) * 60.0
    raise AssertionError(f"the window {window} never closes")


def opens_at(window: str, now: float) -> float:
    """When the window is open next: `now` if it is. Seconds since the epoch."""
    return now if is_open(window, now) else _next_opening(window, int(now // 60) + 1)


@lru_cache(maxsize=1024)
def _next_opening(window: str, minute: int) -> float:
    # Minute by minute: what the clocks do in between needs no rules of its own.
    for ahead in range(_LOOK_AHEAD):
        if is_open(window, (minute + ahead) * 60.0):
            return (minute + ahead) * 60.0
    raise AssertionError(f"the window {window} never opens")
