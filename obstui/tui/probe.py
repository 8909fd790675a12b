"""What the terminal can show of pictures, asked before the dashboard owns its input.

All questions go out in one write. Every terminal answers the last one (its device attributes), so
that answer ends the wait, however long the line is; a terminal that says nothing costs the cap. A
reply that came later would be taken for key presses, so what is left over is thrown away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

CAP = 2.0  # seconds

_GRAPHICS = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"  # kitty's own: a pixel, not to be shown
_NAME, _CELL, _ATTRIBUTES = b"\x1b[>0q", b"\x1b[16t", b"\x1b[c"

_ATTRIBUTES_REPLY = re.compile(rb"\x1b\[\?([\d;]+)c")
_GRAPHICS_REPLY = re.compile(rb"\x1b_Gi=31;OK\x1b\\")
_NAME_REPLY = re.compile(rb"\x1bP>\|([^\x1b]*)\x1b\\")
_CELL_REPLY = re.compile(rb"\x1b\[6;(\d+);(\d+)t")

# Others that speak kitty's protocol do not know its placeholders, and would show odd letters.
_PLACEHOLDERS = ("kitty", "ghostty")
_TMUX_FACTS = (
    "#{client_termtype}\t#{client_cell_width}\t#{client_cell_height}\t#{allow-passthrough}"
)


@dataclass(frozen=True, slots=True)
class Terminal:
    """`cell` is the width and height of a character in pixels, None where nobody says."""

    sixel: bool = False
    kitty: bool = False
    cell: tuple[int, int] | None = None
    tmux: bool = False


def probe(fd: int = 0, *, env: Mapping[str, str] = os.environ, cap: float = CAP) -> Terminal:
    """Ask the terminal at `fd`, which must be one for input and output. Never raises: a terminal
    that cannot be asked shows no pixels."""
    if not os.isatty(fd) or env.get("TERM", "") in ("", "dumb", "linux"):
        return Terminal()
    try:
        with _raw(fd):
            reply = _ask(fd, cap)
    except (OSError, termios.error):
        return Terminal()
    if "TMUX" in env:
        return _inside_tmux(reply, _tmux_facts())
    name = _NAME_REPLY.search(reply)
    return Terminal(
        sixel=_draws_sixels(reply),
        kitty=bool(_GRAPHICS_REPLY.search(reply)) and _knows_placeholders(name),
        cell=_cell_size(fd) or _told_cell(reply),
    )


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Keys and replies come as they are, unechoed; what was not read is dropped at the end."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


def _ask(fd: int, cap: float) -> bytes:
    """The bytes that came until the last answer was there, or for `cap` seconds."""
    os.write(fd, _GRAPHICS + _NAME + _CELL + _ATTRIBUTES)
    reply, end = b"", time.monotonic() + cap
    while (left := end - time.monotonic()) > 0 and not _ATTRIBUTES_REPLY.search(reply):
        if not select.select([fd], [], [], left)[0]:
            break
        got = os.read(fd, 4096)
        if not got:
            break
        reply += got
    return reply


def _draws_sixels(reply: bytes) -> bool:
    found = _ATTRIBUTES_REPLY.search(reply)
    return found is not None and b"4" in found[1].split(b";")[1:]


def _knows_placeholders(name: re.Match[bytes] | None) -> bool:
    return name is not None and name[1].decode("ascii", "replace").startswith(_PLACEHOLDERS)


def _cell_size(fd: int) -> tuple[int, int] | None:
    rows, columns, width, height = struct.unpack(
        "HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    )
    return (width // columns, height // rows) if width and height and rows and columns else None


def _told_cell(reply: bytes) -> tuple[int, int] | None:
    found = _CELL_REPLY.search(reply)
    return (int(found[2]), int(found[1])) if found and int(found[1]) and int(found[2]) else None


def _inside_tmux(reply: bytes, facts: str) -> Terminal:
    """tmux answers for itself, and knows what its own terminal is called."""
    name, width, height, passes = [*facts.split("\t"), "", "", "", ""][:4]
    told = width.isdigit() and height.isdigit() and int(width) > 0 and int(height) > 0
    return Terminal(
        sixel=_draws_sixels(reply),
        kitty=name.startswith(_PLACEHOLDERS) and passes in ("1", "2", "on", "all"),
        cell=(int(width), int(height)) if told else None,
        tmux=True,
    )


def _tmux_facts() -> str:
    try:
        return subprocess.run(
            ["tmux", "display-message", "-p", _TMUX_FACTS],
            capture_output=True, text=True, timeout=CAP, check=True,
        ).stdout.rstrip("\n")  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
