"""An attempt's log, kept within bounds whatever the job prints."""

from __future__ import annotations

import os
from pathlib import Path

LIMIT = 64 << 20
_FIRST = 4 << 20
_LAST = 28 << 20
_PIECE = 1 << 20


def too_long(log: Path) -> bool:
    """Whether `trim` would cut it."""
    try:
        return log.stat().st_size > LIMIT
    except OSError:
        return False


def trim(log: Path) -> bool:
    """Cut a log over the limit (bytes) down to its beginning and its end; whether it was cut.

    Whoever writes appends, so the next line follows the new end, and what comes while the end is
    copied is copied too. A line between the last read and the cut is lost: let the writer hold
    still, for its last words are what a failure is read by. No disk space beyond the file's own is
    needed.
    """
    if not too_long(log):
        return False
    try:
        fd = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        size = os.fstat(fd).st_size
        gap = f"\n[obstui left out {size - _FIRST - _LAST} bytes here]\n".encode()
        to = _FIRST + os.pwrite(fd, gap, _FIRST)
        at = size - _LAST
        # A writer that is faster than this and does not hold still must not keep it here.
        while at < size + _LAST and (piece := os.pread(fd, _PIECE, at)):
            at += len(piece)
            to += os.pwrite(fd, piece, to)
        os.ftruncate(fd, to)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
