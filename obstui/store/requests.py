"""What people ask of the queue."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from obstui.specs import (
    SPEC_VERSION,
    CompareSpec,
    GenerateSpec,
    PruneSpec,
    parse_variant_id,
    percent,
)
from obstui.store.connection import Access
from obstui.store.errors import NotFound, Refused
from obstui.store.reader import view_jobs
from obstui.store.tables import dependencies, jobs
from obstui.store.transitions import (
    BROKEN,
    JobRow,
    broken_parents,
    depended_on,
    find,
    move,
    record_state,
    wish,
)
from obstui.store.views import LIVE, TERMINAL, WAITING, JobView
from obstui.text import one_line

MAX_WAITING = 10_000
MAX_PRIORITY = 1_000_000

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid() -> str:
    """A new ULID: 48 bits of milliseconds and 80 random bits, as 26 letters that sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def _parents(conn: Connection, refs: tuple[str, ...]) -> list[int]:
    """The jobs that make the variants named by id. Raises NotFound, Refused."""
    found = set()
    for ref in refs:
        named = parse_variant_id(ref)
        if named is None:
            continue
        job_id, sparsity = named
        try:
            parent = find(conn, job_id)
        except NotFound:
            raise NotFound(f"There is no variant {ref}: no job {job_id} exists.") from None
        if parent.kind != "prune":
            raise NotFound(
                f"There is no variant {ref}: job {job_id} is a {parent.kind} job, "
                "and only prune jobs make variants."
            )
        levels = parent.spec["sparsity"]
        if sparsity not in [round(level, 4) for level in levels]:
            made = ", ".join(f"{job_id}@{percent(level)}" for level in levels)
            raise NotFound(f"There is no variant {ref}: job {job_id} makes {made}.")
        if parent.state in BROKEN:
            raise Refused(
                f"The variant {ref} will not be made: job {job_id} is {parent.state}; "
                "retry it first."
            )
        found.add(job_id)
    return sorted(found)


class Requests(Access):
    """The people's side of the store. Every method raises StoreError when the store is unusable."""

    def enqueue(
        self,
        spec: PruneSpec | GenerateSpec | CompareSpec,
        *,
        priority: int = 0,
        held: bool = False,
    ) -> JobView:
        """Queue a job; on disk when this returns. A job that names variants by id ("12@30") starts
        only after the jobs that make them.

        Raises NotFound (no such variant) and Refused (it will never be made; too many jobs wait).
        """
        data = spec.model_dump(mode="json")
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        state, now = ("held" if held else "queued"), self._clock()
        _check_priority(priority)
        with self._write() as conn:
            waiting = select(func.count()).where(jobs.c.state.in_(WAITING))
            if conn.execute(waiting).scalar_one() >= MAX_WAITING:
                raise Refused(f"{MAX_WAITING:,} jobs wait already: cancel some first.")
            parents = _parents(conn, spec.variant_refs)
            job_id: int = conn.execute(
                insert(jobs)
                .values(
                    ulid=ulid(),
                    kind=spec.kind,
                    name=one_line(spec.name or spec.title, limit=120),
                    spec=data,
                    spec_version=SPEC_VERSION,
                    spec_hash=hashlib.sha256(canonical.encode()).hexdigest(),
                    priority=priority,
                    state=state,
                    desired="run",
                    urgent=False,
                    attempt=0,
                    losses=0,
                    version=1,
                    created_at=now,
                )
                .returning(jobs.c.id)
            ).scalar_one()
            if parents:
                rows = [{"job_id": job_id, "parent_id": parent} for parent in parents]
                conn.execute(insert(dependencies), rows)
            record_state(conn, job_id, 0, (None, state), reason=None, who="user", now=now)
            return self._view(conn, job_id)

    def cancel(self, job_id: int) -> JobView:
        """End a job: at once while it waits; through its worker while it lives. Asking a second
        time tells the worker to skip the grace. Raises NotFound; Refused when it is over."""
        with self._write() as conn:
            job, now = find(conn, job_id), self._clock()
            if job.state in LIVE:
                wish(conn, job, "cancel", who="user", now=now)
            elif job.state in TERMINAL:
                raise Refused(f"Job {job_id} is {job.state} already: there is nothing to cancel.")
            else:
                move(conn, job, "cancelled", who="user", now=now, reason="user")
            return self._view(conn, job_id)

    def pause(self, job_id: int) -> JobView:
        """Hold a queued job, or have a live one save its work and free the device. Pausing what is
        paused changes nothing. Raises NotFound; Refused when it is over or being cancelled."""
        with self._write() as conn:
            job, now = find(conn, job_id), self._clock()
            if job.state == "queued":
                move(conn, job, "held", who="user", now=now, reason="user")
            elif job.state in LIVE and job.desired == "run":
                wish(conn, job, "pause", who="user", now=now)
            elif job.state in TERMINAL:
                raise Refused(f"Job {job_id} is {job.state} already: there is nothing to pause.")
            elif job.desired == "cancel":
                raise Refused(f"Job {job_id} is being cancelled: it cannot be paused.")
            return self._view(conn, job_id)

    def resume(self, job_id: int) -> JobView:
        """Queue a held or paused job again, or take back a pause that is under way. Resuming what
        runs or is queued changes nothing. Raises NotFound; Refused when the job is over, being
        cancelled, or needs a variant that will not be made."""
        with self._write() as conn:
            job, now = find(conn, job_id), self._clock()
            if job.state in ("held", "paused"):
                self._requeue(conn, job, now)
            elif job.state in LIVE and job.desired == "pause":
                wish(conn, job, "run", who="user", now=now)
            elif job.state in TERMINAL:
                mend = "" if job.state == "succeeded" else ": retry it instead"
                raise Refused(f"Job {job_id} is {job.state}{mend}.")
            elif job.desired == "cancel":
                raise Refused(f"Job {job_id} is being cancelled: retry it once that is done.")
            return self._view(conn, job_id)

    def retry(self, job_id: int) -> JobView:
        """Queue a failed, cancelled, skipped or quarantined job again, at its old place, and
        with it the jobs that were skipped because of it. Finished work on disk is used again.

        Raises NotFound; Refused when there is nothing to retry or a job it needs must come first.
        """
        with self._write() as conn:
            job = find(conn, job_id)
            if job.state not in BROKEN:
                mend = "queue it anew" if job.state == "succeeded" else "it is not over"
                raise Refused(f"Job {job_id} is {job.state}: {mend}.")
            self._requeue(conn, job, self._clock())
            return self._view(conn, job_id)

    def _requeue(self, conn: Connection, job: JobRow, now: float) -> None:
        broken = broken_parents(conn, job.id)
        if broken:
            mend = "queue it anew" if broken[0].endswith("removed") else "retry that first"
            raise Refused(f"Job {job.id} needs the result of {broken[0]}: {mend}.")
        fresh: dict[str, Any] = {"not_before": None, "losses": 0, "error": None}
        if job.state in BROKEN:
            fresh |= {"started_at": None, "progress": None, "result": None}
        move(conn, job, "queued", who="user", now=now, **fresh)

    def set_priority(self, job_id: int, priority: int) -> JobView:
        """Higher runs earlier. Raises NotFound; Refused when the job is over or the number huge."""
        _check_priority(priority)
        with self._write() as conn:
            job = find(conn, job_id)
            if job.state in TERMINAL:
                raise Refused(f"Job {job_id} is {job.state}: its priority no longer matters.")
            conn.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(priority=priority, version=job.version + 1)
            )
            return self._view(conn, job_id)

    def remove(self, job_id: int) -> None:
        """Forget a job that does not run and that no unfinished job needs: its row, attempts and
        events. Its files are the caller's business. Raises NotFound, Refused."""
        with self._write() as conn:
            job = find(conn, job_id)
            if job.state in LIVE:
                raise Refused(f"Job {job_id} is {job.state}: cancel it first.")
            if depended_on(conn, job_id):
                raise Refused(f"Job {job_id} is needed by an unfinished job: cancel that first.")
            conn.execute(delete(jobs).where(jobs.c.id == job_id))

    def _view(self, conn: Connection, job_id: int) -> JobView:
        # Inside the transaction: nothing may fail after the commit, or the caller would ask again.
        return view_jobs(conn, [find(conn, job_id)], self.paths, self._clock())[0]


def _check_priority(priority: int) -> None:
    if abs(priority) > MAX_PRIORITY:
        raise Refused(f"The priority must lie between -{MAX_PRIORITY:,} and {MAX_PRIORITY:,}.")
