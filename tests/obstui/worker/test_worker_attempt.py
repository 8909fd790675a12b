"""One attempt against a real store, without a worker around it."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from obstui.specs import parse
from obstui.store import Store
from obstui.telemetry import Reading
from obstui.worker.attempt import Attempt, Timing
from obstui.worker.guard import Guard, Limits
from obstui.worker.supervise import Child

from .conftest import Bench

GIB = 1 << 30


def claimed(bench: Bench, *, stops: int = 0) -> tuple[int, Attempt]:
    job_id = bench.submit("nothing")
    claim = bench.store.claim("worker", "cpu")
    assert claim is not None
    attempt = Attempt(bench.store, bench.paths, claim, Timing(), lambda _: None, lambda: stops)
    return job_id, attempt


def no_child(_: Path) -> Child:
    raise AssertionError("a child was started")


@pytest.mark.parametrize(("wish", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_wish_between_claim_and_start_starts_nothing(bench: Bench, wish: str, state: str) -> None:
    job_id, attempt = claimed(bench)
    getattr(bench.store, wish)(job_id)
    assert attempt.run(no_child) is None
    assert bench.job(job_id).state == state


def test_a_worker_told_to_stop_between_claim_and_start_gives_the_job_back(bench: Bench) -> None:
    job_id, attempt = claimed(bench, stops=1)
    assert attempt.run(no_child) is None
    assert (bench.job(job_id).state, bench.job(job_id).reason) == ("queued", "drain")


def test_an_attempt_lost_between_claim_and_start_starts_nothing(bench: Bench) -> None:
    job_id, attempt = claimed(bench)
    bench.store.recover("another", "cpu", lambda *_: None)
    assert attempt.run(no_child) is None
    assert (bench.job(job_id).state, bench.job(job_id).reason) == ("queued", "worker_lost")


def test_a_full_disk_puts_the_job_off_uncounted(bench: Bench) -> None:
    job_id, attempt = claimed(bench)

    def full(_: Path) -> Child:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError) as caught:
        attempt.run(full)
    attempt.give_up(caught.value)
    job = bench.job(job_id)
    assert (job.state, job.reason) == ("queued", "disk_full")
    assert "starts again at" in (job.blocked or "")
    assert "No space left" in (job.error or "")


@pytest.mark.parametrize("wish", [None, "cancel"])
def test_a_job_that_waits_for_memory_all_night_leaves_no_row_a_minute(
    bench: Bench, wish: str | None
) -> None:
    busy = Reading(GIB, 24 * GIB, None, ())
    guard = Guard(bench.paths, lambda: busy, Limits(disk=0))
    spec = {"kind": "generate", "prompts": ["a"], "model": "stabilityai/sdxl"}
    job_id = bench.store.enqueue(parse(spec)).id
    queued = len(bench.reader.events(job_id))
    later = time.time()
    for _ in range(20):
        with Store.open(bench.paths, clock=lambda: later) as store:  # noqa: B023 - used right here
            claim = store.claim("worker", "cpu")
        assert claim is not None
        attempt = Attempt(
            bench.store, bench.paths, claim, Timing(), lambda _: None, lambda: 0, guard
        )
        assert attempt.run(no_child) is None
        assert bench.store.claim("worker", "cpu") is None  # the minute is waited for
        later += 61
    job = bench.job(job_id)
    assert (job.state, job.reason, job.attempt) == ("queued", "gpu_busy", 0)
    assert "Only 1.0 GiB of the device's 24.0 GiB are free" in (job.error or "")
    assert bench.reader.attempts(job_id) == []
    assert len(bench.reader.events(job_id)) == queued
    with Store.open(bench.paths, clock=lambda: later) as store:
        claim = store.claim("worker", "cpu")
    assert claim is not None
    assert claim.attempt == 1
    if wish:
        getattr(bench.store, wish)(job_id)
    wished = {"reason": "gpu_busy", "error": "It is full.", "not_before": later}
    assert bench.store.put_off(claim, **wished) is True
    assert bench.store.put_off(claim, **wished) is False  # it is ours no more
    assert bench.job(job_id).state == ("cancelled" if wish else "queued")
