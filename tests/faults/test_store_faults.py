"""Faults of writers, against the real store: F1, F2, F3, F9, F15, F20."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy

from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Reader, Refused, Store

from ..obstui.test_store_claims import NAIVE, fill, race

pytestmark = pytest.mark.faults
Spawn = Callable[..., Any]
Sql = Callable[..., list[tuple[object, ...]]]

CLAIM_ALL = """
import json, sys, time
from pathlib import Path
from obstui.config import Paths
from obstui.store import Store, connection
if sys.argv[3] == "WAL":
    connection.wal_is_safe = lambda version: True
home = Path(sys.argv[1])
store = Store.open(Paths(home, home / "jobs.db"))
print("ready", flush=True); sys.stdin.readline()
taken = []
while claim := store.claim(sys.argv[2], "cpu"):
    taken.append(claim.job_id)
print(json.dumps(taken))
"""
PROCESSES, JOBS = 8, 4000


@pytest.mark.parametrize("mode", ["TRUNCATE", "WAL"])
def test_f1_eight_processes_claim_every_job_once(
    mode: str, store: Store, sql: Sql, spawn: Spawn, paths: Paths
) -> None:
    fill(store, sql, JOBS)
    store.close()
    sql(f"PRAGMA journal_mode = {mode}")
    workers = [spawn(CLAIM_ALL, paths.home, f"w{n}", mode) for n in range(PROCESSES)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    began = time.monotonic()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken: Counter[int] = Counter()
    for worker in workers:
        out, err = worker.communicate(timeout=500)
        assert worker.returncode == 0, err
        taken.update(json.loads(out))
    rate = JOBS / (time.monotonic() - began)
    twice = sum(1 for count in taken.values() if count > 1)
    print(
        f"{mode}, SQLite {sqlite3.sqlite_version}, SQLAlchemy {sqlalchemy.__version__}: "
        f"{rate:.0f} claims/s, {twice} duplicates, {JOBS - len(taken)} losses"
    )
    assert taken == Counter(range(1, JOBS + 1))
    assert rate >= (200 if mode == "WAL" else 30)


def test_f2_canary_the_naive_claim_does_fail(
    store: Store, sql: Sql, spawn: Spawn, paths: Paths
) -> None:
    fill(store, sql, 200)
    taken = race(spawn, NAIVE, paths)
    twice = sum(1 for count in taken.values() if count > 1)
    print(f"the naive claim gives {twice} of 200 jobs to more than one worker")
    assert twice > 0


WRITE_AND_DIE = """
import json, os, random, signal, sys
from pathlib import Path
from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Store
home = Path(sys.argv[1])
told, sound = [], 0
for turn in range(60):
    writers = []
    for n in range(2):
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(out)
            store = Store.open(Paths(home, home / "jobs.db"))
            for _ in range(70):
                os.write(into, b"%d\\n" % store.enqueue(PruneSpec(name=str(turn))).id)
            signal.pause()
        os.close(into)
        writers.append((pid, os.fdopen(out)))
    for pid, pipe in writers:
        told += [int(pipe.readline()) for _ in range(random.randint(1, 5))]
    for pid, pipe in writers:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    for pid, pipe in writers:
        told += [int(line) for line in pipe if line.endswith("\\n")]
    import sqlite3
    conn = sqlite3.connect(home / "jobs.db")
    sound += conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    conn.close()
print(json.dumps([told, sound]))
"""


def test_f3_sixty_kills_of_two_writers_lose_nothing_acknowledged(
    spawn: Spawn, paths: Paths
) -> None:
    process = spawn(WRITE_AND_DIE, paths.home)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    told, sound = json.loads(out)
    with Reader.open(paths) as reader:
        queued = {job.id for job in reader.jobs(limit=10**6)}
    lost = set(told) - queued
    print(f"120 writers killed, {len(told)} acknowledged, {len(lost)} lost, {sound}/60 sound")
    assert not lost
    assert len(set(told)) == len(told)
    assert sound == 60


def test_f9_a_clock_that_steps_by_a_day_changes_no_order(
    store: Store, reader: Reader, clock: Any
) -> None:
    ids = []
    for step in (0, 86400, -2 * 86400, 86400, 3600, -3600):
        clock.now += step
        ids.append(store.enqueue(PruneSpec()).id)
    order = [claim.job_id for _ in ids if (claim := store.claim("w", "cpu"))]
    assert order == ids
    events = [event.id for job in ids for event in reader.events(job, kinds=["state"])][::2]
    assert events == sorted(events)


def test_f15_cancel_racing_finish_leaves_one_end(store: Store, paths: Paths, sql: Sql) -> None:
    ends: Counter[str] = Counter()
    with Store.open(paths, clock=store._clock) as person:
        for _ in range(500):
            job = store.enqueue(PruneSpec())
            claim = store.claim("w", "cpu")
            assert claim is not None
            store.started(claim, 1, 1)
            gate = threading.Barrier(2)

            def cancel(job_id: int = job.id, gate: threading.Barrier = gate) -> None:
                gate.wait()
                for _ in range(2):
                    try:
                        person.cancel(job_id)
                    except Refused:
                        return

            thread = threading.Thread(target=cancel)
            thread.start()
            gate.wait()
            wish = store.desired(claim)
            assert store.finish(claim, "cancelled" if wish == "cancel" else "succeeded", result={})
            thread.join()
            with closing(sqlite3.connect(paths.db)) as conn:
                query = "SELECT state, finished_at FROM job WHERE id = ?"
                state, finished = conn.execute(query, (job.id,)).fetchone()
            assert finished is not None
            ends[state] += 1
    print(f"500 races: {dict(ends)}")
    assert set(ends) <= {"succeeded", "cancelled"}
    counted = sql(
        "SELECT count(*) FROM event WHERE kind = 'state' "
        "AND payload ->> 'to' IN ('succeeded', 'cancelled')"
    )
    assert counted == [(500,)]
    assert store.claim("w", "cpu") is None


def test_f20_six_processes_first_start_thirty_times(spawn: Spawn, paths: Paths) -> None:
    from ..obstui.test_store_files import CREATE_AT_ONCE

    process = spawn(CREATE_AT_ONCE.replace("range(4)", "range(30)"), paths.home)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    print("30 x 6 processes made the store: 0 errors")
