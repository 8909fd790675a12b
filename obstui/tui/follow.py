"""The thread that watches the store and the open job's log, and tells the app what changed.

Nothing is sent while nothing changes. A burst of commits costs one read: the store's change counter
is looked at four times a second, the store itself read at most once per `GAP` seconds.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from obstui.tui.machine import Machine, MachineWatch
from obstui.tui.messages import StoreRead
from obstui.tui.tail import Tail, read_tail

if TYPE_CHECKING:
    from textual.app import App

    from obstui.config import Paths
    from obstui.finish import Finish
    from obstui.store import AttemptView, JobView, Reader, StopView, SweepView, WorkerView
    from obstui.store.search import Found, Listing
    from obstui.tui.facts import Fold, JobFacts

T = TypeVar("T")

TICK = 0.25
GAP = 1.0
GAP_OPEN_JOB = 0.5
LIVENESS_EVERY = 2.0  # a worker that dies changes nothing in the store: only its lock tells
RETRY_AFTER = 2.0
SELDOM = 5.0
NEWEST = 200  # of all jobs, known beside those that the queue lists
EVENT_PAGE = 2000
HISTORY_JOBS = 5  # finished jobs of one kind and model that price the phases of the next


Reading = Callable[["Reader"], object]
"""What a screen wants read beside the queue, in the follower's thread: short, and of values that
compare equal while nothing has changed."""


class MadeReading(Generic[T]):
    """A reading of what jobs have made: read again only where `version` has become another."""

    _kept: tuple[object, T] | None = None

    def __call__(self, reader: Reader) -> T:
        version = self.version(reader)
        if self._kept is None or self._kept[0] != version:
            self._kept = version, self.read(reader)
        return self._kept[1]

    def version(self, reader: Reader) -> object:
        return reader.made_version()

    def read(self, reader: Reader) -> T:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Fault:
    """What stands in a page that could not be read; the words say why."""

    words: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a screen may show, read at one moment. `found` is what the queue lists; `jobs` are
    these, the live ones, the newest and job `focus`. `facts`, `log`, `ahead` and `needs` are those
    of job `focus`; `sweeps` are those of `jobs`. `nobody` says why no job would start now. `page`
    is what `reading` gave, or a Fault; `fault` says why the store is unreadable."""

    found: Found | None = None
    jobs: tuple[JobView, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    workers: tuple[WorkerView, ...] = ()
    stops: tuple[StopView, ...] = ()
    nobody: str | None = None
    sweeps: Mapping[int, SweepView] = field(default_factory=dict)
    ahead: int = 0
    needs: tuple[int, ...] = ()
    titles: Mapping[int, str] = field(default_factory=dict)
    prices: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    focus: int | None = None
    facts: JobFacts | None = None
    log: Tail = field(default_factory=Tail)
    attempts: tuple[AttemptView, ...] = ()
    forecast: int | None = None
    reading: Reading | None = None
    page: object = None
    machine: Machine = field(default_factory=Machine)
    fault: str | None = None
    wishes: int = 0
    """How many times somebody had asked for it when it was read."""
    read: bool = False

    def job(self, job_id: int | None) -> JobView | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def title(self, job: JobView) -> str:
        return self.titles.get(job.id, job.kind)

    def history(self, job: JobView) -> Mapping[str, float]:
        return self.prices.get((job.kind, str(job.spec.get("model"))), {})

    def page_of(self, reading: Reading | None) -> object:
        """What `reading` gave, or its Fault; None where the page is another screen's."""
        return self.page if reading == self.reading else None

    @property
    def finish(self) -> Finish | None:
        """When the queue will be done, as far as anybody can tell: not while it is paused."""
        paused = any(stop.scope == "*" for stop in self.stops)
        return None if paused else self.machine.finish

    @property
    def worker_alive(self) -> bool:
        return any(worker.alive for worker in self.workers)


class Follower(threading.Thread):
    """Owns the Reader. `focus` names the job whose events and log are wanted."""

    def __init__(
        self,
        app: App[None],
        paths: Paths,
        *,
        create: bool,
        clock: Callable[[], float] = time.time,
        seldom: bool = False,
    ) -> None:
        """`seldom`: look at the store every five seconds, and when asked."""
        super().__init__(name="store-follower", daemon=True)
        self._app, self._paths, self._create = app, paths, create
        self._wake = threading.Event()
        self._stopped = False
        self._wishes, self._read_for = 1, 0
        self._focus: int | None = None
        self._attempt: int | None = None
        self._open_job = False
        self._forecast_of = _OfSpec(forecast)
        self._reading: Reading | None = None
        self._listing: Listing | None = None
        self._gap = GAP
        self._reader: Reader | None = None
        self._version: int | None = None
        self._read_at = self._workers_at = 0.0
        self._fold: Fold | None = None
        self._log_seen: tuple[str, int, int] | None = None
        self._title_of = _OfSpec(spec_title)
        self._prices: dict[int, Mapping[str, float]] = {}
        self._sent = Snapshot()
        self._machine = MachineWatch(paths, clock)
        self._tick = SELDOM if seldom else TICK

    def focus(
        self,
        job_id: int | None,
        *,
        open_job: bool = False,
        attempt: int | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Follow this job's facts and log, those of its newest attempt unless told which, and this
        page, from now on; an open job is read more often, and its attempts and forecast with it."""
        self._gap = GAP_OPEN_JOB if open_job else GAP
        asked = (job_id, open_job, attempt, reading)
        if asked != (self._focus, self._open_job, self._attempt, self._reading):
            self._focus, self._open_job, self._attempt, self._reading = asked
            self.ask()

    def seek(self, listing: Listing) -> None:
        """Have this stretch of the jobs in `found` from now on."""
        if listing != self._listing:
            self._listing = listing
            self.ask()

    def answered(self, snapshot: Snapshot) -> bool:
        """Whether `snapshot` was read after the last wish, for the job, page and stretch that it
        was about."""
        asked = (self._focus, self._reading, self._wishes)
        answered = (snapshot.focus, snapshot.reading, snapshot.wishes) == asked
        listed = self._listing in (None, snapshot.found and snapshot.found.listing)
        shown = snapshot.facts and snapshot.facts.attempt
        return answered and listed and self._attempt in (None, shown)

    def ask(self) -> None:
        """Read now."""
        self._wishes += 1
        self._wake.set()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        while not self._stopped:
            pause = self._tick
            try:
                snapshot = self._look()
            except Exception as err:  # whatever is wrong with the store, the dashboard says it
                snapshot, pause = self._fault(err), RETRY_AFTER
            if snapshot != self._sent and not self._stopped:
                self._sent = snapshot
                self._app.post_message(StoreRead(snapshot))
            self._wake.wait(pause)
            self._wake.clear()
        self._close()

    def _fault(self, err: Exception) -> Snapshot:
        from obstui.tui.writer import sentence

        self._close()
        self._read_for = 0
        return dataclasses.replace(self._sent, fault=sentence(err), read=True)

    def _close(self) -> None:
        reader, self._reader, self._version = self._reader, None, None
        self._fold = None
        if reader is not None:
            reader.close()

    def _look(self) -> Snapshot:
        reader = self._opened()
        snapshot, now = self._sent, time.monotonic()
        version = reader.data_version()
        due = version != self._version and now - self._read_at >= self._gap
        if due or self._read_for != self._wishes:
            self._read_for, self._version, self._read_at = self._wishes, version, now
            snapshot = dataclasses.replace(self._read(reader), wishes=self._read_for)
        elif now - self._workers_at >= LIVENESS_EVERY:
            workers = self._read_workers(reader)
            machine = self._machine.glance(snapshot.machine, workers)
            snapshot = dataclasses.replace(snapshot, workers=workers, machine=machine)
        return self._with_log(snapshot)

    def _opened(self) -> Reader:
        if self._reader is None:
            from obstui.store import Reader, Store

            if self._create and not self._paths.db.exists():
                Store.open(self._paths.ensure()).close()
            self._reader = Reader.open(self._paths)
        return self._reader

    def _read(self, reader: Reader) -> Snapshot:
        focus, reading = self._focus, self._reading
        found = self._find(reader)
        before = {job.id: job for job in self._sent.jobs}
        found = dataclasses.replace(found, jobs=_same(found.jobs, before))
        jobs = _same(_known(reader, found, focus), before)
        facts = self._facts(reader, jobs, focus)
        jobs = tuple(_caught_up(job, facts) for job in jobs)
        found = dataclasses.replace(found, jobs=tuple(_caught_up(job, facts) for job in found.jobs))
        counts, workers = reader.counts(), self._read_workers(reader)
        of_sweeps = {job.sweep_id for job in jobs} - {None}
        return Snapshot(
            found=found,
            jobs=jobs,
            counts=counts,
            workers=workers,
            stops=tuple(reader.stops()),
            nobody=reader.nobody_serves(),
            sweeps={s.id: s for s in reader.sweeps() if s.id in of_sweeps} if of_sweeps else {},
            ahead=reader.ahead(focus) if focus is not None else 0,
            needs=tuple(reader.needs(focus)) if focus is not None else (),
            titles={job.id: job.name or self._title_of(job) for job in jobs},
            prices=self._price(reader, jobs),
            focus=focus,
            facts=facts,
            log=self._sent.log,
            attempts=tuple(reader.attempts(focus)) if focus and self._open_job else (),
            forecast=self._forecast(jobs, focus) if self._open_job else None,
            reading=reading,
            page=read_page(reader, reading),
            machine=self._machine.look(workers, reader, counts),
            read=True,
        )

    def _find(self, reader: Reader) -> Found:
        from obstui.store.search import Listing

        asked = self._listing
        found = reader.find(asked or Listing())
        if self._listing is asked:
            self._listing = found.listing  # a place that was looked for once is kept
        return found

    def _read_workers(self, reader: Reader) -> tuple[WorkerView, ...]:
        self._workers_at = time.monotonic()
        return tuple(reader.workers())

    def _facts(
        self, reader: Reader, jobs: tuple[JobView, ...], focus: int | None
    ) -> JobFacts | None:
        from obstui.tui.facts import Fold

        job = next((job for job in jobs if job.id == focus), None)
        if job is None or not job.attempt:
            self._fold = None
            return None
        fold, number = self._fold, self._shown_attempt(job)
        if fold is None or (fold.job_id, fold.attempt) != (job.id, number):
            fold = self._fold = Fold(job.id, number)
        while not self._stopped:
            page = reader.events(job.id, attempt=number, after=fold.last_event, limit=EVENT_PAGE)
            fold.add(page)
            if len(page) < EVENT_PAGE:
                break
        return fold.facts()

    def _shown_attempt(self, job: JobView) -> int:
        return min(self._attempt or job.attempt, job.attempt)

    def _forecast(self, jobs: tuple[JobView, ...], focus: int | None) -> int | None:
        """Bytes of GPU memory that the open job was to take; None where nobody can tell."""
        job = next((job for job in jobs if job.id == focus), None)
        return self._forecast_of(job) if job is not None else None

    def _price(
        self, reader: Reader, jobs: tuple[JobView, ...]
    ) -> dict[tuple[str, str], dict[str, float]]:
        """Phase prices for the kinds and models of live jobs, from their finished likes."""
        from obstui.estimate import typical

        prices = {}
        for key in {(job.kind, str(job.spec.get("model"))) for job in jobs if job.live}:
            done = reader.succeeded(*key, limit=HISTORY_JOBS)
            prices[key] = typical(self._price_of(reader, job) for job in done)
        return prices

    def _price_of(self, reader: Reader, job: JobView) -> Mapping[str, float]:
        if job.id not in self._prices:
            from obstui.estimate import phase_runs, unit_seconds

            events = reader.events(job.id, attempt=job.attempt, kinds=["phase"])
            runs = phase_runs((event.at, event.payload) for event in events)
            self._prices[job.id] = unit_seconds(runs, job.finished_at or 0.0)
        return self._prices[job.id]

    def _with_log(self, snapshot: Snapshot) -> Snapshot:
        job = snapshot.job(snapshot.focus)
        if job is None or not job.attempt:
            self._log_seen = None
            return dataclasses.replace(snapshot, log=Tail())
        path = self._paths.log(job.ulid, self._shown_attempt(job))
        try:
            stat = path.stat()
            seen = (str(path), stat.st_size, stat.st_mtime_ns)
            if seen == self._log_seen:
                return snapshot
            log = read_tail(str(path), stat.st_size)
        except OSError:
            seen, log = (str(path), -1, 0), Tail(str(path))
        self._log_seen = seen
        return dataclasses.replace(snapshot, log=log)


def _known(reader: Reader, found: Found, focus: int | None) -> tuple[JobView, ...]:
    """The jobs found, and those that are of interest whatever the filter says, each once."""
    from obstui.store import LIVE

    jobs = {job.id: job for job in found.jobs}
    if len(jobs) < found.total or found.listing.terms:
        others = [*reader.jobs(states=LIVE), *reader.jobs(limit=NEWEST)]
        jobs |= {job.id: job for job in others if job.id not in jobs}
    if focus is not None and focus not in jobs and (job := reader.job(focus)):
        jobs[focus] = job
    return tuple(jobs.values())


def _same(jobs: tuple[JobView, ...], before: Mapping[int, JobView]) -> tuple[JobView, ...]:
    """The jobs, each that has not changed as the object that screens have kept of it: hundreds of
    jobs would otherwise be in memory several times."""
    return tuple(old if (old := before.get(job.id)) == job else job for job in jobs)


def read_page(reader: Reader, reading: Reading | None) -> object:
    """What a screen asked for. Its own mistake is its own page's fault; a bad store is everyone's.
    Raises StoreError."""
    from obstui.store import StoreError
    from obstui.tui.writer import sentence

    if reading is None:
        return None
    try:
        return reading(reader)
    except StoreError:
        raise
    except Exception as err:
        return Fault(sentence(err))


class _OfSpec(Generic[T]):
    """What a job's spec tells, worked out once, and again when the person has changed the job."""

    def __init__(self, tell: Callable[[JobView], T]) -> None:
        self._tell = tell
        self._known: dict[int, tuple[Mapping[str, Any], T]] = {}

    def __call__(self, job: JobView) -> T:
        known = self._known.get(job.id)
        if known is None or known[0] != job.spec:
            known = self._known[job.id] = job.spec, self._tell(job)
        return known[1]


def forecast(job: JobView) -> int | None:
    """Bytes of GPU memory that a job was expected to take, by its spec alone; None without plan."""
    from obstui import plan
    from obstui.errors import Problem
    from obstui.specs import parse

    try:
        return plan.make(parse(job.spec)).choice.forecast.needed
    except (Problem, ValueError, OSError):
        return None


def _caught_up(job: JobView, facts: JobFacts | None) -> JobView:
    """Facts are in the store at once, progress some moments later: the map must not be ahead of
    the words beside it."""
    progress = job.progress
    if facts is None or facts.job_id != job.id or not (progress and job.live and facts.phases):
        return job
    if facts.phases[-1].name != progress.get("phase") or facts.phase_done <= progress["done"]:
        return job
    return dataclasses.replace(job, progress={**progress, "done": facts.phase_done})


def spec_title(job: JobView) -> str:
    """What the job's spec says it does."""
    from obstui.specs import BadSpec, parse

    try:
        return parse(job.spec).title
    except BadSpec:
        return job.kind
