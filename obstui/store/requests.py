"""What people ask of jobs that are in the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from obstui import matrix
from obstui.options import JobOptions, job_options
from obstui.recorded import at_home
from obstui.specs import (
    BadSpec,
    JobSpec,
    named_variants,
    parse,
    parse_variant_id,
    percent,
    uses_all,
    variant_id,
)
from obstui.store.connection import Access
from obstui.store.enqueue import check_priority, depend, frozen, parents
from obstui.store.errors import NotFound, Refused
from obstui.store.reader import view_jobs
from obstui.store.tables import dependencies, jobs, sweeps
from obstui.store.transitions import (
    BROKEN,
    JobRow,
    broken_parents,
    check_unneeded,
    find,
    move,
    record,
    unfinished_children,
    wish,
)
from obstui.store.views import LIVE, TERMINAL, WAITING, JobView
from obstui.text import one_line


class Requests(Access):
    """The people's side of the store. Every method raises StoreError when the store is unusable."""

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

    def pause(self, job_id: int, *, begun: bool = True) -> JobView:
        """Hold a queued job, or have a live one save its work and free the device. Pausing what is
        paused changes nothing. Raises NotFound; Refused when it is over or being cancelled, and,
        unless those that have `begun` are meant, too, when it is live."""
        with self._write() as conn:
            job, now = find(conn, job_id), self._clock()
            if job.state == "queued":
                move(conn, job, "held", who="user", now=now, reason="user")
            elif job.state in LIVE and not begun:
                raise Refused(f"Job {job_id} has begun.")
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

    def retry(self, job_id: int, changes: Mapping[str, Any] | None = None) -> JobView:
        """Queue a failed, cancelled, skipped or quarantined job again, at its old place, and
        with it the jobs that were skipped because of it. Finished work on disk is used again where
        it fits. `changes` are fields of its spec or of its options (window, max_runtime).

        Raises NotFound; Refused when there is nothing to retry, a job it needs must come first, or
        another job needs what it would no longer make; BadSpec when the changes make no job.
        """
        with self._write() as conn:
            job = find(conn, job_id)
            if job.state not in BROKEN:
                if job.state != "succeeded":
                    raise Refused(f"Job {job_id} is {job.state}: it is not over.")
                raise Refused(
                    f"Job {job_id} is succeeded: queue it anew from obstui show {job_id} --yaml."
                )
            if changes:
                job = self._change(conn, job, changes)
            self._requeue(conn, job, self._clock())
            return self._view(conn, job_id)

    def _change(self, conn: Connection, job: JobRow, changes: Mapping[str, Any]) -> JobRow:
        options = {name: changes[name] for name in ("window", "max_runtime") if name in changes}
        fields = {name: value for name, value in changes.items() if name not in options}
        if "kind" in fields:
            raise BadSpec(f"Job {job.id} is a {job.kind} job and stays one: queue another instead.")
        kept = dict(job.spec)
        if "prompts" in fields and uses_all(kept):
            del kept["num_prompts"]
        spec = parse({**kept, **fields})
        if "name" not in fields:
            name = matrix.renamed(job.spec, spec.model_dump(mode="json"))
            spec = spec.model_copy(update={"name": name})
        said = job_options(options)
        needs = set(parents(conn, spec)) | _needed_besides_variants(conn, job)
        _check_children(conn, job, spec.model_dump(mode="json"))
        depend(conn, job.id, sorted(needs))
        values = {**frozen(spec), **{name: getattr(said, name) for name in options}}
        conn.execute(
            update(jobs).where(jobs.c.id == job.id).values(**values, version=job.version + 1)
        )
        told = {"changed": sorted(changes), "spec_hash_before": job.spec_hash, "who": "user"}
        record(conn, job.id, job.attempt, "changed", told, self._clock())
        return find(conn, job.id)

    def edit(self, job_id: int, spec: JobSpec, options: JobOptions) -> JobView:
        """Replace all that a job was asked for before it has begun. It keeps its number, its kind
        and its place among those of its priority; what waits for it goes on waiting.

        Raises NotFound; Refused when it has begun, when it would make itself or a job that waits
        for it impossible, or when it would be of another kind.
        """
        check_priority(options.priority)
        with self._write() as conn:
            job, now = find(conn, job_id), self._clock()
            if job.state not in ("held", "queued") or job.attempt:
                raise Refused(f"Job {job_id} has begun or is over: queue a new one like it.")
            if spec.kind != job.kind:
                raise Refused(f"Job {job_id} is a {job.kind} job and stays one: queue another.")
            needs = parents(conn, spec, options.after)
            _check_circle(conn, job_id, needs)
            depend(conn, job_id, needs)
            said = options.model_dump(include={"priority", "window", "max_runtime"})
            values = {**frozen(spec), **said, "version": job.version + 1}
            conn.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            for child in unfinished_children(conn, job_id):
                try:
                    parents(conn, parse(child.spec))
                except (NotFound, Refused) as err:
                    raise Refused(f"Job {child.id} waits for job {job_id}: {err}") from None
            told = {"changed": ["all"], "spec_hash_before": job.spec_hash, "who": "user"}
            record(conn, job_id, job.attempt, "changed", told, now)
            if (state := "held" if options.held else "queued") != job.state:
                reason = "user" if options.held else None
                move(conn, find(conn, job_id), state, who="user", now=now, reason=reason)
            return self._view(conn, job_id)

    def _requeue(self, conn: Connection, job: JobRow, now: float) -> None:
        broken = broken_parents(conn, job.id)
        if broken:
            mend = "queue it anew" if broken[0].endswith("removed") else "retry that first"
            raise Refused(f"Job {job.id} cannot start, for {broken[0]}: {mend}.")
        fresh: dict[str, Any] = {"not_before": None, "losses": 0, "reboots": 0, "error": None}
        if job.state in BROKEN:
            fresh |= {"started_at": None, "progress": None, "result": None}
        move(conn, job, "queued", who="user", now=now, **fresh)

    def set_priority(self, job_id: int, priority: int) -> JobView:
        """Higher runs earlier. Raises NotFound; Refused when the job is over or the number huge."""
        check_priority(priority)
        with self._write() as conn:
            _set_priority(conn, find(conn, job_id), priority)
            return self._view(conn, job_id)

    def raise_priority(self, job_id: int, step: int) -> JobView:
        """Add to a job's priority. Raises NotFound; Refused when it is over or the number huge."""
        with self._write() as conn:
            job = find(conn, job_id)
            check_priority(job.priority + step)
            _set_priority(conn, job, job.priority + step)
            return self._view(conn, job_id)

    def place(self, job_id: int, *, before: int | None) -> JobView:
        """Move a waiting job right before another one, whose priority it takes; None: before all of
        its own priority. Raises NotFound; Refused unless both wait."""
        with self._write() as conn:
            job = find(conn, job_id)
            other = find(conn, before) if before is not None else None
            for row in filter(None, (job, other)):
                if row.state not in WAITING:
                    raise Refused(f"Job {row.id} is {row.state}: only waiting jobs have a place.")
            priority = other.priority if other else job.priority
            order = [row for row in _waiting_order(conn, priority) if row.id != job_id]
            ids = [row.id for row in order]
            index = ids.index(other.id) if other and other.id != job_id else 0
            if other is None or other.id != job_id:
                self._put(conn, job, order, index, priority)
            return self._view(conn, job_id)

    def shift(self, job_id: int, places: int) -> int:
        """Move a waiting job so many places later (negative: sooner) among those of its priority
        that wait as it does, as far as there are any. Returns how far it went. Raises NotFound;
        Refused unless it waits."""
        with self._write() as conn:
            job = find(conn, job_id)
            if job.state not in WAITING:
                raise Refused(f"Job {job_id} is {job.state}: only waiting jobs have a place.")
            order = _waiting_order(conn, job.priority)
            alike = [row.id for row in order if (row.state == "queued") == (job.state == "queued")]
            here = alike.index(job_id)
            there = max(0, min(here + places, len(alike) - 1))
            others = [row for row in order if row.id != job_id]
            if there != here:
                index = [row.id for row in others].index(alike[there]) + (there > here)
                self._put(conn, job, others, index, job.priority)
            return there - here

    def _put(
        self, conn: Connection, job: JobRow, order: Sequence[JobRow], index: int, priority: int
    ) -> None:
        below = order[index].place if index < len(order) else float(job.id)
        above = order[index - 1].place if index else below - 1.0
        place = (above + below) / 2
        if index and not above < place < below:
            # Halved too often: give all of them whole numbers again, none above a new job's id.
            last = conn.execute(select(func.max(jobs.c.id))).scalar_one()
            row_ids = [row.id for row in order]
            row_ids.insert(index, job.id)
            for number, row_id in enumerate(reversed(row_ids)):
                conn.execute(
                    update(jobs)
                    .where(jobs.c.id == row_id)
                    .values(rank=last - number, version=jobs.c.version + 1)
                )
            place = float(last - (len(row_ids) - 1 - index))
        conn.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(rank=place, priority=priority, version=jobs.c.version + 1)
        )

    def remove(self, job_id: int) -> JobView:
        """Forget a job that does not run and that no unfinished job needs: its row, attempts and
        events. Its files are the caller's business: it is told what was forgotten. Raises NotFound,
        Refused."""
        with self._write() as conn:
            job = find(conn, job_id)
            if job.state in LIVE:
                raise Refused(f"Job {job_id} is {job.state}: cancel it first.")
            check_unneeded(conn, job_id)
            self._check_own(f"Job {job_id}", self.paths.job(job.ulid))
            view = self._view(conn, job_id)
            conn.execute(delete(jobs).where(jobs.c.id == job_id))
            left = select(jobs.c.sweep_id).where(jobs.c.sweep_id == job.sweep_id)
            if job.sweep_id is not None and conn.execute(left).first() is None:
                conn.execute(delete(sweeps).where(sweeps.c.id == job.sweep_id))
            return view

    def forget_variant(self, job_id: int, sparsity: float) -> Path:
        """Take a variant out of what a job made, so that no new job can name it; its folder, which
        is the caller's business. Raises NotFound; Refused while an unfinished job needs it, or
        where its folder is not this state folder's own."""
        ref = variant_id(job_id, sparsity)
        with self._write() as conn:
            job = find(conn, job_id)
            made = (job.result or {}).get("variants") or []
            here = [v for v in made if round(v["sparsity"], 4) == sparsity]
            if not here:
                raise NotFound(f"There is no variant {ref}: obstui models ls lists them.")
            for child in unfinished_children(conn, job_id):
                if (job_id, sparsity) in map(parse_variant_id, named_variants(child.spec)):
                    raise Refused(f"Job {child.id} is {child.state} and needs {ref}: cancel it.")
            folder = Path(at_home(self.paths, job.ulid, here[0])["path"])
            self._check_own(ref, folder)
            left = {**job.result, "variants": [v for v in made if v not in here]}
            conn.execute(
                update(jobs).where(jobs.c.id == job_id).values(result=left, version=job.version + 1)
            )
            told = {"variant": ref, "who": "user"}
            record(conn, job_id, job.attempt, "variant_removed", told, self._clock())
            return folder

    def _check_own(self, what: str, folder: Path) -> None:
        """Refuse before the row goes what would delete another's files. Raises Refused."""
        if not self.paths.owns(folder):
            raise Refused(
                f"{what} has its files in {one_line(folder.resolve(), limit=300)}, outside the "
                f"state folder {one_line(self.paths.home, limit=300)}: what is there is not "
                "obstui's to delete."
            )

    def _view(self, conn: Connection, job_id: int) -> JobView:
        # Inside the transaction: nothing may fail after the commit, or the caller would ask again.
        return view_jobs(conn, [find(conn, job_id)], self.paths, self._clock())[0]


def _check_circle(conn: Connection, job_id: int, needs: Sequence[int]) -> None:
    """Refuse to wait for what waits for the job itself. Raises Refused."""
    seen: set[int] = set()
    ahead = list(needs)
    while ahead:
        parent = ahead.pop()
        if parent == job_id:
            raise Refused(f"Job {job_id} cannot wait for itself, nor for what waits for it.")
        if parent not in seen:
            seen.add(parent)
            query = select(dependencies.c.parent_id).where(dependencies.c.job_id == parent)
            ahead += conn.execute(query).scalars().all()


def _set_priority(conn: Connection, job: JobRow, priority: int) -> None:
    if job.state in TERMINAL:
        raise Refused(f"Job {job.id} is {job.state}: its priority no longer matters.")
    conn.execute(
        update(jobs).where(jobs.c.id == job.id).values(priority=priority, version=job.version + 1)
    )


def _waiting_order(conn: Connection, priority: int) -> Sequence[JobRow]:
    """Waiting jobs of one priority in the order in which they will start."""
    place = func.coalesce(jobs.c.rank, jobs.c.id).label("place")
    query = (
        select(jobs.c.id, jobs.c.state, place)
        .where(jobs.c.state.in_(WAITING), jobs.c.priority == priority)
        .order_by(place, jobs.c.id)
    )
    return list(conn.execute(query).all())  # type: ignore[arg-type]


def _needed_besides_variants(conn: Connection, job: JobRow) -> set[int]:
    """The jobs that a job waits for without naming a variant of theirs."""
    query = select(dependencies.c.parent_id).where(dependencies.c.job_id == job.id)
    refs = map(parse_variant_id, named_variants(job.spec))
    made_by = {named[0] for named in refs if named}
    return set(conn.execute(query).scalars().all()) - made_by


def _check_children(conn: Connection, job: JobRow, spec: Mapping[str, Any]) -> None:
    """Refuse to change what other jobs count on. Raises Refused."""
    query = (
        select(jobs.c.id, jobs.c.spec)
        .join(dependencies, dependencies.c.job_id == jobs.c.id)
        .where(dependencies.c.parent_id == job.id, jobs.c.state.not_in(("succeeded", "cancelled")))
    )
    for child in conn.execute(query).all():
        for ref in named_variants(child.spec):
            named = parse_variant_id(ref)
            levels = spec.get("sparsity")
            if named and named[0] == job.id and levels and named[1] not in levels:
                raise Refused(
                    f"Job {child.id} needs {ref}: keep {percent(named[1])} % among the sparsities, "
                    f"or cancel job {child.id} first."
                )
