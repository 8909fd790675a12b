"""What the tests of the application share: a state folder of their own, a store, a clock."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import obstui
from obstui.config import Paths
from obstui.store import Reader, Store


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paths() -> Iterator[Paths]:
    """A state folder in memory where there is such a place: every commit waits for its disk, and
    no process that is killed can tell the difference."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        home = Path(folder) / "state"
        yield Paths(home, home / "jobs.db").ensure()


@pytest.fixture(autouse=True)
def steady_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard shows what is free on the disk: in pictures it is always the same."""
    monkeypatch.setattr("obstui.tui.machine.free_bytes", lambda folder: 812 << 30)


@pytest.fixture(autouse=True)
def _a_busy_machine_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obstui.tui.type_ahead.PATIENCE", 60.0)


@pytest.fixture
def store(paths: Paths, clock: Clock) -> Iterator[Store]:
    with Store.open(paths, clock=clock) as store:
        yield store


@pytest.fixture
def reader(store: Store, paths: Paths, clock: Clock) -> Iterator[Reader]:
    with Reader.open(paths, clock=clock) as reader:
        yield reader


@pytest.fixture
def sql(paths: Paths) -> Callable[..., list[tuple[object, ...]]]:
    """One statement on the store's file, behind the store's back."""

    def run(statement: str, *parameters: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(paths.db)) as conn, conn:
            return conn.execute(statement, parameters).fetchall()

    return run


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python on a script, with pipes as text; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *args: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(obstui.__file__).parents[1])},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
