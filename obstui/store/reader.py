"""Reading the store: safe to poll, never in a writer's way."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Row, func, or_, select

from obstui.config import Paths
from obstui.store.connection import Access, check, reader_engine
from obstui.store.tables import attempts, dependencies, events, jobs, workers
from obstui.store.views import STATES, AttemptView, EventView, JobView, WorkerView

_AFTER = {
    "worker_lost": "a lost worker",
    "child_lost": "a lost process",
    "host_reboot": "a restart of the computer",
    "gpu_busy": "another program used the device",
    "gpu_lost": "the device was lost",
    "disk_full": "the disk was full",
    "oom_gpu": "the device's memory ran out",
    "oom_host": "the computer's memory ran out",
    "segfault": "a crash",
    "signal": "its process was killed",
    "exit_code": "a failure",
    "timeout": "it took too long",
}


class Reader(Access):
    """Every method raises StoreError when the store cannot be read."""

    @classmethod
    def open(cls, paths: Paths, *, clock: Callable[[], float] = time.time) -> Self:
        """Raises StoreError when there is no store, or a bad one; never creates it."""
        check(paths.db)
        return cls(paths, reader_engine(paths.db), clock)

    def data_version(self) -> int:
        """A number that differs from the last one once anything else has written to the store."""
        with self._read() as conn:
            return int(conn.exec_driver_sql("PRAGMA data_version").scalar_one())

    def jobs(
        self,
        *,
        states: Sequence[str] | None = None,
        limit: int = 1000,
        offset: int = 0,
        newest_first: bool = True,
    ) -> list[JobView]:
        """Jobs by age, optionally of some states only."""
        query = select(jobs).order_by(jobs.c.id.desc() if newest_first else jobs.c.id)
        if states is not None:
            query = query.where(jobs.c.state.in_(states))
        with self._read() as conn:
            rows = conn.execute(query.limit(limit).offset(offset)).all()
            return view_jobs(conn, rows, self.paths, self._clock())

    def job(self, job_id: int) -> JobView | None:
        """One job; None if it does not exist."""
        if not 0 < job_id < 2**63:
            return None
        with self._read() as conn:
            rows = conn.execute(select(jobs).where(jobs.c.id == job_id)).all()
            return next(iter(view_jobs(conn, rows, self.paths, self._clock())), None)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state; every state has an entry."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._read() as conn:
            return dict.fromkeys(STATES, 0) | dict(conn.execute(query).tuples().all())

    def events(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        after: int = 0,
        kinds: Sequence[str] | None = None,
        limit: int = 2000,
    ) -> list[EventView]:
        """A job's events in order, those with an id above `after`."""
        query = (
            select(events)
            .where(events.c.job_id == job_id, events.c.id > after)
            .order_by(events.c.id)
            .limit(limit)
        )
        if attempt is not None:
            query = query.where(events.c.attempt == attempt)
        if kinds is not None:
            query = query.where(events.c.kind.in_(kinds))
        with self._read() as conn:
            return [EventView(**row._mapping) for row in conn.execute(query).all()]

    def attempts(self, job_id: int) -> list[AttemptView]:
        """A job's attempts, oldest first."""
        columns = [attempts.c[name] for name in AttemptView.__dataclass_fields__]
        query = select(*columns).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
        with self._read() as conn:
            return [AttemptView(**row._mapping) for row in conn.execute(query).all()]

    def workers(self) -> list[WorkerView]:
        """The last worker of each device, and whether it lives."""
        with self._read() as conn:
            return _workers(conn, self.paths)


def held(lock: Path) -> bool:
    """Whether a process holds the lock file right now.

    Asks with a shared lock that is let go at once; a worker that starts in that instant should try
    its exclusive lock again before it gives up.
    """
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _workers(conn: Connection, paths: Paths) -> list[WorkerView]:
    rows = conn.execute(select(workers).order_by(workers.c.device)).all()
    return [WorkerView(**row._mapping, alive=held(paths.lock(row.device))) for row in rows]


def _unfinished_parents(conn: Connection, job_id: int | None) -> dict[int, list[str]]:
    """For one queued job, or for all: its parents that have not succeeded, as "12 (running)"."""
    parent = jobs.alias()
    query = (
        select(jobs.c.id, dependencies.c.parent_id, parent.c.state)
        .join(dependencies, dependencies.c.job_id == jobs.c.id)
        .outerjoin(parent, parent.c.id == dependencies.c.parent_id)
        .where(jobs.c.state == "queued")
        .where(or_(parent.c.state.is_(None), parent.c.state != "succeeded"))
        .order_by(dependencies.c.parent_id)
    )
    if job_id is not None:
        query = query.where(jobs.c.id == job_id)
    found: dict[int, list[str]] = {}
    for row in conn.execute(query).all():
        found.setdefault(row.id, []).append(f"{row.parent_id} ({row.state or 'removed'})")
    return found


def _no_worker(conn: Connection, paths: Paths) -> str | None:
    alive = [worker.state for worker in _workers(conn, paths) if worker.alive]
    if not alive:
        return "no worker is running"
    if all(state == "draining" for state in alive):
        return "the worker is about to stop and takes no more jobs"
    return None


def _clock_time(at: float, now: float) -> str:
    shown, today = time.localtime(at), time.localtime(now)
    same_day = shown[:3] == today[:3]
    return time.strftime("%H:%M" if same_day else "%H:%M on %d %B", shown)


def view_jobs(
    conn: Connection, rows: Sequence[Row[Any]], paths: Paths, now: float
) -> list[JobView]:
    """Rows as views; a queued job gets the sentence that says what it waits for, if anything."""
    queued = [row for row in rows if row.state == "queued"]
    parents: dict[int, list[str]] = {}
    no_worker = None
    if queued:
        parents = _unfinished_parents(conn, queued[0].id if len(queued) == 1 else None)
        no_worker = _no_worker(conn, paths)

    def blocked(row: Row[Any]) -> str | None:
        if row.state != "queued":
            return None
        if row.id in parents:
            names = parents[row.id]
            return f"waits for job{'s' if len(names) > 1 else ''} {', '.join(names)}"
        if row.not_before is not None and row.not_before > now:
            after = _AFTER.get(row.reason, "a pause")
            return f"starts again at {_clock_time(row.not_before, now)} after {after}"
        return no_worker

    columns = [name for name in JobView.__dataclass_fields__ if name != "blocked"]
    return [
        JobView(**{name: row._mapping[name] for name in columns}, blocked=blocked(row))
        for row in rows
    ]
