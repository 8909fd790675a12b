"""What a worker does with the job it owns.

Every write names the job, the attempt and the worker: once the job has gone to another attempt, the
old owner's writes change nothing and return False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from obstui.specs import named_variants
from obstui.store.connection import Access
from obstui.store.enqueue import variant_folders
from obstui.store.reader import view_jobs
from obstui.store.stops import stopped
from obstui.store.tables import attempts, dependencies, events, jobs, workers
from obstui.store.transitions import JobRow, end_attempt, move, record, record_state
from obstui.store.views import LIVE, Claim, JobView, WorkerView
from obstui.windows import is_open

_ENDS = ("succeeded", "failed", "cancelled", "paused", "queued")


def boot_id() -> str:
    """What the kernel calls this run of the computer; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _fence(job_id: int, attempt: int, worker: str) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == job_id,
        jobs.c.attempt == attempt,
        jobs.c.worker == worker,
        jobs.c.state.in_(LIVE),
    )


def _fence_of(claim: Claim) -> ColumnElement[bool]:
    return _fence(claim.job_id, claim.attempt, claim.worker)


def _shut_windows(conn: Connection, now: float) -> list[str]:
    """The time windows of queued jobs that are closed now."""
    query = select(jobs.c.window).where(jobs.c.state == "queued", jobs.c.window.is_not(None))
    return [w for w in conn.execute(query.distinct()).scalars().all() if not is_open(w, now)]


def _take_next(worker: str, device: str, now: float, shut: Sequence[str]) -> ReturningUpdate[Any]:
    """The guarded claim: one statement chooses and takes, so no two workers can take the same."""
    parent = jobs.alias("parent")
    candidate = jobs.alias("candidate")
    unfinished = (
        select(dependencies.c.job_id)
        .outerjoin(parent, parent.c.id == dependencies.c.parent_id)
        .where(dependencies.c.job_id == candidate.c.id)
        .where(or_(parent.c.state.is_(None), parent.c.state != "succeeded"))
        .correlate(candidate)
    )
    # As a literal, so that SQLite sees that the partial index applies.
    queued: ColumnElement[str] = literal_column("'queued'")
    first = (
        select(candidate.c.id)
        .where(candidate.c.state == queued, candidate.c.desired == "run")
        .where(or_(candidate.c.not_before.is_(None), candidate.c.not_before <= now))
        .where(or_(candidate.c.window.is_(None), candidate.c.window.not_in(shut)))
        .where(~unfinished.exists())
        .order_by(
            candidate.c.priority.desc(),
            func.coalesce(candidate.c.rank, candidate.c.id),
            candidate.c.id,
        )
        .limit(1)
        .scalar_subquery()
    )
    return (
        update(jobs)
        .where(jobs.c.id == first, jobs.c.state == queued)
        .values(
            state="starting",
            reason=None,
            error=None,
            worker=worker,
            device=device,
            attempt=jobs.c.attempt + 1,
            version=jobs.c.version + 1,
            not_before=None,
            started_at=now,
            progress=None,
        )
        .returning(jobs)
    )


class Ownership(Access):
    """The worker's side of the store. Every method raises StoreError when the store is unusable
    (busy for half a minute, or its disk full): try again, nothing was changed."""

    def claim(self, worker: str, device: str) -> Claim | None:
        """Take the next job that can start: highest priority, then oldest unless people gave it
        another place. None if there is none right now, or the queue or the device is stopped. The
        caller holds the device's lock. A variant of which the parent's result tells no folder is
        missing from `Claim.variants`."""
        now = self._clock()
        with self._write() as conn:
            if stopped(conn, device, now):
                return None
            shut = _shut_windows(conn, now)
            job = conn.execute(_take_next(worker, device, now, shut)).one_or_none()
            if job is None:
                return None
            conn.execute(
                insert(attempts).values(
                    job_id=job.id,
                    number=job.attempt,
                    worker=worker,
                    device=device,
                    boot_id=boot_id(),
                    started_at=now,
                )
            )
            change = ("queued", "starting")
            record_state(conn, job.id, job.attempt, change, reason=None, who=worker, now=now)
            folders = variant_folders(conn, self.paths, job.id, named_variants(job.spec))
        return Claim(job.id, job.ulid, job.attempt, worker, device, job.spec, folders)

    @contextmanager
    def _owned(self, claim: Claim, what: str) -> Iterator[tuple[Connection, JobRow | None]]:
        """A transaction on the claim's row; None, and a "fenced" event, once it is not ours."""
        with self._write() as conn:
            job = conn.execute(select(jobs).where(_fence_of(claim))).one_or_none()
            if job is None:
                self._record_fenced(conn, claim, what)
            yield conn, job

    def _record_fenced(self, conn: Connection, claim: Claim, what: str) -> None:
        if conn.execute(select(jobs.c.id).where(jobs.c.id == claim.job_id)).first():
            payload = {"write": what, "worker": claim.worker}
            record(conn, claim.job_id, claim.attempt, "fenced", payload, self._clock())

    def started(self, claim: Claim, pid: int, start_ticks: int) -> bool:
        """The child runs: starting -> running. False when fenced out."""
        with self._owned(claim, "started") as (conn, job):
            if job is None:
                return False
            now = self._clock()
            conn.execute(
                update(attempts)
                .where(attempts.c.job_id == job.id, attempts.c.number == job.attempt)
                .values(pid=pid, start_ticks=start_ticks)
            )
            move(conn, job, "running", who=claim.worker, now=now)
            return True

    def desired(self, claim: Claim) -> str | None:
        """What the person wants of the job: run, pause or cancel; None when fenced out. Cheap:
        takes no lock that a writer could wait for."""
        with self._read() as conn:
            query = select(jobs.c.desired).where(_fence_of(claim))
            found: str | None = conn.execute(query).scalar_one_or_none()
            return found

    def urgent(self, claim: Claim) -> bool:
        """Whether cancel was asked for a second time: skip the grace."""
        with self._read() as conn:
            query = select(jobs.c.urgent).where(_fence_of(claim))
            return bool(conn.execute(query).scalar_one_or_none())

    def acknowledge(self, claim: Claim, state: str) -> bool:
        """The worker acts on the wish: `state` is pausing or cancelling. Saying so twice is no
        mistake. False when fenced out. Raises Refused when the job cannot go there."""
        if state not in ("pausing", "cancelling"):
            raise ValueError(f"no acknowledgement: {state}")
        with self._owned(claim, "acknowledge") as (conn, job):
            if job is None:
                return False
            if job.state != state:
                move(conn, job, state, who=claim.worker, now=self._clock())
            return True

    def progress(self, claim: Claim, progress: dict[str, Any]) -> bool:
        """Replace the job's newest progress. False when fenced out."""
        with self._write() as conn:
            changed = conn.execute(
                update(jobs)
                .where(_fence_of(claim))
                .values(progress=progress, version=jobs.c.version + 1)
            )
            if changed.rowcount != 1:
                self._record_fenced(conn, claim, "progress")
            return changed.rowcount == 1

    def append(self, claim: Claim, facts: Sequence[tuple[str, dict[str, Any]]]) -> bool:
        """Keep facts as events (kind, payload), all or none. False when fenced out.

        A fact with `reused: false` is a finished unit of work: the job moves forward, and the
        attempts that it lost before no longer count against it.
        """
        with self._owned(claim, "append") as (conn, job):
            if job is None:
                return False
            now = self._clock()
            rows = [
                {
                    "job_id": job.id,
                    "attempt": job.attempt,
                    "at": now,
                    "kind": kind,
                    "payload": payload,
                }
                for kind, payload in facts
            ]
            if rows:
                conn.execute(insert(events), rows)
            lost = job.losses or job.reboots
            if lost and any(payload.get("reused") is False for _, payload in facts):
                forward = {"losses": 0, "reboots": 0, "version": job.version + 1}
                conn.execute(update(jobs).where(jobs.c.id == job.id).values(forward))
            return True

    def finish(
        self,
        claim: Claim,
        state: str,
        *,
        reason: str | None = None,
        error: str | None = None,
        result: dict[str, Any] | None = None,
        exit_code: int | None = None,
        not_before: float | None = None,
        signature: str | None = None,
    ) -> bool:
        """End the attempt: `state` is succeeded, failed, cancelled, paused or queued (again, not
        before `not_before`). Jobs that need a result which will not come are skipped with it.

        A job given back as queued or paused obeys what was wished of it meanwhile. Queued for a
        reason that is the job's own counts as a loss: the second in a row waits a minute, the third
        is quarantined. `signature` is what a failure has in common with others like it: three of
        them on one device within ten minutes stop the device. False when fenced out.
        """
        if state not in _ENDS:
            raise ValueError(f"no end of an attempt: {state}")
        with self._owned(claim, "finish") as (conn, job):
            if job is None or (state == "succeeded" and job.state == "starting"):
                return False
            end_attempt(
                conn,
                job,
                state,
                who=claim.worker,
                now=self._clock(),
                reason=reason,
                error=error,
                result=result,
                exit_code=exit_code,
                not_before=not_before,
                signature=signature,
            )
            return True

    def put_off(self, claim: Claim, *, reason: str, error: str, not_before: float) -> bool:
        """Give back a job that could not be started, until `not_before`. Nothing has run, so there
        was no attempt: a job that waits all night for video memory leaves no row a minute. What
        was wished of it meanwhile is done. False when fenced out."""
        with self._owned(claim, "put off") as (conn, job):
            if job is None or job.state != "starting":
                return False
            now = self._clock()
            if job.desired != "run":
                end_attempt(conn, job, "queued", who=claim.worker, now=now, reason=reason)
                return True
            move(
                conn, job, "queued", who=claim.worker, now=now, reason=reason, error=error,
                not_before=not_before, attempt=job.attempt - 1,
            )  # fmt: skip
            for table, number in ((attempts, attempts.c.number), (events, events.c.attempt)):
                conn.execute(delete(table).where(table.c.job_id == job.id, number == job.attempt))
            return True

    def recover(
        self, worker: str, device: str, result_of: Callable[[str, int], dict[str, Any] | None]
    ) -> list[JobView]:
        """Settle the jobs that an earlier worker of this device left behind; the caller holds the
        device's lock, so none of them can still run.

        `result_of(ulid, attempt)` reads a complete result from disk. With one the job has
        succeeded; else a wish to cancel or pause is done; else the attempt is lost, and the job is
        queued again at its old place (after a minute from the second loss in a row on) or, after
        the third, quarantined.
        """
        left = and_(jobs.c.device == device, jobs.c.worker != worker, jobs.c.state.in_(LIVE))
        booted = (
            select(attempts.c.boot_id)
            .where(attempts.c.job_id == jobs.c.id, attempts.c.number == jobs.c.attempt)
            .scalar_subquery()
        )
        with self._read() as conn:
            query = select(jobs, booted.label("boot_id")).where(left).order_by(jobs.c.id)
            found = conn.execute(query).all()
        for lost in found:
            result = result_of(lost.ulid, lost.attempt)  # reads the disk: outside any transaction
            with self._write() as conn:
                fence = _fence(lost.id, lost.attempt, lost.worker)
                job = conn.execute(select(jobs).where(fence)).one_or_none()
                if job is None:
                    continue
                now = self._clock()
                if result is not None:
                    end_attempt(conn, job, "succeeded", who=worker, now=now, result=result)
                else:
                    cause = "worker_lost" if lost.boot_id == boot_id() else "host_reboot"
                    end_attempt(conn, job, "queued", who=worker, now=now, reason=cause)
        with self._read() as conn:
            query = select(jobs).where(jobs.c.id.in_([job.id for job in found])).order_by(jobs.c.id)
            return view_jobs(conn, conn.execute(query).all(), self.paths, self._clock())

    def beat(self, worker: WorkerView) -> None:
        """Describe the worker; it replaces the device's earlier one. `alive` is not stored."""
        columns = {column.name: getattr(worker, column.name) for column in workers.columns}
        with self._write() as conn:
            conn.execute(delete(workers).where(workers.c.device == worker.device))
            conn.execute(delete(workers).where(workers.c.id == worker.id))
            conn.execute(insert(workers).values(columns))

    def forget_worker(self, worker_id: str) -> None:
        """The worker has ended as it should."""
        with self._write() as conn:
            conn.execute(delete(workers).where(workers.c.id == worker_id))
