"""What the dashboard and the command line see."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from obstui.config import Paths
from obstui.specs import CompareSpec, PruneSpec
from obstui.store import STATES, Reader, Store, WorkerView
from obstui.store.search import Listing
from tests.obstui.tui_store import Scene


def worker(device: str = "cpu", *, named: str = "w", state: str = "idle") -> WorkerView:
    return WorkerView(named, device, "CPU", 1, "host", 1.0, 2.0, state, None, False)


@contextmanager
def held(paths: Paths, device: str = "cpu") -> Iterator[None]:
    """The device's lock, as its worker holds it."""
    fd = os.open(paths.lock(device), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        os.close(fd)


def blocked(reader: Reader, job_id: int) -> str | None:
    view = reader.job(job_id)
    assert view is not None
    return view.blocked


def test_the_version_of_the_data_changes_with_others_commits_only(
    store: Store, reader: Reader, paths: Paths
) -> None:
    seen = reader.data_version()
    reader.jobs()
    assert reader.data_version() == seen
    store.enqueue(PruneSpec())
    first = reader.data_version()
    assert first != seen
    assert reader.data_version() == first
    with Reader.open(paths) as other:
        other.jobs()
    assert reader.data_version() == first
    claim = store.claim("w", "cpu")
    assert claim is not None
    second = reader.data_version()
    store.desired(claim)  # a worker's polling wakes no dashboard
    assert reader.data_version() == second != first


def test_jobs_by_age_state_and_page(store: Store, reader: Reader) -> None:
    for n in range(5):
        store.enqueue(PruneSpec(name=f"job {n}"), held=n % 2 == 0)
    assert [job.id for job in reader.jobs()] == [5, 4, 3, 2, 1]
    assert [job.id for job in reader.jobs(newest_first=False, limit=2, offset=1)] == [2, 3]
    assert [job.id for job in reader.jobs(states=["held"])] == [5, 3, 1]
    assert reader.jobs(states=[]) == []
    assert reader.job(6) is None
    assert reader.counts() == dict.fromkeys(STATES, 0) | {"queued": 2, "held": 3}


def test_a_job_without_a_name_shows_its_title(store: Store) -> None:
    assert store.enqueue(PruneSpec(sparsity=(0.1, 0.3))).name == "demo to 10, 30 %"
    long = CompareSpec(variants=tuple(f"/folder/{n}/{'v' * 40}" for n in range(60)))
    assert len(store.enqueue(long).name) == 120


def test_why_a_queued_job_does_not_start(
    store: Store, reader: Reader, paths: Paths, clock: Any
) -> None:
    job = store.enqueue(PruneSpec())
    assert job.blocked == "no worker is running"
    store.beat(worker())
    assert blocked(reader, job.id) == "no worker is running"  # it said so once, and is gone
    with held(paths):
        assert blocked(reader, job.id) is None
        store.beat(worker(state="draining"))
        assert blocked(reader, job.id) == "the worker is about to stop and takes no more jobs"
        claim = store.claim("w", "cpu")
        assert claim is not None
        at = clock.now + 600
        store.finish(claim, "queued", reason="gpu_busy", not_before=at)
        shown = time.strftime("%H:%M", time.localtime(at))
        sentence = blocked(reader, job.id)
        assert sentence is not None
        assert sentence.startswith(f"starts again at {shown}")
        assert sentence.endswith("after another program used the device")
        store.beat(worker())
        clock.now = at
        assert blocked(reader, job.id) is None
    assert store.pause(job.id).blocked is None


def test_workers_are_alive_while_their_lock_is_held(
    store: Store, reader: Reader, paths: Paths
) -> None:
    store.beat(worker(named="old"))
    store.beat(worker(named="new"))
    store.beat(worker("GPU-1", named="other"))
    with held(paths):
        seen = {w.device: (w.id, w.alive) for w in reader.workers()}
        assert seen == {"cpu": ("new", True), "GPU-1": ("other", False)}
        with held(paths, "GPU-1"):  # asking has not kept it
            pass
    assert [w.alive for w in reader.workers()] == [False, False]
    store.forget_worker("new")
    store.forget_worker("unknown")
    assert [w.id for w in reader.workers()] == ["other"]


def test_an_idle_reader_is_in_no_writers_way(store: Store, reader: Reader, paths: Paths) -> None:
    store.enqueue(PruneSpec())
    reader.jobs()
    reader.data_version()
    reader.events(1)
    with closing(sqlite3.connect(paths.db, timeout=0, isolation_level=None)) as impatient:
        impatient.execute("BEGIN EXCLUSIVE")
        impatient.execute("COMMIT")


def test_a_thousand_jobs_take_no_more_statements_than_one(
    store: Store, reader: Reader, sql: Any
) -> None:
    store.enqueue(PruneSpec())
    seen: list[str] = []

    def count(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        reader.jobs()
        for_one = len(seen)
        columns = (
            "kind,name,spec,spec_version,spec_hash,priority,state,desired,urgent,attempt,losses"
        )
        sql(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
            f"INSERT INTO job (ulid, {columns}, version, created_at) "
            f"SELECT i, {columns}, version, created_at FROM job, n"
        )
        seen.clear()
        assert len(reader.jobs(limit=1000)) == 1000
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert 0 < len(seen) <= for_one


def test_only_the_time_that_its_attempts_ran_is_a_jobs_time(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    job_id = scene.queue("generate", prompts=["a"]).id
    claim = scene.start()
    scene.now += 30
    scene.finish(claim, "paused")
    scene.now += 4000
    scene.store.cancel(job_id)  # hours later, and never run again
    scene.queue("generate", prompts=["b"])
    scene.store.retry(job_id)
    with Reader.open(scene.paths, clock=lambda: scene.now) as reader:
        assert [job.seconds(scene.now) for job in reader.jobs()] == [None, 30]
        scene.store.set_priority(job_id, 1)
        again = scene.store.claim("w", "cpu")
        assert again is not None
        assert again.job_id == job_id
        scene.now += 7
        (live,) = reader.jobs(states=("starting",))
        assert live.seconds(scene.now) == 37, "also before its process has come up"
        scene.store.started(again, 1, 1)
        scene.finish(again, "succeeded")
        assert [job.ran for job in reader.find(Listing((), "time", True)).jobs] == [0, 37]
    scene.close()


def test_what_past_runs_tell(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    def prune(done: int, *, lost: bool = False) -> None:
        job_id = scene.queue("prune").id
        claim = scene.start()
        if lost:
            scene.phase(claim, "calibrate", 40, "forward passes")
            scene.now += 100
            scene.finish(claim, "failed")
            scene.store.retry(job_id)
            claim = scene.start()
        scene.phase(claim, "calibrate", 40, "forward passes", done)
        scene.now += 20
        scene.phase(claim, "solve", 9, "targets")
        scene.now += 5
        scene.finish(claim, "succeeded")

    prune(0)
    prune(40)  # found calibrated by the first
    prune(39, lost=True)
    with Reader.open(scene.paths) as reader:
        found = [(run.seconds, run.steady, run.growing) for run in reader.past_runs()]
    # The last pass of a second attempt says nothing about forty.
    assert found == [(125, 0, None), (25, 5, 20)]
    scene.close()
