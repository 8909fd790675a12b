"""A gallery of 500 pictures: when the first thumbnails are there, and what they cost a line."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

import obstui
from obstui.config import Paths
from tests.obstui import tui_pictures, tui_store
from tests.obstui.fake_terminal import XTERM, FakeTerminal, terminal

SCRIPT = """
import sys
from pathlib import Path
from obstui.config import Paths
from obstui import tui
home = Path(sys.argv[1])
tui.run(Paths(home, home / "jobs.db"), readonly=True)
"""


def quiet(fake: FakeTerminal, start: int, seconds: float = 1.0) -> tuple[int, float]:
    """Bytes since `start`, and when the last of them came."""
    size, at = len(fake.seen), time.monotonic()
    while time.monotonic() - at < seconds:
        if len(fake.seen) != size:
            size, at = len(fake.seen), time.monotonic()
        time.sleep(0.005)
    return size - start, at


@pytest.mark.bench
@pytest.mark.parametrize("colours", ["truecolor", ""], ids=["truecolor", "256"])
@pytest.mark.parametrize("size", [(24, 80), (50, 160)], ids=["80x24", "160x50"])
def test_the_first_thumbnails_of_500(tmp_path: Path, size: tuple[int, int], colours: str) -> None:
    scene = tui_store.Scene(tmp_path)
    for number in range(25):
        tui_pictures.generated(scene, ["a fox", "an owl"], range(10 * number, 10 * number + 10))
    scene.close()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TMUX")}
    env |= {"TERM": "xterm-256color", "COLORTERM": colours,
            "PYTHONPATH": str(Path(obstui.__file__).parents[1])}  # fmt: skip
    with terminal(XTERM) as fake:
        fcntl.ioctl(fake.slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(Paths(tmp_path, tmp_path / "jobs.db").home)],
            stdin=fake.slave, stdout=fake.slave, stderr=fake.slave, env=env,
        )  # fmt: skip
        try:
            while b"Gallery" not in fake.seen:
                time.sleep(0.01)
            quiet(fake, 0)
            start, began = len(fake.seen), time.monotonic()
            fake.press(b"2")
            while "▀".encode() not in fake.seen[start:]:
                time.sleep(0.002)
            first = time.monotonic() - began
            opened, last = quiet(fake, start)
            blocks = fake.seen.count("▀".encode(), start)
            start = len(fake.seen)
            fake.press(b"l")
            step, _ = quiet(fake, start)
            start = len(fake.seen)
            fake.press(b"\x1b[6~")
            page, _ = quiet(fake, start)
        finally:
            process.kill()
            process.wait()
    print(
        f"\n{size[1]}x{size[0]} {colours or '256 colours'}: first thumbnails {first:.2f} s, all "
        f"{last - began:.2f} s, {opened / 1e3:.0f} kB; next page {page / 1e3:.0f} kB, "
        f"next picture {step / 1e3:.1f} kB"
    )
    assert first < 1.0
    assert step < 2000
    cells = size[0] * size[1]
    assert opened < 60 * cells
    assert blocks < 0.6 * cells, "no picture is drawn twice: they cover a little more than half"
