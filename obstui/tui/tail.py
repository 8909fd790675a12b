"""The end of a job's log: at most so many bytes and lines of it, however long the log is."""

from __future__ import annotations

from dataclasses import dataclass

from obstui.text import plain

LOG_BYTES = 256 * 1024
LOG_LINES = 2000
LINE_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Tail:
    """`lines` are safe to show; `starts` are their places in the file, in bytes. `whole`: there is
    nothing before them."""

    path: str = ""
    lines: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    whole: bool = True


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
