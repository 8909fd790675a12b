"""A state folder, its store, and workers with scripted children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from obstui.config import Paths
from obstui.specs import parse
from obstui.store import JobView, Reader, Store
from obstui.store.reader import held
from obstui.worker.liveness import Holder
from obstui.worker.python import environment

PROMPT = 20.0
"""Seconds that anything may take before a test gives up: this machine may be busy."""


class Bench:
    def __init__(self, home: Path) -> None:
        self.paths = Paths(home, home / "jobs.db").ensure()
        self.store = Store.open(self.paths)
        self.reader = Reader.open(self.paths)
        self.lock = self.paths.lock("cpu")
        self.workers: list[subprocess.Popen[str]] = []
        self.children: set[int] = set()
        self.log_file: int = subprocess.PIPE

    def submit(self, *script: str, model: str = "demo", **spec: Any) -> int:
        data = {"kind": "generate", "prompts": script, "model": model, **spec}
        return self.store.enqueue(parse(data)).id

    def worker(self, **timing: Any) -> subprocess.Popen[str]:
        script = Path(__file__).with_name("scripted_worker.py")
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(timing)],
            env=environment()
            | {"OBSTUI_HOME": str(self.paths.home), "OBSTUI_DB": str(self.paths.db)},
            stdin=subprocess.DEVNULL,
            stderr=self.log_file,
            start_new_session=True,
            text=True,
        )
        self.workers.append(process)
        return process

    def up(self, **timing: Any) -> subprocess.Popen[str]:
        """A worker that owns its device."""
        process = self.worker(**timing)
        self.until(lambda: [w for w in self.reader.workers() if w.pid == process.pid])
        return process

    def holder(self) -> Holder | None:
        return Holder.read(self.lock) if held(self.lock) else None

    def job(self, job_id: int) -> JobView:
        job = self.reader.job(job_id)
        assert job is not None
        return job

    def job_ulid(self, child: int) -> str:
        """The job that a child works on, as its working folder tells: asks no store."""
        return Path(os.readlink(f"/proc/{child}/cwd")).parents[1].name

    def child(self, job_id: int, attempt: int = 1) -> int:
        """The child's pid, once it says that it works on this attempt."""

        def pid() -> int | None:
            found = [a for a in self.reader.attempts(job_id) if a.number == attempt]
            return found[0].pid if found and self.job(job_id).progress else None

        found = int(self.until(pid))
        self.children.add(found)
        return found

    def finished(self, job_id: int) -> JobView:
        def over() -> JobView | None:
            job = self.job(job_id)
            return job if job.finished else None

        return self.until(over)

    def until(self, condition: Callable[[], Any], within: float = PROMPT) -> Any:
        return until(condition, within)

    def sql(self, statement: str, *parameters: object) -> None:
        """One statement behind the store's back."""
        with contextlib.closing(sqlite3.connect(self.paths.db)) as conn, conn:
            conn.execute(statement, parameters)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.paths.db)) as conn:
            return conn.execute(query).fetchall()

    def free(self, within: float = PROMPT) -> None:
        self.until(lambda: not held(self.lock), within)

    def facts(self, job_id: int, kind: str) -> list[dict[str, Any]]:
        return [event.payload for event in self.reader.events(job_id, kinds=[kind])]

    def log(self, job_id: int, attempt: int = 1) -> str:
        return self.paths.log(self.job(job_id).ulid, attempt).read_text()

    def close(self) -> None:
        while self.workers:
            process = self.workers.pop()
            process.kill()
            process.communicate()
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.reader.close()
        self.store.close()


def until(condition: Callable[[], Any], within: float = PROMPT) -> Any:
    """The first value of `condition` that is one."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {within} s in vain"
        time.sleep(0.01)
    return value


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody reaps counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("served") / "home")
    try:
        bench.up()
        yield bench
    finally:
        bench.close()


@pytest.fixture
def served(_served: Bench) -> Iterator[Bench]:
    """A bench with one worker for all tests of a module: it must outlive whatever they do."""
    yield _served
    for job in _served.reader.jobs():
        if not job.finished:
            _served.store.cancel(job.id)
            _served.finished(job.id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "home")
    try:
        yield bench
    finally:
        bench.close()
