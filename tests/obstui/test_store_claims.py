"""One job, one owner: claims by several processes, and the fence around every write of an owner."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from obstui.config import Paths
from obstui.specs import CompareSpec, GenerateSpec, PruneSpec
from obstui.store import Claim, Reader, Store

Sql = Callable[..., list[tuple[Any, ...]]]
Spawn = Callable[..., "subprocess.Popen[str]"]

GUARDED = """
import json, sys
from pathlib import Path
from obstui.config import Paths
from obstui.store import Store
home, me = Path(sys.argv[1]), sys.argv[2]
store = Store.open(Paths(home, home / "jobs.db"))
print("ready", flush=True); sys.stdin.readline()
taken = []
while claim := store.claim(me, me):
    taken.append(claim.job_id)
print(json.dumps(taken))
"""

# What the guarded claim is there to prevent: read, decide, write.
NAIVE = """
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/jobs.db", timeout=30, isolation_level=None)
def first():
    return db.execute("SELECT id FROM job WHERE state = 'queued' ORDER BY id LIMIT 1").fetchone()
taken, job = [], first()
print("ready", flush=True); sys.stdin.readline()
while job:
    db.execute("UPDATE job SET state = 'starting', worker = ?, device = 'x', attempt = 1 "
               "WHERE id = ?", (sys.argv[2], job[0]))
    taken.append(job[0])
    job = first()
print(json.dumps(taken))
"""


def fill(store: Store, sql: Sql, count: int) -> None:
    """`count` queued jobs, copied from one that was queued as it should be."""
    first = store.enqueue(PruneSpec())
    columns = "kind,name,spec,spec_version,spec_hash,priority,state,desired,urgent,attempt,losses"
    sql(
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        f"INSERT INTO job (ulid, {columns}, version, created_at) "
        f"SELECT i, {columns}, version, created_at FROM job, n WHERE id = ?",
        count,
        first.id,
    )


def race(spawn: Spawn, script: str, paths: Paths) -> Counter[int]:
    workers = [spawn(script, paths.home, f"worker-{n}") for n in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken: Counter[int] = Counter()
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
        taken.update(json.loads(out))
    return taken


def test_four_processes_share_the_queue_without_loss_or_duplicate(
    store: Store, reader: Reader, sql: Sql, spawn: Spawn, paths: Paths
) -> None:
    fill(store, sql, 120)
    taken = race(spawn, GUARDED, paths)
    assert taken == Counter(range(1, 121))
    assert reader.counts()["starting"] == 120
    assert sql("SELECT count(*), count(DISTINCT job_id) FROM attempt") == [(120, 120)]
    assert sql("SELECT count(*) FROM event WHERE kind = 'state' AND attempt = 1") == [(120,)]


def test_canary_the_naive_claim_would_be_caught(
    store: Store, sql: Sql, spawn: Spawn, paths: Paths
) -> None:
    fill(store, sql, 8)
    assert max(race(spawn, NAIVE, paths).values()) > 1


def test_the_claim_takes_priority_then_age(store: Store) -> None:
    late, urgent = store.enqueue(PruneSpec()), store.enqueue(PruneSpec(), priority=5)
    raised = store.enqueue(PruneSpec())
    store.enqueue(PruneSpec(), held=True)
    store.set_priority(raised.id, 9)
    order = [claim.job_id for _ in range(5) if (claim := store.claim("w", "cpu"))]
    assert order == [raised.id, urgent.id, late.id]


def test_a_claim_opens_an_attempt(store: Store, reader: Reader) -> None:
    spec = PruneSpec(name="night", sparsity=(0.1, 0.3))
    job = store.enqueue(spec)
    claim = store.claim("w1", "cpu")
    assert claim == Claim(job.id, job.ulid, 1, "w1", "cpu", spec.model_dump(mode="json"), {})
    view = reader.job(job.id)
    assert view is not None
    assert (view.state, view.attempt, view.device, view.live) == ("starting", 1, "cpu", True)
    assert view.version > job.version
    [attempt] = reader.attempts(job.id)
    assert (attempt.number, attempt.worker, attempt.finished_at) == (1, "w1", None)
    assert reader.events(job.id)[-1].payload == {
        "from": "queued",
        "to": "starting",
        "reason": None,
        "who": "w1",
    }


def test_the_claim_walks_its_index(store: Store, paths: Paths) -> None:
    seen: list[str] = []
    with store._write() as conn:
        raw = conn.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.set_trace_callback(seen.append)
    store.claim("w", "cpu")
    [claim] = [statement for statement in seen if statement.startswith("UPDATE job")]
    with closing(sqlite3.connect(paths.db)) as other:
        plan = " | ".join(row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {claim}"))
    assert "SCAN candidate USING INDEX ix_job_claim" in plan
    assert "TEMP B-TREE" not in plan


def test_variants_reach_the_worker_as_folders(store: Store) -> None:
    prune = store.enqueue(PruneSpec(sparsity=(0.1, 0.3)))
    compare = store.enqueue(CompareSpec(variants=(f"{prune.id}@30.0", "/some/folder")))
    paint = store.enqueue(GenerateSpec(prompts=("a cup",), variant=f"{prune.id}@10"))
    claim = store.claim("w", "cpu")
    assert claim is not None
    assert store.claim("w", "cpu") is None
    store.started(claim, 1, 2)
    made = [{"id": f"{prune.id}@{p}", "path": f"/out/{p}"} for p in (10, 30)]
    assert store.finish(claim, "succeeded", result={"variants": made})
    second, third = store.claim("w", "cpu"), store.claim("w", "cpu")
    assert second is not None
    assert third is not None
    assert (second.job_id, third.job_id) == (compare.id, paint.id)
    assert second.variants == {f"{prune.id}@30.0": "/out/30", "/some/folder": "/some/folder"}
    assert third.variants == {f"{prune.id}@10": "/out/10"}


WRITES: dict[str, Callable[[Store, Claim], object]] = {
    "started": lambda store, claim: store.started(claim, 1, 2),
    "acknowledge": lambda store, claim: store.acknowledge(claim, "cancelling"),
    "progress": lambda store, claim: store.progress(claim, {"done": 1}),
    "append": lambda store, claim: store.append(claim, [("image_saved", {"path": "/x"})]),
    "finish": lambda store, claim: store.finish(claim, "succeeded", result={"stale": True}),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("stale", ["attempt", "worker", "finished"])
def test_a_stale_owner_changes_nothing(
    store: Store, reader: Reader, write: str, stale: str
) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.started(claim, 1, 2)
    if stale == "attempt":
        store.finish(claim, "queued", reason="drain")
        assert store.claim("w", "cpu") is not None
    elif stale == "worker":
        claim = dataclasses.replace(claim, worker="another")
    else:
        store.finish(claim, "succeeded", result={})
    before = reader.job(job.id)
    assert WRITES[write](store, claim) is False
    assert reader.job(job.id) == before
    assert reader.events(job.id)[-1].kind == "fenced"
    assert reader.events(job.id)[-1].payload["write"] == write
    assert not reader.events(job.id, kinds=["image_saved"])
    assert store.desired(claim) is None


def test_nothing_succeeds_before_it_has_started(store: Store, reader: Reader) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    assert store.finish(claim, "succeeded", result={}) is False
    view = reader.job(job.id)
    assert view is not None
    assert view.state == "starting"
    assert store.finish(claim, "failed", reason="exit_code") is True


def test_progress_keeps_the_newest_and_facts_keep_all(store: Store, reader: Reader) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    versions = []
    for done in range(3):
        assert store.progress(claim, {"done": done})
        view = reader.job(job.id)
        assert view is not None
        assert view.progress == {"done": done}
        versions.append(view.version)
    assert versions == sorted(set(versions))
    assert store.append(claim, [("note", {"text": str(n)}) for n in range(5)])
    assert store.append(claim, [])
    notes = reader.events(job.id, kinds=["note"])
    assert [event.payload["text"] for event in notes] == list("01234")
    assert [event.id for event in notes] == sorted(event.id for event in notes)
    assert reader.events(job.id, kinds=["note"], after=notes[2].id) == notes[3:]
    assert reader.events(job.id, attempt=0, kinds=["note"]) == []
