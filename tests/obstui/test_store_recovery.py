"""What becomes of the jobs of a worker that is gone, and of a job that keeps being lost."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Claim, JobView, Reader, Store

Sql = Callable[..., list[tuple[Any, ...]]]
Spawn = Callable[..., "subprocess.Popen[str]"]


def nothing(ulid: str, attempt: int) -> dict[str, Any] | None:
    return None


def take(store: Store, worker: str = "old", *, state: str = "running") -> Claim:
    claim = store.claim(worker, "cpu")
    assert claim is not None
    if state != "starting":
        store.started(claim, 1, 2)
    if state in ("pausing", "cancelling"):
        getattr(store, "pause" if state == "pausing" else "cancel")(claim.job_id)
        store.acknowledge(claim, state)
    return claim


@pytest.mark.parametrize("state", ["starting", "running", "pausing", "cancelling"])
def test_a_complete_result_on_disk_wins(store: Store, reader: Reader, state: str) -> None:
    job = store.enqueue(PruneSpec())
    take(store, state=state)
    asked = []

    def result_of(ulid: str, attempt: int) -> dict[str, Any]:
        asked.append((ulid, attempt))
        return {"variants": []}

    [view] = store.recover("new", "cpu", result_of)
    assert (view.state, view.result, view.reason) == ("succeeded", {"variants": []}, None)
    assert asked == [(job.ulid, 1)]
    [attempt] = reader.attempts(job.id)
    assert attempt.state == "succeeded"
    assert attempt.finished_at is not None


@pytest.mark.parametrize(
    ("state", "becomes", "reason"),
    [
        ("starting", "queued", "worker_lost"),
        ("running", "queued", "worker_lost"),
        ("pausing", "paused", "user"),
        ("cancelling", "cancelled", "user"),
    ],
)
def test_without_one_the_wish_decides(
    store: Store, reader: Reader, state: str, becomes: str, reason: str
) -> None:
    job = store.enqueue(PruneSpec())
    claim = take(store, state=state)
    [view] = store.recover("new", "cpu", nothing)
    assert (view.state, view.reason, view.desired) == (becomes, reason, "run")
    [attempt] = reader.attempts(job.id)
    assert attempt.reason == "worker_lost"
    assert store.finish(claim, "succeeded", result={}) is False
    assert store.recover("new", "cpu", nothing) == []
    last = reader.events(job.id, kinds=["state"])[-1]
    assert last.payload == {"from": state, "to": becomes, "reason": reason, "who": "new"}


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_a_wish_that_no_worker_saw_is_done(store: Store, wish: str) -> None:
    job = store.enqueue(PruneSpec())
    take(store, state="starting")
    getattr(store, wish)(job.id)
    [view] = store.recover("new", "cpu", nothing)
    assert view.state == {"cancel": "cancelled", "pause": "paused"}[wish]


def test_only_the_rows_of_that_device_and_of_others(store: Store) -> None:
    for _ in range(3):
        store.enqueue(PruneSpec())
    mine, gone = store.claim("new", "cpu"), store.claim("old", "cpu")
    other = store.claim("old", "gpu")
    assert mine is not None
    assert gone is not None
    assert other is not None
    assert [view.id for view in store.recover("new", "cpu", nothing)] == [gone.job_id]
    assert store.desired(mine) == store.desired(other) == "run"


def test_a_restart_of_the_computer_is_told_apart(store: Store, reader: Reader, sql: Sql) -> None:
    store.enqueue(PruneSpec())
    take(store)
    sql("UPDATE attempt SET boot_id = 'the boot before'")
    [view] = store.recover("new", "cpu", nothing)
    assert (view.state, view.reason) == ("queued", "host_reboot")


def test_a_lost_job_keeps_its_place(store: Store) -> None:
    first, second = store.enqueue(PruneSpec()), store.enqueue(PruneSpec())
    store.progress(take(store), {"done": 5})
    [view] = store.recover("new", "cpu", nothing)
    assert view.progress == {"done": 5}  # until the next attempt tells its own
    again = take(store, "new")
    assert again.job_id == first.id
    view = store.set_priority(first.id, 0)
    assert (view.progress, view.reason, view.error) == (None, None, None)
    assert take(store, "new").job_id == second.id


def lose(store: Store, how: str) -> JobView:
    if how == "the worker":
        take(store)
        [view] = store.recover("new", "cpu", nothing)
        return view
    claim = take(store)
    store.finish(claim, "queued", reason="child_lost", error="It was killed.")
    with Reader.open(store.paths) as reader:
        found = reader.job(claim.job_id)
    assert found is not None
    return found


@pytest.mark.parametrize("how", ["the worker", "the child"])
def test_poison_is_quarantined_after_three_losses(
    store: Store, reader: Reader, clock: Any, how: str
) -> None:
    poison, healthy = store.enqueue(PruneSpec()), store.enqueue(PruneSpec())
    assert lose(store, how).state == "queued"
    assert lose(store, how).id == poison.id  # the first loss costs no waiting
    blocked = reader.job(poison.id)
    assert blocked is not None
    assert blocked.blocked is not None
    assert blocked.blocked.startswith("starts again at ")
    after = take(store)
    assert after.job_id == healthy.id  # the second does
    store.finish(after, "succeeded", result={})
    clock.now += 61
    view = lose(store, how)
    assert (view.id, view.state, view.reason) == (poison.id, "quarantined", "poison")
    assert view.error
    assert len(reader.attempts(poison.id)) == 3
    assert store.claim("w", "cpu") is None
    assert store.retry(poison.id).state == "queued"
    assert lose(store, how).state == "queued"  # counted anew


def test_a_job_that_moves_forward_may_be_lost_any_number_of_times(store: Store, clock: Any) -> None:
    store.enqueue(PruneSpec())
    for unit in range(20):
        claim = take(store)
        done = [("target_solved", {"name": str(n), "reused": True}) for n in range(unit)]
        new = ("target_solved", {"name": str(unit), "reused": False})
        assert store.append(claim, [("phase", {"name": "solve"}), *done, new])
        [view] = store.recover(f"w{unit}", "cpu", nothing)
        assert view.state == "queued"


def test_finding_old_work_again_is_no_step_forward(store: Store, clock: Any) -> None:
    store.enqueue(PruneSpec())
    states = []
    for _ in range(3):
        store.append(take(store), [("target_solved", {"name": "a", "reused": True})])
        states += [view.state for view in store.recover("new", "cpu", nothing)]
        clock.now += 301
    assert states == ["queued", "queued", "quarantined"]


@pytest.mark.parametrize("reason", ["drain", "gpu_busy", "gpu_lost", "disk_full"])
def test_the_surroundings_are_not_held_against_a_job(
    store: Store, reader: Reader, clock: Any, reason: str
) -> None:
    job = store.enqueue(PruneSpec())
    for _ in range(5):
        store.finish(take(store), "queued", reason=reason, not_before=clock.now + 30)
        assert store.claim("w", "cpu") is None
        clock.now += 30
    view = reader.job(job.id)
    assert view is not None
    assert view.state == "queued"


# Grandchildren enqueue as fast as they can and are killed in the middle of it; what they were told
# is queued (written to the pipe) must be there.
ENQUEUE_AND_DIE = """
import json, os, sys
from pathlib import Path
from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Store
home = Path(sys.argv[1])
told = []
for turn in range(20):
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        store = Store.open(Paths(home, home / "jobs.db"))
        while True:
            os.write(into, b"%d\\n" % store.enqueue(PruneSpec(name=str(turn))).id)
    os.close(into)
    with os.fdopen(out) as pipe:
        told += [int(pipe.readline()) for _ in range(1 + turn % 4)]
        os.kill(child, 9)
        os.waitpid(child, 0)
        told += [int(line) for line in pipe]
print(json.dumps(told))
"""


def test_what_was_said_to_be_queued_survives_kill_9(spawn: Spawn, paths: Paths) -> None:
    process = spawn(ENQUEUE_AND_DIE, paths.home)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert len(told) >= 20
    assert len(set(told)) == len(told)
    with Reader.open(paths) as reader:
        queued = {job.id for job in reader.jobs(limit=100_000)}
    assert set(told) <= queued
    assert len(queued) <= len(told) + 20
    with closing(sqlite3.connect(paths.db)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


KILLED_IN_A_TRANSACTION = """
import os, sys
from pathlib import Path
from obstui.config import Paths
from obstui.store import Store
home = Path(sys.argv[1])
store = Store.open(Paths(home, home / "jobs.db"))
with store._write() as conn:
    conn.exec_driver_sql("PRAGMA cache_size = 1")
    conn.exec_driver_sql("PRAGMA cache_spill = 1")
    conn.exec_driver_sql("UPDATE job SET name = 'half', priority = 7, version = version + 1")
    os.kill(os.getpid(), 9)
"""


def test_a_reader_rolls_back_what_a_killed_writer_left(
    store: Store, spawn: Spawn, paths: Paths
) -> None:
    for n in range(200):
        store.enqueue(PruneSpec(name=f"whole {n} {'x' * 100}"))
    process = spawn(KILLED_IN_A_TRANSACTION, paths.home)
    process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (paths.db.with_name("jobs.db-journal")).stat().st_size > 0
    with Reader.open(paths) as reader:
        assert {job.priority for job in reader.jobs()} == {0}
    assert store.enqueue(PruneSpec()).id == 201
