"""The dashboard's figures beside the design's limits: `python -m tests.bench.tui` (make bench-tui).

On a real pseudo terminal of 160 x 50 cells, with a real store that another process writes to. The
limits hold for a quiet machine with two cores; the exit code tells whether all were held.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from obstui.config import Paths
from obstui.store import Claim, Reader, Store
from obstui.tui.app import Dashboard, settle_memory
from obstui.tui.snapshot import settled

from ..obstui import tui_store
from ..obstui.test_tui_terminal import Terminal

SIZE = (160, 50)
GIB = 1 << 30
RUNNING = 5  # the job of the scene that is at work
HOUR_OF_PROGRESS, HOUR_OF_FACTS = 7200, 3600  # two lines a second; a layer or a picture a second


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and the most that it may be."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def held(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"<= {self.limit:g} {self.unit}"
        return f"{self.name:<52} {self.value:>9.2f} {self.unit:<5} {limit:<14} " + (
            "" if self.held else "NOT HELD"
        )


# -- the other process ---------------------------------------------------------------------------


def claim_of(reader: Reader, job_id: int) -> Claim:
    job = reader.job(job_id)
    assert job is not None
    return Claim(job.id, job.ulid, job.attempt, tui_store.WORKER, str(job.device), job.spec, {})


def write(home: Path, facts: float, progress: float, seconds: float) -> None:
    """Be the worker: so many facts and progress lines a second, in batches of up to 100 ms; more
    than can be written are written as fast as may be."""
    paths = Paths(home, home / "jobs.db")
    with Reader.open(paths) as reader:
        claim = claim_of(reader, RUNNING)
    turn = 0.1 if facts > 10 else 1.0
    turns = max(1, round(seconds / turn))
    began = time.monotonic()
    with Store.open(paths) as store:
        for n in range(turns):
            batch = [("layer", {"name": f"layer {n}.{k}"}) for k in range(round(facts * turn))]
            if batch:
                store.append(claim, batch)
            if progress and n % max(1, round(1 / (progress * turn))) == 0:
                store.progress(claim, _progress(n))
            time.sleep(max(0.0, began + (n + 1) * turn - time.monotonic()))


def _progress(n: int) -> dict[str, object]:
    return {"phase": "solve", "done": 87 + n % 120, "total": 210, "unit": "targets",
            "detail": f"up0.{n % 3}.blocks.{n % 10}.attn1", "phase_started_at": time.time() - 60,
            "following": [["write", 3]],
            "memory": {"device": "cuda:0", "now": (17 * GIB) + n % 7 * (GIB // 4),
                       "peak": 21 * GIB, "total": 24 * GIB}}  # fmt: skip


@contextmanager
def writing(paths: Paths, *, facts: float, progress: float, seconds: float) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.tui", "--write", str(paths.home), str(facts),
         str(progress), str(seconds)],
    )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        process.wait()


# -- scenes --------------------------------------------------------------------------------------


@contextmanager
def scene(jobs: int = 0) -> Iterator[tui_store.Scene]:
    """The evening's queue with at least so many jobs, in a folder in memory where there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        busy = tui_store.busy(Path(folder) / "state")
        if jobs:
            _multiply(busy.paths, jobs)
        yield busy
        busy.close()


def _multiply(paths: Paths, jobs: int) -> None:
    """Copies of job 1, which has succeeded, until there are so many."""
    with closing(sqlite3.connect(paths.db)) as conn, conn:
        columns = [row[1] for row in conn.execute("PRAGMA table_info(job)")]
        (there,) = conn.execute("SELECT count(*) FROM job").fetchone()
        values = {"id": "NULL", "ulid": "printf('%026d', n)", "name": "'copy ' || n"}
        chosen = ", ".join(values.get(column, f'"{column}"') for column in columns)
        conn.execute(
            f"INSERT INTO job ({', '.join(columns)}) "
            "WITH RECURSIVE numbers(n) AS "
            "(SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
            f"SELECT {chosen} FROM numbers, job WHERE job.id = 1",
            (jobs - there,),
        )


# -- measurements --------------------------------------------------------------------------------


def first_paint(jobs: int) -> Iterator[Figure]:
    """From the start of the process to the frame, and to the first row: the medians of five starts
    after one that reads the program from the disk, and the slowest."""
    limit = 1.0 if jobs == 1000 else None
    frames, rows = [], []
    with scene(jobs) as busy:
        for _ in range(6):
            began = time.monotonic()
            terminal = Terminal(busy.paths, SIZE)
            terminal.read_until(b"Queue")
            frames.append(time.monotonic() - began)
            terminal.read_until(b"running")
            rows.append(time.monotonic() - began)
            terminal.close()
    name = f"first paint, {jobs:,} jobs"
    yield Figure(f"{name}: the frame", median(frames[1:]), "s", limit)
    yield Figure(f"{name}: the frame, slowest of 5", max(frames[1:]), "s")
    yield Figure(f"{name}: the jobs", median(rows[1:]), "s")
    yield Figure(f"{name}: the jobs, slowest of 5", max(rows[1:]), "s")


async def _gaps(busy: tui_store.Scene, seconds: float) -> list[float]:
    """How late a timer of 5 ms is, while another process writes."""
    app = Dashboard(busy.paths, start_worker=None, watch=RUNNING)
    late: list[float] = []
    async with app.run_test(size=SIZE) as pilot:
        await settled(app, pilot)
        settle_memory()  # as it does on a terminal
        with writing(busy.paths, facts=1000, progress=2, seconds=seconds + 30):
            await asyncio.sleep(2)
            end = time.monotonic() + seconds
            while (before := time.monotonic()) < end:
                await asyncio.sleep(0.005)
                late.append(time.monotonic() - before - 0.005)
    return sorted(late)


def loop_gap(seconds: float) -> Iterator[Figure]:
    with scene() as busy:
        late = asyncio.run(_gaps(busy, seconds))
    yield Figure("event loop, 1,000 facts/s: gap, 99 %", late[len(late) * 99 // 100] * 1e3, "ms")
    yield Figure("event loop, 1,000 facts/s: longest gap", late[-1] * 1e3, "ms", 50)


def on_the_wire(
    name: str,
    seconds: float,
    *,
    progress: float,
    kilobytes: float,
    cpu: float,
    low: bool = False,
    opened: bool = False,
) -> Iterator[Figure]:
    """Bytes to the terminal and processor time of a dashboard on the queue, or on the screen of the
    job that is `opened`."""
    with scene() as busy:
        terminal = Terminal(busy.paths, SIZE, watch=RUNNING, low_bandwidth=low)
        try:
            terminal.read_until(b"running")
            if opened:
                os.write(terminal.master, b"\r")
                terminal.read_until(b"All targets")
            while terminal.read(2.0):
                pass
            process = psutil.Process(terminal.process.pid)
            with writing(busy.paths, facts=0, progress=progress, seconds=seconds + 30):
                terminal.read_for(3.0)
                used, began = sum(process.cpu_times()[:2]), time.monotonic()
                got = len(terminal.read_for(seconds))
                took = time.monotonic() - began
                used = sum(process.cpu_times()[:2]) - used
            yield Figure(f"{name}: on the wire", got / took / 1000, "KB/s", kilobytes)
            yield Figure(f"{name}: processor", used / took * 100, "%", cpu)
            yield Figure(f"{name}: resident", process.memory_info().rss / 1e6, "MB", 120)
        finally:
            terminal.close()


def an_hour_of_events(seconds: float) -> Iterator[Figure]:
    """As many lines as an hour brings, in `seconds`: what grows would show."""
    with scene() as busy:
        terminal = Terminal(busy.paths, SIZE, watch=RUNNING)
        try:
            terminal.read_until(b"running")
            terminal.read_for(3.0)
            process = psutil.Process(terminal.process.pid)
            before = process.memory_info().rss / 1e6
            facts, progress = HOUR_OF_FACTS / seconds, min(10.0, HOUR_OF_PROGRESS / seconds)
            with writing(busy.paths, facts=facts, progress=progress, seconds=seconds):
                terminal.read_for(seconds + 2)
            after = process.memory_info().rss / 1e6
            yield Figure("an hour's events: resident after", after, "MB", 120)
            yield Figure("an hour's events: grown by", after - before, "MB")
        finally:
            terminal.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="for each measurement")
    parser.add_argument("--write", nargs=4, metavar=("HOME", "FACTS", "PROGRESS", "SECONDS"),
                        help=argparse.SUPPRESS)  # fmt: skip
    arguments = parser.parse_args()
    if arguments.write:
        home, *numbers = arguments.write
        write(Path(home), *(float(number) for number in numbers))
        return 0
    seconds = arguments.seconds
    print(f"{SIZE[0]} x {SIZE[1]} cells, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    held = True
    for figures in (
        first_paint(10),
        first_paint(1000),
        first_paint(10_000),
        loop_gap(seconds),
        on_the_wire("idle", seconds, progress=0, kilobytes=0, cpu=2),
        on_the_wire("live job at 1 Hz", seconds, progress=1, kilobytes=12, cpu=4),
        on_the_wire("its own screen", seconds, progress=1, kilobytes=12, cpu=4, opened=True),
        on_the_wire("live job, low bandwidth", seconds, progress=1, low=True, kilobytes=12, cpu=4),
        an_hour_of_events(seconds),
    ):
        for figure in figures:
            held = held and figure.held
            print(figure, flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
