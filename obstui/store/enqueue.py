"""Jobs as they enter the queue: one, or a whole sweep, in one transaction."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from obstui.config import Paths
from obstui.lookup import check_there
from obstui.matrix import MAX_JOBS
from obstui.options import JobOptions, NewJob
from obstui.recorded import at_home
from obstui.specs import (
    SPEC_VERSION,
    JobSpec,
    NoSuchModel,
    parse,
    parse_variant_id,
    variant_id,
)
from obstui.store.connection import Access
from obstui.store.errors import NotFound, Refused
from obstui.store.reader import view_jobs
from obstui.store.tables import dependencies, events, jobs, sweeps
from obstui.store.transitions import BROKEN, JobRow, find, record_state
from obstui.store.views import WAITING, JobView
from obstui.text import one_line

MAX_WAITING = 10_000
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
            _check_model(find(conn, named[0]), ref, spec)
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
    if parent.kind not in ("prune", "import"):
        raise NotFound(
            f"There is no variant {ref}: job {job_id} is of kind {parent.kind}, "
            "and only prune and import jobs make variants."
        )
    made = promised(parent)
    if made is not None and sparsity not in made:
        if _was_removed(conn, job_id, sparsity):
            raise NotFound(
                f"The variant {ref} was deleted: obstui show {job_id} --yaml is the job that makes "
                "it anew."
            )
        names = ", ".join(variant_id(job_id, level) for level in made)
        has = f"job {job_id} makes {names}" if names else f"those of job {job_id} were removed"
        raise NotFound(f"There is no variant {ref}: {has}.")
    if parent.state in BROKEN:
        raise Refused(
            f"The variant {ref} will not be made: job {job_id} is {parent.state}; retry it first."
        )
    return job_id


def _was_removed(conn: Connection, job_id: int, sparsity: float) -> bool:
    removed = select(events.c.payload).where(
        events.c.job_id == job_id, events.c.kind == "variant_removed"
    )
    told = conn.execute(removed).scalars()
    return (job_id, sparsity) in (parse_variant_id(payload["variant"]) for payload in told)


def _check_model(maker: JobRow, ref: str, spec: JobSpec) -> None:
    """Raises Refused for a variant of the demo model in another model, or the reverse. Two names
    that are not "demo" may well stand for one model: the job itself compares the architectures."""
    model = getattr(spec, "model", None)
    cut_from = maker.spec.get("model") or maker.spec.get("base")
    if model and cut_from and model != cut_from and "demo" in (model, cut_from):
        raise Refused(
            f"The variant {ref} is cut from {one_line(cut_from, limit=120)}, this job's model is "
            f"{one_line(model, limit=120)}: give the same --model."
        )


def promised(job: JobRow) -> list[float] | None:
    """The sparsities of the variants that a job has made and that are still there, or else will
    make. None while nobody can tell: what an import makes is known once the file was read."""
    made = (job.result or {}).get("variants")
    if made is None:
        levels = job.spec.get("sparsity")
        return None if levels is None else [round(level, 4) for level in levels]
    return [round(variant["sparsity"], 4) for variant in made]


def depend(conn: Connection, job_id: int, on: Sequence[int]) -> None:
    """Have a job wait for others; replaces what it waited for."""
    conn.execute(delete(dependencies).where(dependencies.c.job_id == job_id))
    if on:
        rows = [{"job_id": job_id, "parent_id": parent} for parent in on]
        conn.execute(insert(dependencies), rows)


def variant_folders(
    conn: Connection, paths: Paths, job_id: int, refs: Sequence[str]
) -> dict[str, str]:
    """Each variant the spec names, and its folder: from its parent's result, or as it was given."""
    query = (
        select(jobs.c.ulid, jobs.c.result)
        .join(dependencies, dependencies.c.parent_id == jobs.c.id)
        .where(dependencies.c.job_id == job_id)
    )
    made = {
        parse_variant_id(variant["id"]): variant["path"]
        for parent in conn.execute(query).all()
        for variant in (at_home(paths, parent.ulid, parent.result) or {}).get("variants", ())
        if "id" in variant and "path" in variant
    }
    folders = {}
    for ref in refs:
        named = parse_variant_id(ref)
        if named is None:
            folders[ref] = ref
        elif named in made:
            folders[ref] = made[named]
    return folders


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

        Raises NotFound (no such variant), NoSuchModel (its files are gone) and Refused (it will
        never be made; too many jobs wait).
        """
        given = options or JobOptions(priority=priority, held=held)
        return self.enqueue_all([NewJob(spec, given)])[0]

    def enqueue_all(
        self, new: Sequence[NewJob], *, sweep: str | None = None, keep: bool = True
    ) -> list[JobView]:
        """Queue several jobs, all or none; with `sweep`, as one sweep of that name. Without `keep`
        none: it is only tried.

        Raises NotFound, NoSuchModel, Refused as `enqueue` does, and when there are too many at
        once.
        """
        if len(new) > MAX_JOBS:
            raise Refused(
                f"{len(new):,} jobs at once are too many: {MAX_JOBS:,} are the most, split them."
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
                try:
                    ids.append(self._insert(conn, job, ids, sweep_id))
                except (NotFound, NoSuchModel, Refused) as err:
                    if not job.origin:
                        raise
                    raise type(err)(f"{job.origin}: {err}") from None
            rows = [find(conn, job_id) for job_id in ids]
            # Inside the transaction: nothing may fail after the commit, or the caller would ask
            # again.
            views = view_jobs(conn, rows, self.paths, self._clock())
            if not keep:
                conn.rollback()
            return views

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
        for ref, folder in variant_folders(conn, self.paths, job_id, spec.variant_refs).items():
            if self.paths.owns(Path(folder)):  # what lies elsewhere may come back, as a disk does
                check_there(ref, Path(folder))
        record_state(conn, job_id, 0, (None, state), reason=reason, who="user", now=now)
        return job_id
