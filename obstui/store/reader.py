"""Reading the store: safe to poll, never in a writer's way."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Row, String, and_, case, cast, func, or_, select

from obstui.config import Paths
from obstui.recorded import at_home
from obstui.store.connection import Access, bring_up_to_date, reader_engine
from obstui.store.endings import AFTER, INTERRUPTED, STOPPED
from obstui.store.images import ImageFilter, ImageView, read_images
from obstui.store.past import read_past_runs
from obstui.store.search import Found, Listing, Term, condition, order
from obstui.store.tables import (
    attempts,
    dependencies,
    events,
    jobs,
    one_of,
    settings,
    stops,
    sweeps,
    workers,
)
from obstui.store.transitions import check_unneeded
from obstui.store.views import (
    LIVE,
    STATES,
    TERMINAL,
    AttemptView,
    EventView,
    JobView,
    PastRun,
    StopView,
    SweepView,
    WorkerView,
)
from obstui.windows import is_open, opens_at

WORKER_GONE = "its worker is gone: obstui worker start lets it go on"


class Reader(Access):
    """Every method raises StoreError when the store cannot be read."""

    @classmethod
    def open(cls, paths: Paths, *, clock: Callable[[], float] = time.time) -> Self:
        """Raises StoreError when there is no store, or a bad one; never creates it."""
        bring_up_to_date(paths)
        return cls(paths, reader_engine(paths.db), clock)

    def data_version(self) -> int:
        """A number that differs from the last one once anything else has written to the store."""
        with self._read() as conn:
            return int(conn.exec_driver_sql("PRAGMA data_version").scalar_one())

    def jobs(
        self,
        *,
        states: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
        limit: int = 1000,
        offset: int = 0,
        newest_first: bool = True,
        sweep: int | None = None,
        ended_since: float | None = None,
    ) -> list[JobView]:
        """Jobs by age, optionally only of some states or kinds, of one sweep, or those that ended
        since."""
        if sweep is not None and not 0 < sweep < 2**63:  # SQLite cannot even be asked
            return []
        query = select(jobs).order_by(jobs.c.id.desc() if newest_first else jobs.c.id)
        if states is not None:
            query = query.where(jobs.c.state.in_(states))
        if kinds is not None:
            query = query.where(jobs.c.kind.in_(kinds))
        if sweep is not None:
            query = query.where(jobs.c.sweep_id == sweep)
        if ended_since is not None:
            query = query.where(jobs.c.finished_at >= ended_since)
        with self._read() as conn:
            rows = conn.execute(query.limit(limit).offset(offset)).all()
            return view_jobs(conn, rows, self.paths, self._clock())

    def find(self, listing: Listing) -> Found:
        """One stretch of the jobs that a filter fits, sorted over the whole table. The listing of
        the answer says where the stretch begins."""
        now = self._clock()
        fits, keys = (
            condition(listing.terms, now),
            order(listing.sort, reverse=listing.reverse, now=now),
        )
        with self._read() as conn:
            count = select(func.count()).select_from(jobs).where(fits)
            total = conn.execute(count).scalar_one()
            offset = listing.offset
            if listing.around is not None:
                places = func.row_number().over(order_by=keys).label("place")
                numbered = select(jobs.c.id, places).where(fits).subquery()
                query = select(numbered.c.place).where(numbered.c.id == listing.around)
                place = conn.execute(query).scalar_one_or_none()
                if place is not None and not offset < place <= offset + listing.limit:
                    offset = place - 1 - listing.limit // 2
            offset = max(0, min(offset, total - listing.limit))
            page = select(jobs.c.id).where(fits).order_by(*keys).limit(listing.limit).offset(offset)
            ids = conn.execute(page).scalars().all()
            views = {job.id: job for job in self._views(conn, ids)}
        found = tuple(views[job_id] for job_id in ids if job_id in views)
        return Found(replace(listing, offset=offset, around=None), found, total)

    def states(
        self, terms: Sequence[Term] = (), *, among: Collection[int] | None = None
    ) -> dict[int, str]:
        """All jobs that a filter fits, or those of them that are named, and their states."""
        query = select(jobs.c.id, jobs.c.state).where(condition(terms, self._clock()))
        if among is not None:
            query = query.where(one_of(among))
        with self._read() as conn:
            return dict(conn.execute(query).tuples().all())

    def _views(self, conn: Connection, ids: Collection[int]) -> list[JobView]:
        rows = conn.execute(select(jobs).where(one_of(ids))).all()
        return view_jobs(conn, rows, self.paths, self._clock())

    def job(self, job_id: int) -> JobView | None:
        """One job; None if it does not exist."""
        if not 0 < job_id < 2**63:
            return None
        with self._read() as conn:
            rows = conn.execute(select(jobs).where(jobs.c.id == job_id)).all()
            return next(iter(view_jobs(conn, rows, self.paths, self._clock())), None)

    def succeeded(self, kind: str, model: str, *, limit: int) -> list[JobView]:
        """The jobs of a kind with a model that succeeded last."""
        query = select(jobs).where(
            jobs.c.state == "succeeded",
            jobs.c.kind == kind,
            func.json_extract(jobs.c.spec, "$.model") == model,
        )
        with self._read() as conn:
            rows = conn.execute(query.order_by(jobs.c.id.desc()).limit(limit)).all()
            return view_jobs(conn, rows, self.paths, self._clock())

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state; every state has an entry."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        with self._read() as conn:
            return dict.fromkeys(STATES, 0) | dict(conn.execute(query).tuples().all())

    def made_version(self) -> tuple[object, ...]:
        """A value that differs once a job was queued, edited, ended or removed, or what it made was
        deleted; the progress of a running job leaves it as it is."""
        ended = jobs.c.state.in_(TERMINAL)
        others = select(jobs.c.id, cast(jobs.c.spec, String)).where(~ended).order_by(jobs.c.id)
        versions = func.sum(case((ended, jobs.c.version), else_=0))
        with self._read() as conn:
            known = conn.execute(select(func.count(), func.max(jobs.c.id), versions)).one()
            return (*known, *conn.execute(others).tuples().all())

    def newest_picture(self) -> int | None:
        """The event that told of the newest picture of jobs under way; None if there is none."""
        live = select(jobs.c.id).where(jobs.c.state.not_in(TERMINAL))
        query = select(func.max(events.c.id)).where(
            events.c.job_id.in_(live), events.c.kind == "image_saved"
        )
        with self._read() as conn:
            found: int | None = conn.execute(query).scalar_one()
            return found

    def next_retry(self) -> float | None:
        """When the first of the queued jobs that wait after a lost attempt may start again; None
        if no job does."""
        query = select(func.min(jobs.c.not_before)).where(
            jobs.c.state == "queued", jobs.c.desired == "run"
        )
        with self._read() as conn:
            found: float | None = conn.execute(query).scalar_one_or_none()
            return found

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
            select(events, jobs.c.ulid)
            .join(jobs, jobs.c.id == events.c.job_id)
            .where(events.c.job_id == job_id, events.c.id > after)
            .order_by(events.c.id)
            .limit(limit)
        )
        if attempt is not None:
            query = query.where(events.c.attempt == attempt)
        if kinds is not None:
            query = query.where(events.c.kind.in_(kinds))
        with self._read() as conn:
            rows = conn.execute(query).all()
        return [
            EventView(row.id, row.job_id, row.attempt, row.at, row.kind,
                      at_home(self.paths, row.ulid, row.payload))
            for row in rows
        ]  # fmt: skip

    def images(self, wanted: ImageFilter | None = None, *, limit: int) -> list[ImageView]:
        """The pictures of all jobs, the newest job's first."""
        with self._read() as conn:
            return read_images(conn, self.paths, wanted or ImageFilter(), limit)

    def attempts(self, job_id: int) -> list[AttemptView]:
        """A job's attempts, oldest first."""
        columns = [attempts.c[name] for name in AttemptView.__dataclass_fields__]
        query = select(*columns).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
        with self._read() as conn:
            return [AttemptView(**row._mapping) for row in conn.execute(query).all()]

    def sweeps(self) -> list[SweepView]:
        """All sweeps, newest first, each with its jobs counted by state."""
        query = (
            select(sweeps, jobs.c.state, func.count(jobs.c.id).label("number"))
            .outerjoin(jobs, jobs.c.sweep_id == sweeps.c.id)
            .group_by(sweeps.c.id, jobs.c.state)
            .order_by(sweeps.c.id.desc())
        )
        found: dict[int, SweepView] = {}
        with self._read() as conn:
            for row in conn.execute(query).all():
                view = found.setdefault(row.id, SweepView(row.id, row.name, row.created_at, {}))
                if row.state:
                    view.counts[row.state] = row.number
        return list(found.values())

    def stops(self) -> list[StopView]:
        """What holds the queue or a device up right now."""
        with self._read() as conn:
            return _stops(conn, self._clock())

    def nobody_serves(self) -> str | None:
        """Why no worker would take any job now; None if one would."""
        with self._read() as conn:
            return _nobody_serves(conn, self.paths, self._clock())

    def ahead(self, job_id: int) -> int:
        """How many live and queued jobs come before a queued one."""
        mine = jobs.alias()
        earlier = or_(
            jobs.c.priority > mine.c.priority,
            (jobs.c.priority == mine.c.priority)
            & (func.coalesce(jobs.c.rank, jobs.c.id) < func.coalesce(mine.c.rank, mine.c.id)),
        )
        query = select(func.count()).where(
            mine.c.id == job_id,
            or_(jobs.c.state.in_(LIVE), (jobs.c.state == "queued") & earlier),
        )
        with self._read() as conn:
            return int(conn.execute(query).scalar_one())

    def needs(self, job_id: int) -> list[int]:
        """The jobs that must succeed before this one starts."""
        query = select(dependencies.c.parent_id).where(dependencies.c.job_id == job_id)
        with self._read() as conn:
            return sorted(conn.execute(query).scalars().all())

    def check_unneeded(self, job_id: int) -> None:
        """Raises Refused, as to remove it would, for a job that an unfinished one needs."""
        with self._read() as conn:
            check_unneeded(conn, job_id)

    def all_needs(self) -> dict[int, list[int]]:
        """For each queued job that waits for others: which."""
        query = (
            select(dependencies.c.job_id, dependencies.c.parent_id)
            .join(jobs, jobs.c.id == dependencies.c.job_id)
            .where(jobs.c.state == "queued")
        )
        found: dict[int, list[int]] = {}
        with self._read() as conn:
            for row in conn.execute(query).all():
                found.setdefault(row.job_id, []).append(row.parent_id)
        return found

    def in_order(self, states: Sequence[str] = ("queued",)) -> list[JobView]:
        """The queued jobs in the order in which they will start, dependencies aside. With other
        states asked for: before them what runs, after them what somebody has to resume."""
        group = case((jobs.c.state.in_(LIVE), 0), (jobs.c.state == "queued", 1), else_=2)
        place = func.coalesce(jobs.c.rank, jobs.c.id)
        query = (
            select(jobs)
            .where(jobs.c.state.in_(states))
            .order_by(group, jobs.c.priority.desc(), place, jobs.c.id)
        )
        with self._read() as conn:
            return view_jobs(conn, conn.execute(query).all(), self.paths, self._clock())

    def past_runs(self, limit: int = 300) -> list[PastRun]:
        """The jobs that succeeded last, the newest first, and what they took; without those that
        took all of their work over, and so do not tell what it takes."""
        with self._read() as conn:
            return read_past_runs(conn, limit)

    def device_seconds(self, since: float, now: float) -> dict[str, float]:
        """How long attempts ran on each device since a time."""
        end = func.coalesce(attempts.c.finished_at, now)
        begin = func.max(attempts.c.started_at, since)
        query = (
            select(attempts.c.device, func.sum(end - begin))
            .where(end > since, end > attempts.c.started_at)
            .group_by(attempts.c.device)
        )
        with self._read() as conn:
            return dict(conn.execute(query).tuples().all())

    def lost_attempts(self, since: float) -> int:
        """How many attempts were lost since a time, of jobs that were taken up again."""
        query = (
            select(func.count())
            .select_from(attempts)
            .join(jobs, and_(jobs.c.id == attempts.c.job_id, jobs.c.attempt > attempts.c.number))
            .where(attempts.c.state == INTERRUPTED, attempts.c.finished_at >= since)
            .where(attempts.c.reason.not_in(STOPPED))
        )
        with self._read() as conn:
            return conn.execute(query).scalar_one()

    def setting(self, key: str) -> Any:
        """A small value that a writer kept; None if there is none."""
        with self._read() as conn:
            query = select(settings.c.value).where(settings.c.key == key)
            return conn.execute(query).scalar_one_or_none()

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


def _stops(conn: Connection, now: float) -> list[StopView]:
    holding = or_(stops.c.until.is_(None), stops.c.until > now)
    rows = conn.execute(select(stops).where(holding).order_by(stops.c.scope)).all()
    return [StopView(**{**row._mapping, "urgent": bool(row.urgent)}) for row in rows]


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


def _nobody_serves(conn: Connection, paths: Paths, now: float) -> str | None:
    """Why no worker would take any job now; None if one would."""
    stopped = {stop.scope: stop for stop in _stops(conn, now)}
    if "*" in stopped:
        return f"the queue is paused: {_since(stopped['*'], now)}"
    alive = [worker for worker in _workers(conn, paths) if worker.alive]
    if not alive:
        return "no worker is running"
    if all(worker.state == "draining" for worker in alive):
        return "the worker is about to stop and takes no more jobs"
    if all(worker.device in stopped for worker in alive):
        first = stopped[alive[0].device]
        return f"the device {first.scope} is stopped: {_since(first, now)}"
    return None


def _since(stop: StopView, now: float) -> str:
    end = f" (until {_clock_time(stop.until, now)})" if stop.until is not None else ""
    return f"{stop.reason}{end}"


def _clock_time(at: float, now: float) -> str:
    shown, today = time.localtime(at), time.localtime(now)
    same_day = shown[:3] == today[:3]
    return time.strftime("%H:%M" if same_day else "%H:%M on %d %B", shown)


def view_jobs(
    conn: Connection, rows: Sequence[Row[Any]], paths: Paths, now: float
) -> list[JobView]:
    """Rows as views; a job that does not go on by itself gets the sentence that says why."""
    queued = [row for row in rows if row.state == "queued"]
    live = {row.device for row in rows if row.state in LIVE}
    served = {device for device in live if held(paths.lock(device))}
    parents: dict[int, list[str]] = {}
    nobody = None
    if queued:
        parents = _unfinished_parents(conn, queued[0].id if len(queued) == 1 else None)
        nobody = _nobody_serves(conn, paths, now)

    def blocked(row: Row[Any]) -> str | None:
        if row.state in LIVE and row.device not in served:
            return WORKER_GONE
        if row.state != "queued":
            return None
        if row.id in parents:
            names = parents[row.id]
            return f"waits for job{'s' if len(names) > 1 else ''} {', '.join(names)}"
        if row.not_before is not None and row.not_before > now:
            after = AFTER.get(row.reason, "a pause")
            return f"starts again at {_clock_time(row.not_before, now)} after {after}"
        if row.window is not None and not is_open(row.window, now):
            opens = _clock_time(opens_at(row.window, now), now)
            return f"outside its time window {row.window}: starts at {opens}"
        return nobody

    made = ("blocked", "ran", "progress", "result")
    columns = [name for name in JobView.__dataclass_fields__ if name not in made]
    ran = _ran(conn, rows)
    return [
        JobView(
            **{name: row._mapping[name] for name in columns},
            progress=at_home(paths, row.ulid, row.progress),
            result=at_home(paths, row.ulid, row.result),
            blocked=blocked(row),
            ran=ran[row.id],
        )
        for row in rows
    ]


def _ran(conn: Connection, rows: Sequence[Row[Any]]) -> dict[int, float]:
    """Seconds of every job's closed attempts."""
    ran = dict.fromkeys((row.id for row in rows), 0.0)
    if begun := [row.id for row in rows if row.attempt]:
        took = func.sum(attempts.c.finished_at - attempts.c.started_at)
        closed = select(attempts.c.job_id, took).where(
            one_of(begun, attempts.c.job_id), attempts.c.finished_at.is_not(None)
        )
        ran |= conn.execute(closed.group_by(attempts.c.job_id)).tuples().all()
    return ran
