"""The dashboard left open: `python -m tests.bench.tui_soak --minutes 60` (make soak-tui).

A real dashboard of 160 x 50 cells on a pseudo terminal, a real worker with scripted children that
finish, fail and die. Every minute: memory, open files, threads, processor, bytes to the terminal.
All must be flat; the exit code tells whether they were.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..obstui.test_tui_terminal import Terminal
from ..obstui.worker.conftest import Bench
from .tui import SIZE, Figure

WAITING = 5
SCRIPTS = (
    ("unit", "work 20", "fact half way", "work 20"),
    ("work 8",),
    ("raise a bad input",),
    ("once die", "work 4"),
    ("fact one", "work 15", "fact two"),
)
KEYS = ("j", "\r", "L", "\x1b", "5", "6", "2", "1", "g")
"""One of them every few seconds: what a person's look from time to time asks of it."""
KEY_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class Minute:
    """Bytes resident, open files, threads, share of a processor, bytes a second on the wire."""

    memory: int
    files: int
    threads: int
    processor: float
    wire: float

    def __str__(self) -> str:
        return (
            f"{self.memory / 1e6:6.1f} MB  {self.files:3} files  {self.threads:2} threads  "
            f"{self.processor:5.1%} of a core  {self.wire / 1000:6.2f} KB/s"
        )


def watch(
    terminal: Terminal, bench: Bench, seconds: float, scripts: Iterator[tuple[str, ...]],
    keys: Iterator[str],
) -> Minute:  # fmt: skip
    """What this stretch of time costs; the queue is kept filled and a key is pressed at times."""
    process = psutil.Process(terminal.process.pid)
    began, used, wire, pressed = time.monotonic(), sum(process.cpu_times()[:2]), 0, 0.0
    while (now := time.monotonic()) < began + seconds:
        if len(bench.reader.jobs(states=("queued",), limit=WAITING)) < WAITING:
            bench.submit(*next(scripts))
        if now - pressed >= KEY_EVERY:
            pressed = now
            os.write(terminal.master, next(keys).encode())
        wire += len(terminal.read_for(0.5))
        terminal.seen = b""  # ours to forget: it would grow, not the dashboard
    took = time.monotonic() - began
    return Minute(
        process.memory_info().rss, process.num_fds(), process.num_threads(),
        (sum(process.cpu_times()[:2]) - used) / took, wire / took,
    )  # fmt: skip


def minutes(home: Path, count: int, seconds: float) -> Iterator[Minute]:
    bench = Bench(home / "state")
    bench.log_file = os.open(home / "worker.log", os.O_WRONLY | os.O_CREAT, 0o600)
    terminal = None
    try:
        bench.up()
        bench.submit(*SCRIPTS[0])
        terminal = Terminal(bench.paths, SIZE)
        terminal.read_until(b"running")
        scripts, keys = itertools.cycle(SCRIPTS), itertools.cycle(KEYS)
        for _ in range(count):
            yield watch(terminal, bench, seconds, scripts, keys)
    finally:
        if terminal is not None:
            terminal.close()
        bench.close()


def figures(seen: list[Minute]) -> list[Figure]:
    """The second half, its last minutes against its first: places are loaded when they are first
    seen, and caches of drawn lines and styles are full after some twenty minutes."""
    settled = seen[len(seen) // 2 :]
    third = max(1, len(settled) // 3)
    early, late = settled[:third], settled[-third:]

    def mean(some: list[Minute], name: str) -> float:
        return sum(float(getattr(minute, name)) for minute in some) / len(some)

    hours = (len(settled) - third) / 60
    grown = (mean(late, "memory") - mean(early, "memory")) / 1e6
    return [
        Figure("resident at the end", late[-1].memory / 1e6, "MB", 120),
        Figure("resident grown by", grown, "MB", 3 + 4 * hours),
        Figure("open files grown by", late[-1].files - early[0].files, "", 2),
        Figure("threads grown by", late[-1].threads - early[0].threads, "", 2),
        Figure("processor", mean(settled, "processor") * 100, "%", 6),
        Figure("processor, the end against the beginning",
               mean(late, "processor") / max(0.001, mean(early, "processor")), "x", 1.5),
        Figure("on the wire", mean(settled, "wire") / 1000, "KB/s", 12),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60, help="that a minute takes")
    arguments = parser.parse_args()
    seen: list[Minute] = []
    with tempfile.TemporaryDirectory() as folder:
        for minute in minutes(Path(folder), arguments.minutes, arguments.seconds):
            seen.append(minute)
            print(f"{len(seen):3}  {minute}  load {os.getloadavg()[0]:.1f}", flush=True)
    found = figures(seen)
    for figure in found:
        print(figure)
    return 0 if all(figure.held for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
