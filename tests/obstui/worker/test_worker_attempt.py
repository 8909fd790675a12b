"""One attempt against a real store, without a worker around it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from obstui.worker.attempt import Attempt, Timing
from obstui.worker.supervise import Child

from .conftest import Bench


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
