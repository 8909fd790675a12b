"""The real program on a real (pseudo) terminal: it leaves at once, and says nothing while idle."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import obstui
from obstui.config import Paths
from tests.obstui import tui_store

SCRIPT = """
import sys
from pathlib import Path
from obstui.config import Paths
from obstui import tui
home = Path(sys.argv[1])
tui.run(Paths(home, home / "jobs.db"))
"""


class Terminal:
    """The dashboard on a pty of 80 x 24."""

    def __init__(self, paths: Paths) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        env = os.environ | {
            "TERM": "xterm-256color",
            "PYTHONPATH": str(Path(obstui.__file__).parents[1]),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(paths.home)],
            stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def read(self, seconds: float) -> bytes:
        """What it writes within this time."""
        got, end = b"", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                break
            try:
                got += os.read(self.master, 65536)
            except OSError:
                break
        self.seen += got
        return got

    def read_until(self, words: bytes, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < end, self.seen[-2000:]
            self.read(0.1)

    def hang_up(self) -> None:
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        if self.master >= 0:
            os.close(self.master)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal(paths: Paths) -> Iterator[Callable[[], Terminal]]:
    scene = tui_store.busy(paths.home)
    opened: list[Terminal] = []

    def start() -> Terminal:
        opened.append(Terminal(paths))
        opened[-1].read_until(b"running")
        while opened[-1].read(1.0):
            pass
        return opened[-1]

    yield start
    for one in opened:
        one.close()
    scene.close()


def ends_quietly(terminal: Terminal) -> None:
    began = time.monotonic()
    if terminal.master >= 0:
        while terminal.process.poll() is None and time.monotonic() < began + 20:
            terminal.read(0.05)
    assert terminal.process.wait(timeout=20) == 0
    assert b"Traceback" not in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_it_at_once(terminal: Callable[[], Terminal], number: signal.Signals) -> None:
    dashboard = terminal()
    dashboard.process.send_signal(number)
    ends_quietly(dashboard)


@pytest.mark.parametrize("signalled", [True, False])
def test_a_lost_terminal_ends_it(terminal: Callable[[], Terminal], signalled: bool) -> None:
    dashboard = terminal()
    dashboard.hang_up()
    if signalled:  # what the kernel sends to the processes of the terminal
        dashboard.process.send_signal(signal.SIGHUP)
    ends_quietly(dashboard)


def test_idle_it_writes_nothing(terminal: Callable[[], Terminal]) -> None:
    dashboard = terminal()
    assert dashboard.read(2.5) == b""


def test_leaving_says_that_the_work_goes_on(terminal: Callable[[], Terminal]) -> None:
    dashboard = terminal()
    os.write(dashboard.master, b"q")
    dashboard.read_until(b"goes on with job 5")
    ends_quietly(dashboard)
