"""The store against a small model of it: any order of requests, workers and losses."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from obstui.config import Paths
from obstui.options import JobOptions, NewJob
from obstui.specs import BadSpec, CompareSpec, PruneSpec
from obstui.store import LIVE, TERMINAL, Claim, NotFound, Reader, Refused, Store
from obstui.windows import is_open

DEVICES = ("cpu", "gpu")
JOB = st.integers(0, 5)


class StoreMachine(RuleBasedStateMachine):
    """The model knows each job's owner and when it must stop; the rest is checked as invariants."""

    @initialize()
    def open(self) -> None:
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        home = Path(self.folder.name)
        self.paths = Paths(home, home / "jobs.db")
        self.now = 1_800_000_000.0
        self.store = Store.open(self.paths, clock=lambda: self.now)
        self.reader = Reader.open(self.paths, clock=lambda: self.now)
        self.workers = dict.fromkeys(DEVICES, 0)
        self.claims: dict[str, Claim] = {}
        self.stale: list[Claim] = []
        self.succeeded: set[int] = set()
        self.parents: dict[int, int] = {}

    def teardown(self) -> None:
        self.store.close()
        self.reader.close()
        self.folder.cleanup()

    def pick(self, index: int) -> int | None:
        jobs = self.reader.jobs(newest_first=False)
        return jobs[index % len(jobs)].id if jobs else None

    def name(self, device: str) -> str:
        return f"{device}-{self.workers[device]}"

    def order(self) -> list[tuple[int, int]]:
        """Waiting jobs as they will start: (priority, id)."""
        with closing(sqlite3.connect(self.paths.db)) as conn:
            return conn.execute(
                "SELECT priority, id FROM job WHERE state IN ('held', 'queued', 'paused')"
                " ORDER BY priority DESC, coalesce(rank, id), id"
            ).fetchall()

    @rule(
        priority=st.integers(-1, 1),
        held=st.booleans(),
        window=st.sampled_from([None, "00:00-12:00 UTC", "23:00-07:00 Europe/Berlin"]),
    )
    def enqueue(self, priority: int, held: bool, window: str | None) -> None:
        options = JobOptions(priority=priority, held=held, window=window)
        self.store.enqueue(PruneSpec(), options=options)

    @rule(size=st.integers(1, 3), fits=st.booleans())
    def enqueue_a_sweep(self, size: int, fits: bool) -> None:
        new = [NewJob(PruneSpec())] * size
        needs = CompareSpec(variants=(f"#{size - 1}@{20 if fits else 30}",))
        before = len(self.reader.jobs())
        try:
            *_, child = self.store.enqueue_all([*new, NewJob(needs)], sweep="s")
        except NotFound:
            assert not fits
            assert len(self.reader.jobs()) == before
        else:
            assert fits
            self.parents[child.id] = child.id - 1
            assert len(self.reader.jobs(sweep=child.sweep_id)) == size + 1

    @rule(index=JOB, before=JOB, first=st.booleans())
    def place(self, index: int, before: int, first: bool) -> None:
        waiting = self.order()
        if not waiting:
            return
        priority, job_id = waiting[index % len(waiting)]
        to, other = waiting[before % len(waiting)]
        rest = [row for row in waiting if row[1] != job_id]
        if first:
            self.store.place(job_id, before=None)
            at = next((n for n, row in enumerate(rest) if row[0] <= priority), len(rest))
            to = priority
        else:
            self.store.place(job_id, before=other)
            at = waiting.index((priority, job_id)) if other == job_id else rest.index((to, other))
        rest.insert(at, (to, job_id))
        assert self.order() == rest

    @rule(index=JOB, damping=st.sampled_from([0.05, 7.0]))
    def retry_changed(self, index: int, damping: float) -> None:
        job_id = self.pick(index)
        before = self.reader.job(job_id) if job_id else None
        if job_id is None or before is None or before.kind != "prune":
            return
        try:
            after = self.store.retry(job_id, {"damping": damping})
        except (Refused, BadSpec):
            assert self.reader.job(job_id) == before
        else:
            assert damping == 0.05
            assert (after.state, after.spec["damping"]) == ("queued", 0.05)

    @rule(scope=st.sampled_from([*DEVICES, "*"]), seconds=st.sampled_from([None, 60.0]))
    def stop(self, scope: str, seconds: float | None) -> None:
        self.store.stop(scope, "test", until=None if seconds is None else self.now + seconds)

    @rule(scope=st.sampled_from([*DEVICES, "*"]))
    def go(self, scope: str) -> None:
        self.store.go(scope)

    @rule(index=JOB)
    def enqueue_a_child(self, index: int) -> None:
        parent = self.pick(index)
        view = self.reader.job(parent) if parent else None
        if view is None or view.kind != "prune":
            return
        try:
            child = self.store.enqueue(CompareSpec(variants=(f"{parent}@20",)))
        except Refused:
            assert view.state in TERMINAL
            assert view.state != "succeeded"
        else:
            self.parents[child.id] = view.id

    @rule(index=JOB, ask=st.sampled_from(["cancel", "pause", "resume", "retry"]))
    def ask(self, index: int, ask: str) -> None:
        job_id = self.pick(index)
        if job_id is None:
            return
        before = self.reader.job(job_id)
        try:
            after = getattr(self.store, ask)(job_id)
        except Refused:
            assert self.reader.job(job_id) == before
            return
        assert before is not None
        if before.live:  # only the owner writes the state
            assert after.state == before.state

    @rule(device=st.sampled_from(DEVICES))
    def claim(self, device: str) -> None:
        if device in self.claims:
            return
        startable = [
            job
            for job in self.reader.jobs(states=["queued"], newest_first=False)
            if job.blocked in (None, "no worker is running")
        ]
        order = [job_id for _, job_id in self.order()]
        stopped = {stop.scope for stop in self.reader.stops()} & {device, "*"}
        claim = self.store.claim(self.name(device), device)
        if claim is None:
            assert stopped or not startable
            return
        assert not stopped
        assert claim.job_id == min(startable, key=lambda job: order.index(job.id)).id
        view = self.reader.job(claim.job_id)
        assert view is not None
        assert view.window is None or is_open(view.window, self.now)
        assert claim.job_id not in {other.job_id for other in self.claims.values()}
        self.claims[device] = claim
        if self.store.desired(claim) == "run":
            assert self.store.started(claim, 1, 2)

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        end=st.sampled_from(["succeeded", "failed", "queued", "obey"]),
        reason=st.sampled_from(["drain", "segfault", "host_reboot", "window"]),
    )
    def finish(self, data: st.DataObject, end: str, reason: str) -> None:
        device = data.draw(st.sampled_from(sorted(self.claims)))
        claim = self.claims.pop(device)
        wish = self.store.desired(claim)
        if end == "obey":
            states = {"cancel": "cancelling", "pause": "pausing"}
            if wish in states:
                assert self.store.acknowledge(claim, states[wish])
            end = {"cancel": "cancelled", "pause": "paused"}.get(str(wish), "queued")
        assert self.store.finish(claim, end, reason=None if end == "succeeded" else reason)
        self.stale.append(claim)
        view = self.reader.job(claim.job_id)
        assert view is not None
        assert not view.live
        if end == "succeeded":
            assert view.state == "succeeded"
        elif wish == "cancel" and end != "failed":
            assert view.state == "cancelled"

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), published=st.booleans())
    def lose_the_worker(self, data: st.DataObject, published: bool) -> None:
        device = data.draw(st.sampled_from(sorted(self.claims)))
        claim = self.claims.pop(device)
        self.stale.append(claim)
        self.workers[device] += 1
        result: dict[str, Any] | None = {"variants": []} if published else None
        [view] = self.store.recover(self.name(device), device, lambda ulid, attempt: result)
        assert view.id == claim.job_id
        assert not view.live
        assert (view.state == "succeeded") == published

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def write_as_a_stale_owner(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.stale))
        before = self.reader.job(claim.job_id)
        assert self.store.progress(claim, {"stale": True}) is False
        assert self.store.finish(claim, "failed") is False
        assert self.reader.job(claim.job_id) == before

    @rule(seconds=st.sampled_from([1.0, 61.0, 301.0, -3600.0, 9 * 3600.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.paths, clock=lambda: self.now)

    @invariant()
    def everything_fits_together(self) -> None:
        jobs = {job.id: job for job in self.reader.jobs()}
        live = {job.id for job in jobs.values() if job.state in LIVE}
        assert live == {claim.job_id for claim in self.claims.values()}
        for job in jobs.values():
            told = self.reader.events(job.id, kinds=["state"])
            assert told[-1].payload["to"] == job.state
            pairs = pairwise(told)
            assert all(a.payload["to"] == b.payload["from"] for a, b in pairs)
            attempts = self.reader.attempts(job.id)
            assert [attempt.number for attempt in attempts] == list(range(1, job.attempt + 1))
            unfinished = [attempt for attempt in attempts if attempt.finished_at is None]
            assert len(unfinished) == (job.state in LIVE)
            if job.state == "queued" and job.id in self.parents:
                parent = jobs[self.parents[job.id]]
                assert parent.state == "succeeded" or not parent.finished
        # What has succeeded stays so.
        assert self.succeeded <= {job.id for job in jobs.values() if job.state == "succeeded"}
        self.succeeded = {job.id for job in jobs.values() if job.state == "succeeded"}


StoreMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestStoreMachine = StoreMachine.TestCase
