"""The real program on a real (pseudo) terminal: it leaves at once, and says nothing while idle."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
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
from obstui.store import Claim, Reader, Store
from obstui.tui.app import TERMINAL_EVERY
from tests.obstui import tui_store

SCRIPT = """
import json, sys
from pathlib import Path
from obstui.config import Paths
from obstui import tui
home = Path(sys.argv[1])
tui.run(Paths(home, home / "jobs.db"), **json.loads(sys.argv[2]))
"""


class Terminal:
    """The dashboard on a pty."""

    def __init__(self, paths: Paths, size: tuple[int, int] = (80, 24), **options: object) -> None:
        self.master, slave = os.openpty()
        columns, rows = size
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = os.environ | {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PYTHONPATH": str(Path(obstui.__file__).parents[1]),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(paths.home), json.dumps(options)],
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
                new = os.read(self.master, 65536)
            except OSError:
                break
            if b"\x1b[c" in new:  # what it is: a terminal without pictures
                os.write(self.master, b"\x1b[?62;22c")
            got += new
        self.seen += got
        return got

    def read_for(self, seconds: float) -> bytes:
        """What it writes in this time, however seldom it writes."""
        got, end = b"", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            got += self.read(left)
        return got

    def read_until(self, words: bytes, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < end, self.seen[-2000:]
            self.read(0.01)

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
def terminal(paths: Paths) -> Iterator[Callable[..., Terminal]]:
    scene = tui_store.busy(paths.home)
    opened: list[Terminal] = []

    def start(**options: object) -> Terminal:
        opened.append(Terminal(paths, **options))
        opened[-1].read_until(b"running")
        while opened[-1].read(1.0):
            pass
        return opened[-1]

    yield start
    for one in opened:
        one.close()
    scene.close()


AT_ONCE = 2.0
"""Seconds on a machine that has a core to spare."""


def ends_quietly(terminal: Terminal, within: float = AT_ONCE) -> None:
    """It ends by itself, in this many seconds; in as many more as others have the cores."""
    share = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    end = time.monotonic() + within * share
    while terminal.process.poll() is None:
        assert time.monotonic() < end, f"alive after {within:g} s at {share:.1f} jobs a core"
        if terminal.master >= 0:
            terminal.read(0.05)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                terminal.process.wait(0.05)
    assert terminal.process.returncode == 0
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
    ends_quietly(dashboard, AT_ONCE + (0 if signalled else TERMINAL_EVERY))


def test_idle_it_writes_nothing(terminal: Callable[[], Terminal]) -> None:
    dashboard = terminal()
    assert dashboard.read(2.5) == b""


def test_leaving_says_that_the_work_goes_on(terminal: Callable[[], Terminal]) -> None:
    dashboard = terminal()
    os.write(dashboard.master, b"q")
    dashboard.read_until(b"goes on with job 5")
    ends_quietly(dashboard)


def test_the_windows_title_tells_the_state_and_is_given_back(
    terminal: Callable[..., Terminal],
) -> None:
    dashboard = terminal()
    assert b"\x1b[22;2t" in dashboard.seen, "the title before is kept"
    assert b"\x1b]2;obstui: 1 running, 2 waiting, 1 failed\x07" in dashboard.seen
    os.write(dashboard.master, b"q")
    ends_quietly(dashboard)
    assert dashboard.seen.rindex(b"\x1b[23;2t") > dashboard.seen.rindex(b"\x1b]2;obstui")


def test_pasted_text_is_no_command(terminal: Callable[..., Terminal]) -> None:
    """A paste that would queue, cancel, remove and leave, were its letters keys."""
    dashboard = terminal()
    assert b"\x1b[?2004h" in dashboard.seen, "the terminal was asked to mark pastes"
    os.write(dashboard.master, b"\x1b[200~nqcxTqq\x1b[201~")
    assert dashboard.read(1.0) == b""
    assert dashboard.process.poll() is None
    os.write(dashboard.master, b"q")
    dashboard.read_until(b"goes on with job 5")
    ends_quietly(dashboard)


def test_ascii_is_all_that_the_terminal_gets(terminal: Callable[..., Terminal]) -> None:
    dashboard = terminal(ascii=True)
    os.write(dashboard.master, b"5")
    dashboard.read_until(b"VRAM")
    assert dashboard.seen.isascii()


def test_a_bad_line_gets_few_colours(terminal: Callable[..., Terminal]) -> None:
    """No colour beyond the 256 that every terminal knows, no picture in pixels."""
    dashboard = terminal(low_bandwidth=True)
    assert re.search(rb"[34]8;5;", dashboard.seen)
    assert not re.search(rb"[34]8;2;", dashboard.seen)
    assert re.search(rb"[34]8;2;", terminal().seen), "elsewhere it has all of them"


def test_a_live_job_costs_few_bytes(terminal: Callable[..., Terminal], paths: Paths) -> None:
    """Only what changed is sent: the job's row and lines, never the whole table or the footer."""
    dashboard = terminal(size=(160, 50), watch=5)
    with Reader.open(paths) as reader, Store.open(paths) as store:
        job = reader.job(5)
        assert job is not None
        claim = Claim(5, job.ulid, job.attempt, tui_store.WORKER, str(job.device), job.spec, {})
        sizes = []
        for done in (91, 92, 93):
            began = len(dashboard.seen)
            store.progress(claim, {**(job.progress or {}), "done": done, "detail": "up0.0"})
            dashboard.read_until(f"solve {done} of 210".encode())
            while dashboard.read(1.2):
                pass
            sizes.append(len(dashboard.seen) - began)
    assert max(sizes) < 8_000, sizes
