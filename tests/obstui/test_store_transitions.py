"""The state machine: what people and workers can do to a job in each state, and what not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import select

from obstui.config import Paths
from obstui.specs import CompareSpec, PruneSpec
from obstui.store import LIVE, STATES, TERMINAL, JobView, NotFound, Reader, Refused, Store
from obstui.store.tables import events
from obstui.store.transitions import ALLOWED, find, move

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def job_in(store: Store) -> Callable[[str], int]:
    """A job brought into a state the way jobs get there."""

    def bring(state: str) -> int:
        job = store.enqueue(PruneSpec(), held=state == "held")
        if state in ("held", "queued"):
            return job.id
        if state == "skipped":
            return _skipped(store, job.id)
        claim = store.claim("w", "cpu")
        assert claim is not None
        if state == "starting":
            return job.id
        store.started(claim, 1, 2)
        if state == "quarantined":
            for _ in range(3):
                store.finish(claim, "queued", reason="segfault", not_before=0.0)
                claim = store.claim("w", "cpu") or claim
            return job.id
        wish = {"paused": "pause", "pausing": "pause", "cancelling": "cancel"}.get(state)
        if wish:
            getattr(store, wish)(job.id)
        if state in ("pausing", "cancelling"):
            assert store.acknowledge(claim, state)
        elif state != "running":
            assert store.finish(claim, state)
        return job.id

    return bring


def _skipped(store: Store, parent: int) -> int:
    child = store.enqueue(CompareSpec(variants=(f"{parent}@20",)))
    store.cancel(parent)
    return child.id


def state_of(reader: Reader, job_id: int) -> str:
    view = reader.job(job_id)
    assert view is not None
    return view.state


@pytest.mark.parametrize("state", STATES)
def test_every_state_can_be_reached(
    job_in: Callable[[str], int], reader: Reader, state: str
) -> None:
    assert state_of(reader, job_in(state)) == state


# What people can do: None is a refusal, "state/desired" is what the job becomes.
PEOPLE = {
    #              cancel              pause                resume             retry
    "held": ("cancelled/run", "held/run", "queued/run", None),
    "queued": ("cancelled/run", "held/run", "queued/run", None),
    "paused": ("cancelled/run", "paused/run", "queued/run", None),
    "starting": ("starting/cancel", "starting/pause", "starting/run", None),
    "running": ("running/cancel", "running/pause", "running/run", None),
    "pausing": ("pausing/cancel", "pausing/pause", "pausing/run", None),
    "cancelling": ("cancelling/cancel", None, None, None),
    "succeeded": (None, None, None, None),
    "failed": (None, None, None, "queued/run"),
    "cancelled": (None, None, None, "queued/run"),
    "skipped": (None, None, None, None),  # its parent is cancelled: that must be retried
    "quarantined": (None, None, None, "queued/run"),
}


@pytest.mark.parametrize("state", STATES)
def test_what_people_can_do(
    store: Store, reader: Reader, job_in: Callable[[str], int], state: str
) -> None:
    for ask, expected in zip(("cancel", "pause", "resume", "retry"), PEOPLE[state], strict=True):
        job_id = job_in(state)
        before = reader.job(job_id)
        if expected is None:
            with pytest.raises(Refused) as refusal:
                getattr(store, ask)(job_id)
            assert f"ob {job_id} " in str(refusal.value)
            assert str(refusal.value).endswith(".")
            assert reader.job(job_id) == before
        else:
            view: JobView = getattr(store, ask)(job_id)
            assert f"{view.state}/{view.desired}" == expected
            assert reader.job(job_id) == view
        # Out of the way of the next claim.
        with suppress(Refused):
            store.cancel(job_id)


@pytest.mark.parametrize("state", STATES)
def test_removal(
    store: Store, reader: Reader, sql: Sql, job_in: Callable[[str], int], state: str
) -> None:
    job_id = job_in(state)
    if state in LIVE:
        with pytest.raises(Refused, match="cancel it first"):
            store.remove(job_id)
        return
    store.remove(job_id)
    assert reader.job(job_id) is None
    for table in ("attempt", "event", "dependency"):
        assert sql(f"SELECT * FROM {table} WHERE job_id = ?", job_id) == []
    assert store.enqueue(PruneSpec()).id > job_id  # an id never comes back


@pytest.mark.parametrize("state", STATES)
def test_priority_matters_until_the_end(
    store: Store, job_in: Callable[[str], int], state: str
) -> None:
    job_id = job_in(state)
    if state in TERMINAL:
        with pytest.raises(Refused):
            store.set_priority(job_id, 3)
    else:
        assert store.set_priority(job_id, -3).priority == -3


class Undo(Exception):
    pass


@pytest.mark.parametrize("before", STATES)
def test_the_one_door_follows_the_table(
    store: Store, job_in: Callable[[str], int], before: str
) -> None:
    """Also against the CHECKs of the tables: what is allowed can be stored."""
    job_id = job_in(before)
    newest = select(events.c.payload).order_by(events.c.id.desc()).limit(1)
    for after in STATES:
        owner = {"worker": "w", "device": "cpu", "attempt": 1} if after in LIVE else {}
        expected = nullcontext() if after in ALLOWED[before] else pytest.raises(Refused)
        with suppress(Undo), store._write() as conn:
            with expected:
                move(conn, find(conn, job_id), after, who="test", now=1.0, reason="why", **owner)
                assert find(conn, job_id).state == after
                change = {"from": before, "to": after, "reason": "why", "who": "test"}
                assert conn.execute(newest).scalar_one() == change
            raise Undo


@pytest.mark.parametrize(
    "nonsense",
    [
        "UPDATE job SET state = 'done'",
        "UPDATE job SET desired = 'stop'",
        "UPDATE job SET state = 'running'",
        "UPDATE job SET state = 'running', worker = 'w', device = 'cpu', attempt = 0",
        "UPDATE job SET state = 'running', device = 'cpu', attempt = 1",
        "UPDATE job SET worker = 'w'",
        "UPDATE job SET state = 'failed'",
        "UPDATE job SET finished_at = 1.0",
        "INSERT INTO event (job_id, attempt, at, kind, payload) VALUES (99, 0, 0, 'x', '{}')",
    ],
)
def test_the_tables_refuse_nonsense(store: Store, paths: Paths, nonsense: str) -> None:
    store.enqueue(PruneSpec())
    db = sqlite3.connect(paths.db)
    db.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError):
        db.execute(nonsense)
    db.close()


def test_every_change_is_told(store: Store, reader: Reader) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.started(claim, 1, 2)
    store.pause(job.id)
    store.acknowledge(claim, "pausing")
    store.acknowledge(claim, "pausing")
    store.finish(claim, "paused", exit_code=75)
    store.resume(job.id)
    told = [
        (event.payload.get("to") or event.payload["desired"], event.payload["who"])
        for event in reader.events(job.id)
    ]
    assert told == [
        ("queued", "user"),
        ("starting", "w"),
        ("running", "w"),
        ("pause", "user"),
        ("pausing", "w"),
        ("paused", "w"),
        ("queued", "user"),
    ]
    [attempt] = reader.attempts(job.id)
    assert (attempt.state, attempt.reason, attempt.exit_code) == ("paused", "user", 75)
    assert attempt.finished_at is not None


@pytest.mark.parametrize("given", ["queued", "paused"])
@pytest.mark.parametrize(
    ("wish", "becomes"), [("cancel", "cancelled"), ("pause", "paused"), (None, "queued")]
)
def test_a_job_given_back_obeys_the_newest_wish(
    store: Store,
    job_in: Callable[[str], int],
    reader: Reader,
    given: str,
    wish: str | None,
    becomes: str,
) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.started(claim, 1, 2)
    if wish:
        getattr(store, wish)(job.id)
    assert store.finish(claim, given, reason="drain")
    view = reader.job(job.id)
    assert view is not None
    assert (view.state, view.desired) == (becomes, "run")


def test_a_pause_can_be_taken_back(store: Store) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.pause(job.id)
    assert store.desired(claim) == "pause"
    store.resume(job.id)
    assert store.desired(claim) == "run"


def test_the_second_cancel_is_urgent(store: Store) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.cancel(job.id)
    assert (store.desired(claim), store.urgent(claim)) == ("cancel", False)
    store.cancel(job.id)
    assert (store.desired(claim), store.urgent(claim)) == ("cancel", True)
    assert store.finish(claim, "cancelled")
    assert store.urgent(claim) is False


def test_a_finish_that_wins_the_race_with_cancel_counts(store: Store, reader: Reader) -> None:
    job = store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.started(claim, 1, 2)
    store.cancel(job.id)
    store.acknowledge(claim, "cancelling")
    assert store.finish(claim, "succeeded", result={"variants": []})
    view = reader.job(job.id)
    assert view is not None
    assert (view.state, view.result, view.desired) == ("succeeded", {"variants": []}, "run")


def test_a_retry_starts_clean_at_its_old_place(store: Store, reader: Reader) -> None:
    first, second = store.enqueue(PruneSpec()), store.enqueue(PruneSpec())
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.started(claim, 1, 2)
    store.progress(claim, {"done": 1})
    store.finish(claim, "failed", reason="exit_code", error="It\x1b[31m broke.")
    failed = reader.job(first.id)
    assert failed is not None
    assert (failed.reason, failed.error, failed.blocked) == ("exit_code", "It broke.", None)
    view = store.retry(first.id)
    assert (view.error, view.reason, view.progress, view.finished_at) == (None,) * 4
    again = store.claim("w", "cpu")
    assert again is not None
    assert (again.job_id, again.attempt) == (first.id, 2)
    assert [a.state for a in reader.attempts(first.id)] == ["failed", None]
    assert second.id > first.id


@pytest.mark.parametrize("job_id", [0, -1, 7, 2**63, 10**30])
def test_no_such_job(store: Store, reader: Reader, job_id: int) -> None:
    for ask in ("cancel", "pause", "resume", "retry", "remove"):
        with pytest.raises(NotFound, match=f"There is no job {job_id}"):
            getattr(store, ask)(job_id)
    assert reader.job(job_id) is None


def test_absurd_priorities_are_refused(store: Store) -> None:
    with pytest.raises(Refused, match="priority"):
        store.enqueue(PruneSpec(), priority=10**30)


@pytest.mark.parametrize(
    "name",
    [
        "Robert'); DROP TABLE job;--",
        "\x1b]0;owned\x07red \x1b[31mname",
        "[bold]markup[/bold] %s {0} :id ?1",
        "‮gnp.exe\u200b",
        "naïve Größe 絵 🖼️ \x00 end",
        "x" * 120,
    ],
)
def test_hostile_names_are_data(store: Store, reader: Reader, name: str) -> None:
    job = store.enqueue(PruneSpec(name=name))
    view = reader.job(job.id)
    assert view == job
    assert view.name == view.spec["name"]
    assert view.name.isprintable()
    assert reader.counts()["queued"] == 1


def test_specs_are_frozen_and_hashed(store: Store, sql: Sql) -> None:
    for spec in (PruneSpec(seed=1), PruneSpec(seed=1), PruneSpec(seed=2)):
        store.enqueue(spec)
    rows = sql("SELECT spec_hash, spec_version, ulid FROM job ORDER BY id")
    assert rows[0][0] == rows[1][0] != rows[2][0]
    assert {row[1] for row in rows} == {1}
    assert len({row[2] for row in rows}) == 3
    assert {len(row[2]) for row in rows} == {26}


def test_together_a_refusal_undoes_only_itself(
    store: Store, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (store.enqueue(PruneSpec()).id for _ in range(3))
    with store.together():
        store.pause(first)
        with pytest.raises(Refused):
            store.retry(second)
        monkeypatch.setattr(store, "_view", _no_disk)
        with suppress(OSError):
            store.pause(third)  # breaks after its row was written
        monkeypatch.undo()
        store.cancel(second)
        assert [state_of(reader, job) for job in (first, second)] == ["queued", "queued"]
    found = [state_of(reader, job) for job in (first, second, third)]
    assert found == ["held", "cancelled", "queued"]


def test_together_all_or_nothing(store: Store, reader: Reader) -> None:
    jobs = [store.enqueue(PruneSpec()).id for _ in range(3)]
    with suppress(KeyboardInterrupt), store.together():
        for job in jobs:
            store.cancel(job)
        raise KeyboardInterrupt
    assert [state_of(reader, job) for job in jobs] == ["queued"] * 3
    assert store.cancel(jobs[0]).state == "cancelled"  # and the store is of use again


def _no_disk(*_: object, **__: object) -> None:
    raise OSError
