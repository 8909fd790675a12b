"""An attempt's log, kept within bounds whatever the job prints."""

from __future__ import annotations

import os
from pathlib import Path

LIMIT = 64 << 20
_FIRST = 4 << 20
_LAST = 28 << 20
_PIECE = 1 << 20


def trim(log: Path) -> bool:
    """Cut a log over the limit (bytes) down to its beginning and its end; whether it was cut.

    The child goes on writing meanwhile: it appends, so its next line follows the new end; the few
    lines that it writes during the cut are lost. No disk space beyond the file's own is needed.
    """
    try:
        if log.stat().st_size <= LIMIT:
            return False
        fd = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        size = os.fstat(fd).st_size
        gap = f"\n[obstui left out {size - _FIRST - _LAST} bytes here]\n".encode()
        to = _FIRST + os.pwrite(fd, gap, _FIRST)
        for at in range(size - _LAST, size, _PIECE):
            to += os.pwrite(fd, os.pread(fd, min(_PIECE, size - at), at), to)
        os.ftruncate(fd, to)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
