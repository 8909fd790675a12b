"""A terminal at the other end of a pty: it answers what real ones do, as late as a line is long."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Iterator

KITTY = {
    b"\x1b[>q": b"\x1bP>|kitty(0.42.1)\x1b\\",  # as tmux asks
    b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\": b"\x1b_Gi=31;OK\x1b\\",
    b"\x1b[>0q": b"\x1bP>|kitty(0.42.1)\x1b\\",
    b"\x1b[16t": b"\x1b[6;20;10t",
    b"\x1b[c": b"\x1b[?62;52;c",
}
FOOT = {
    b"\x1b[>0q": b"\x1bP>|foot(1.21.0)\x1b\\",
    b"\x1b[16t": b"\x1b[6;18;9t",
    b"\x1b[c": b"\x1b[?62;4;22;52c",
}
WEZTERM = KITTY | {b"\x1b[>0q": b"\x1bP>|WezTerm 20240203\x1b\\", b"\x1b[c": b"\x1b[?65;4;6;18;22c"}
KONSOLE = KITTY | {b"\x1b[>0q": b"\x1bP>|Konsole 24.12.0\x1b\\"}
XTERM = {b"\x1b[>0q": b"\x1bP>|XTerm(390)\x1b\\", b"\x1b[c": b"\x1b[?64;1;2;6;9;15;22c"}
SILENT: dict[bytes, bytes] = {}


class FakeTerminal:
    """Reads what a program writes to its pty, and answers `seconds` later."""

    def __init__(
        self, answers: dict[bytes, bytes], *, seconds: float = 0.0, pixels: tuple[int, int] = (0, 0)
    ) -> None:
        self.master, self.slave = os.openpty()
        size = struct.pack("HHHH", 24, 80, *pixels)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)
        self.seen = b""
        self._answers, self._seconds = answers, seconds
        self._asked_from = 0
        self._due: list[tuple[float, bytes]] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopped:
            if select.select([self.master], [], [], 0.01)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    return
                self._listen()
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                os.write(self.master, self._due.pop(0)[1])

    def _listen(self) -> None:
        """Answer every question in what is new, in the order in which they were asked."""
        found = []
        for question, answer in self._answers.items():
            place = self.seen.find(question, self._asked_from)
            while place >= 0:
                found.append((place, question, answer))
                place = self.seen.find(question, place + 1)
        for place, question, answer in sorted(found):
            self._due.append((time.monotonic() + self._seconds, answer))
            self._asked_from = max(self._asked_from, place + len(question))
        self._due.sort(key=lambda due: due[0])

    @property
    def idle(self) -> bool:
        return not self._due

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def waiting(self) -> bytes:
        """What the program behind the pty could still read, taken away from it."""
        before = termios.tcgetattr(self.slave)
        raw = termios.tcgetattr(self.slave)
        raw[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self.slave, termios.TCSANOW, raw)
        got = b""
        while select.select([self.slave], [], [], 0.05)[0]:
            got += os.read(self.slave, 4096)
        termios.tcsetattr(self.slave, termios.TCSANOW, before)
        return got

    def close(self) -> None:
        self._stopped = True
        self._thread.join()
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def terminal(
    answers: dict[bytes, bytes], *, seconds: float = 0.0, pixels: tuple[int, int] = (0, 0)
) -> Iterator[FakeTerminal]:
    fake = FakeTerminal(answers, seconds=seconds, pixels=pixels)
    try:
        yield fake
    finally:
        fake.close()
