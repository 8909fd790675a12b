"""Jobs as they enter the queue: one, or a whole sweep, in one transaction."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from obstui.options import JobOptions, NewJob
from obstui.specs import (
    SPEC_VERSION,
    JobSpec,
    parse,
    parse_variant_id,
    percent,
)
from obstui.store.connection import Access
from obstui.store.errors import NotFound, Refused
from obstui.store.reader import view_jobs
from obstui.store.tables import dependencies, jobs, sweeps
from obstui.store.transitions import BROKEN, find, record_state
from obstui.store.views import WAITING, JobView
from obstui.text import one_line

MAX_WAITING = 10_000
MAX_SWEEP = 2_000
MAX_SPEC_BYTES = 4 << 20
"""Room for 10,000 captions; not for a book."""
MAX_PRIORITY = 1_000_000

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SIBLING = re.compile(r"^#(?P<index>\d+)(?P<rest>@.*)?$", re.DOTALL)


def ulid() -> str:
    """A new ULID: 48 bits of milliseconds and 80 random bits, as 26 letters that sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


def frozen(spec: JobSpec) -> dict[str, Any]:
    """The columns that hold a spec. Raises Refused when it is too large."""
    data = spec.model_dump(mode="json")
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    if len(canonical) > MAX_SPEC_BYTES:
        raise Refused(
            f"The job's settings and prompts are larger than {MAX_SPEC_BYTES >> 20} MiB: "
            "take fewer prompts."
        )
    return {
        "kind": spec.kind,
        "name": one_line(spec.name or spec.title, limit=120),
        "spec": data,
        "spec_version": SPEC_VERSION,
        "spec_hash": hashlib.sha256(canonical.encode()).hexdigest(),
    }


def check_priority(priority: int) -> None:
    """Raises Refused."""
    if abs(priority) > MAX_PRIORITY:
        raise Refused(f"The priority must lie between -{MAX_PRIORITY:,} and {MAX_PRIORITY:,}.")


def parents(conn: Connection, spec: JobSpec, after: Sequence[str] = ()) -> list[int]:
    """The jobs that must succeed first: those that make the variants which `spec` names by id, and
    those in `after`. Raises NotFound, Refused."""
    found = set()
    for ref in spec.variant_refs:
        named = parse_variant_id(ref)
        if named is not None:
            found.add(_maker(conn, ref, *named))
    for name in after:
        parent = find(conn, int(name))
        if parent.state in BROKEN:
            raise Refused(f"Job {parent.id} is {parent.state}: retry it first, or leave it out.")
        found.add(parent.id)
    return sorted(found)


def _maker(conn: Connection, ref: str, job_id: int, sparsity: float) -> int:
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
            f"The variant {ref} will not be made: job {job_id} is {parent.state}; retry it first."
        )
    return job_id


def depend(conn: Connection, job_id: int, on: Sequence[int]) -> None:
    """Have a job wait for others; replaces what it waited for."""
    conn.execute(delete(dependencies).where(dependencies.c.job_id == job_id))
    if on:
        rows = [{"job_id": job_id, "parent_id": parent} for parent in on]
        conn.execute(insert(dependencies), rows)


def _named(ref: str, ids: Sequence[int]) -> str:
    """A reference with the id of the job of this request in place of its index."""
    match = _SIBLING.match(ref)
    if match is None:
        return ref
    index = int(match["index"])
    if index >= len(ids):
        raise Refused(f"A job can only need jobs before it, and {ref} is none.")
    return f"{ids[index]}{match['rest'] or ''}"


def _with_ids(spec: JobSpec, ids: Sequence[int]) -> JobSpec:
    refs = spec.variant_refs
    named = [_named(ref, ids) for ref in refs]
    if named == [*refs]:
        return spec
    one = "variant" in type(spec).model_fields
    return parse({**spec.model_dump(), **({"variant": named[0]} if one else {"variants": named})})


class Enqueueing(Access):
    """How jobs come to be."""

    def enqueue(
        self,
        spec: JobSpec,
        *,
        priority: int = 0,
        held: bool = False,
        options: JobOptions | None = None,
    ) -> JobView:
        """Queue a job; on disk when this returns. A job that names variants by id ("12@30") starts
        only after the jobs that make them. `options`, if given, are the whole of them.

        Raises NotFound (no such variant) and Refused (it will never be made; too many jobs wait).
        """
        given = options or JobOptions(priority=priority, held=held)
        return self.enqueue_all([NewJob(spec, given)])[0]

    def enqueue_all(self, new: Sequence[NewJob], *, sweep: str | None = None) -> list[JobView]:
        """Queue several jobs, all or none; with `sweep`, as one sweep of that name.

        Raises NotFound, Refused as `enqueue` does, and when there are too many at once.
        """
        if len(new) > MAX_SWEEP:
            raise Refused(
                f"{len(new):,} jobs at once are too many: {MAX_SWEEP:,} are the most, split them."
            )
        for job in new:
            check_priority(job.options.priority)
        with self._write() as conn:
            waiting = conn.execute(
                select(func.count()).where(jobs.c.state.in_(WAITING))
            ).scalar_one()
            if waiting + len(new) > MAX_WAITING:
                raise Refused(
                    f"{waiting:,} jobs wait already, and {MAX_WAITING:,} are the most: "
                    "cancel some first."
                )
            sweep_id = None
            if sweep is not None:
                row = {"name": one_line(sweep, limit=120), "created_at": self._clock()}
                sweep_id = conn.execute(insert(sweeps).values(row).returning(sweeps.c.id)).scalar()
            ids: list[int] = []
            for job in new:
                ids.append(self._insert(conn, job, ids, sweep_id))
            rows = [find(conn, job_id) for job_id in ids]
            # Inside the transaction: nothing may fail after the commit, or the caller would ask
            # again.
            return view_jobs(conn, rows, self.paths, self._clock())

    def _insert(
        self, conn: Connection, job: NewJob, ids: Sequence[int], sweep_id: int | None
    ) -> int:
        spec, options = _with_ids(job.spec, ids), job.options
        state, reason = ("held", "user") if options.held else ("queued", None)
        now = self._clock()
        needs = parents(conn, spec, [_named(name, ids) for name in options.after])
        job_id: int = conn.execute(
            insert(jobs)
            .values(
                ulid=ulid(),
                **frozen(spec),
                priority=options.priority,
                window=options.window,
                max_runtime=options.max_runtime,
                sweep_id=sweep_id,
                state=state,
                reason=reason,
                desired="run",
                urgent=False,
                attempt=0,
                losses=0,
                version=1,
                created_at=now,
            )
            .returning(jobs.c.id)
        ).scalar_one()
        depend(conn, job_id, needs)
        record_state(conn, job_id, 0, (None, state), reason=reason, who="user", now=now)
        return job_id
