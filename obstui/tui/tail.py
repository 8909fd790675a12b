"""The end of a job's log: at most so many bytes and lines of it, however long the log is."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, replace

from obstui.text import plain

LOG_BYTES = 256 * 1024
LOG_LINES = 2000
LINE_LENGTH = 2000
_TIMED = re.compile(r"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d) ")
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Tail:
    """`lines` are safe to show; `starts` are their places in the file, in bytes. `whole`: there is
    nothing before them. `moment`: the log as it stood then, not as it is now."""

    path: str = ""
    lines: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    whole: bool = True
    moment: float | None = None

    def up_to(self, moment: float, ended: float) -> Tail:
        """The lines of until then, of a log that is known to have been written to at `ended`. A
        line without a time is as old as the one before it."""
        count, at = len(self.lines), ended
        for number in reversed(range(count)):
            if (time := _TIMED.match(self.lines[number])) is None:
                continue
            at = _nearest(time[1], at)
            if at <= moment:
                break
            count = number
        return replace(self, lines=self.lines[:count], starts=self.starts[:count], moment=moment)


def read_tail(path: str, size: int) -> Tail:
    """A log's last lines; of a redrawn line (carriage returns) its last state. Raises OSError."""
    begin = max(0, size - LOG_BYTES)
    with open(path, "rb") as file:
        file.seek(begin)
        raw = file.read(min(size, LOG_BYTES))
    pieces = raw.split(b"\n")
    starts, at = [], begin
    for piece in pieces:
        starts.append(at)
        at += len(piece) + 1
    skip = 1 if begin else 0
    keep = len(pieces) - (not pieces[-1])
    first = max(skip, keep - LOG_LINES)
    return Tail(
        path,
        tuple(_shown(piece) for piece in pieces[first:keep]),
        tuple(starts[first:keep]),
        whole=first == 0,
    )


def _shown(piece: bytes) -> str:
    line = piece.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    return plain(line, limit=LINE_LENGTH).expandtabs(4)


def _nearest(time: str, at: float) -> float:
    """When it was this time of day, closest to `at`: lines tell no day."""
    near = dt.datetime.fromtimestamp(at)
    then = dt.datetime.combine(near.date(), dt.time.fromisoformat(time))
    return at + ((then - near).total_seconds() + _DAY / 2) % _DAY - _DAY / 2
