"""What holds jobs up: windows, stops, the circuit breaker; places, maximum runtimes, notices."""

from __future__ import annotations

from datetime import datetime

import pytest

from obstui.options import JobOptions
from obstui.specs import PruneSpec
from obstui.store import Claim, JobView, Reader, Refused, Store
from obstui.store.transitions import BREAKER_SECONDS, BREAKER_STOP, MAX_REBOOTS
from tests.obstui.conftest import Clock


def queue(store: Store, **options: object) -> JobView:
    return store.enqueue(PruneSpec(), options=JobOptions.model_validate(options))


def run(store: Store, device: str = "cpu") -> Claim:
    claim = store.claim("w", device)
    assert claim is not None
    store.started(claim, 1, 2)
    return claim


def blocked(reader: Reader, job_id: int = 1) -> str:
    view = reader.job(job_id)
    assert view is not None
    return view.blocked or ""


def local(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_job_outside_its_window_waits_for_it(store: Store, reader: Reader, clock: Clock) -> None:
    clock.now = local("2026-06-10 12:00")
    queue(store, window="23:00-07:00")
    queue(store)
    assert blocked(reader) == "outside its time window 23:00-07:00: starts at 23:00"
    other = run(store)
    assert other.job_id == 2
    assert store.claim("w2", "gpu") is None
    clock.now = local("2026-06-10 23:00")
    assert "window" not in blocked(reader)
    claim = run(store, "gpu")
    clock.now = local("2026-06-11 06:59")
    assert store.must_stop(claim, ran=8 * 3600) is None
    clock.now = local("2026-06-11 07:00")
    assert store.must_stop(claim, ran=8 * 3600) == "window"
    assert store.must_stop(other, ran=1e9) is None
    for _ in range(4):  # however many nights it takes: no attempt is counted as lost
        store.finish(claim, "queued", reason="window")
        view = reader.job(1)
        assert view is not None
        assert (view.state, view.reason) == ("queued", "window")
        assert store.claim("w", "gpu") is None
        clock.now += 20 * 3600
        claim = run(store, "gpu")
        clock.now += 4 * 3600


def test_maximum_runtime(store: Store) -> None:
    queue(store, max_runtime="1h")
    claim = run(store)
    assert store.must_stop(claim, ran=3600.0) is None
    assert store.must_stop(claim, ran=3600.1) == "timeout"
    store.finish(claim, "failed", reason="timeout")
    assert store.must_stop(claim, ran=1e9) is None  # no longer ours


def test_stops_of_a_device_and_of_the_queue(store: Store, reader: Reader, clock: Clock) -> None:
    queue(store)
    claim = run(store)
    queue(store)
    store.stop("cpu", "The disk is \x1b[31mlow", until=clock.now + 30)
    assert store.claim("w", "cpu") is None
    assert store.must_stop(claim, ran=1.0) is None
    [stop] = reader.stops()
    assert (stop.scope, stop.reason, stop.urgent) == ("cpu", "The disk is low", False)
    clock.now += 31
    assert reader.stops() == []
    store.stop("*", "by hand", urgent=True)
    assert blocked(reader, 2) == "the queue is paused: by hand"
    assert store.claim("w", "gpu") is None
    assert store.must_stop(claim, ran=1.0) == "queue_paused"
    store.finish(claim, "queued", reason="queue_paused")
    assert store.go("*")
    assert not store.go("*")
    assert run(store, "gpu").job_id == 1


def fail(store: Store, clock: Clock, signature: str | None, device: str = "cpu") -> None:
    queue(store)
    store.finish(run(store, device), "failed", reason="segfault", error="x", signature=signature)
    clock.now += 10


def test_three_failures_alike_stop_the_device_once(
    store: Store, reader: Reader, clock: Clock
) -> None:
    for signature, device in (("a", "cpu"), ("b", "cpu"), (None, "cpu"), (None, "cpu"),
                              (None, "cpu"), ("a", "gpu"), ("a", "cpu")):  # fmt: skip
        fail(store, clock, signature, device)
    assert reader.stops() == []
    fail(store, clock, "a")
    [stop] = reader.stops()
    assert stop.scope == "cpu"
    assert stop.until == pytest.approx(clock.now - 10 + BREAKER_STOP)
    assert "3 jobs in a row failed alike" in stop.reason
    queue(store)
    assert store.claim("w", "cpu") is None
    assert [n.kind for n in store.notices() if n.kind == "stop"] == ["stop"]
    assert run(store, "gpu")
    clock.now += BREAKER_STOP
    queue(store)
    assert run(store, "cpu")


def test_failures_far_apart_stop_nothing(store: Store, reader: Reader, clock: Clock) -> None:
    for _ in range(5):
        fail(store, clock, "a")
        clock.now += BREAKER_SECONDS / 2
    assert reader.stops() == []


def test_restarts_of_the_computer_count_apart(store: Store, reader: Reader) -> None:
    queue(store)
    store.finish(run(store), "queued", reason="segfault", not_before=0.0)
    for _ in range(MAX_REBOOTS):
        store.finish(run(store), "queued", reason="host_reboot")
    view = reader.job(1)
    assert view is not None
    assert view.state == "queued"
    store.finish(run(store), "queued", reason="host_reboot")
    view = reader.job(1)
    assert view is not None
    assert (view.state, view.reason) == ("quarantined", "poison")


def test_places(store: Store) -> None:
    for _ in range(4):
        queue(store)
    queue(store, priority=1)
    store.place(4, before=2)
    store.place(3, before=None)
    assert store.place(1, before=5).priority == 1
    store.place(2, before=2)
    order = [run(store, f"d{n}").job_id for n in range(5)]
    assert order == [1, 5, 3, 4, 2]
    queue(store)
    with pytest.raises(Refused, match="only waiting jobs"):
        store.place(6, before=1)


def test_a_place_can_be_halved_for_ever(store: Store) -> None:
    for _ in range(4):
        queue(store)
    for n in range(130):  # a double has 52 bits to halve
        store.place(2 + n % 2, before=4)
    queue(store)
    order = [run(store, f"d{n}").job_id for n in range(5)]
    assert order == [1, 2, 3, 4, 5]


def test_notices_are_told_once_and_again_when_it_fails(store: Store, clock: Clock) -> None:
    fail(store, clock, None)
    store.notify("digest-1", "digest", {"text": "morning"})
    store.notify("digest-1", "digest", {"text": "again"})
    first, digest = store.notices()
    assert (first.kind, first.payload["job_id"], first.payload["error"]) == ("failed", 1, "x")
    assert digest.payload == {"text": "morning"}
    store.notice_sent(digest.id)
    for wait in (60, 300, 1800):
        store.notice_failed(first.id)
        clock.now += wait - 1
        assert store.notices() == []
        clock.now += 1
        assert [notice.id for notice in store.notices()] == [first.id]
    store.notice_failed(first.id)
    clock.now += 1e6
    assert store.notices() == []
    store.notify("digest-1", "digest", {})
    assert store.notices() == []


def test_settings(store: Store, reader: Reader) -> None:
    assert store.setting("seen") is None
    store.set_setting("seen", {"at": 1.5})
    store.set_setting("seen", [1, "x"])
    assert store.setting("seen") == reader.setting("seen") == [1, "x"]
    store.set_setting("seen", None)
    assert reader.setting("seen") is None
