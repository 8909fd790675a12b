"""Faults of children and workers, against the real worker: F4, F5, F8, F12, F14, F16, F17, F19."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from typing import Any, cast

import psutil
import pytest

from obstui.store.reader import held
from obstui.tui.follow import Follower, Snapshot
from obstui.tui.messages import StoreRead
from obstui.worker.logs import LIMIT

from ..obstui.worker.conftest import Bench, gone
from .invariants import violations


def helper_of(bench: Bench, job_id: int) -> int:
    helper = bench.paths.log(bench.job(job_id).ulid, 1).with_name("helper.pid")
    pid = int(bench.until(lambda: helper.exists() and helper.read_text()))
    bench.children.add(pid)
    return pid


def test_f5_a_helper_in_a_session_of_its_own_ends_with_the_next_worker(bench: Bench) -> None:
    job_id = bench.submit("stray", "once work 60")
    worker = bench.up()
    child, stray = bench.child(job_id), helper_of(bench, job_id)
    worker.kill()
    killed = time.monotonic()
    bench.until(lambda: gone(child))
    print(f"child gone after {time.monotonic() - killed:.2f} s")
    assert not gone(stray)
    restarted = time.monotonic()
    bench.up()
    bench.until(lambda: gone(stray))
    print(f"stray gone {time.monotonic() - restarted:.2f} s after the restart")


def test_f5_a_stray_helper_ends_with_its_job(bench: Bench) -> None:
    job_id = bench.submit("stray", "raise it")
    bench.up()
    stray = helper_of(bench, job_id)
    bench.finished(job_id)
    bench.until(lambda: gone(stray))


def test_f8_a_worker_that_is_stopped_keeps_its_job(bench: Bench) -> None:
    job_id = bench.submit("work 1")
    # The silence that would count as a hang is far shorter than the stop.
    worker = bench.up(silence=1.0)
    bench.child(job_id)
    worker.send_signal(signal.SIGSTOP)
    second = bench.worker()
    _, said = second.communicate(timeout=20)
    assert second.returncode == 4
    assert "taken by the worker" in said
    worker.send_signal(signal.SIGCONT)
    job = bench.finished(job_id)
    assert (job.state, len(bench.reader.attempts(job_id))) == ("succeeded", 1)
    assert violations(bench.paths) == []


def test_f12_a_foreign_lock_on_the_store_holds_up_nobody_but_the_writes(bench: Bench) -> None:
    job_id = bench.submit("fact one", "work 0.5", "fact two")
    worker = bench.up()
    child = bench.child(job_id)
    with closing(sqlite3.connect(bench.paths.db, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        result = bench.paths.output(bench.job_ulid(child)) / "result.json"
        bench.until(result.exists)  # the job went on, and is done
        time.sleep(3)  # the length of the lock is what is tested
        other.execute("COMMIT")
    unlocked = time.monotonic()
    assert bench.finished(job_id).state == "succeeded"
    took = time.monotonic() - unlocked
    print(f"terminal state {took:.2f} s after the lock was let go")
    assert took < 5
    assert [note["text"] for note in bench.facts(job_id, "note")] == ["one", "two"]
    assert len(bench.reader.attempts(job_id)) == 1
    assert worker.poll() is None


class Watcher:
    """Stands where the dashboard stands: keeps what the follower tells it."""

    def __init__(self) -> None:
        self.told: list[Snapshot] = []

    def post_message(self, message: StoreRead) -> None:
        self.told.append(message.snapshot)

    @property
    def newest(self) -> Snapshot:
        return self.told[-1] if self.told else Snapshot()


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [10, 60])
def test_f12_worker_and_dashboard_outlive_a_long_lock(bench: Bench, seconds: int) -> None:
    first, second = bench.submit("fact one", "work 2", "fact two"), bench.submit("nothing")
    worker = bench.up()
    child = bench.child(first)
    watcher = Watcher()
    follower = Follower(cast(Any, watcher), bench.paths, create=False)
    follower.start()
    try:
        bench.until(lambda: (job := watcher.newest.job(first)) and job.state == "running")
        with closing(sqlite3.connect(bench.paths.db, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            locked = time.monotonic()
            result = bench.paths.output(bench.job_ulid(child)) / "result.json"
            bench.until(result.exists)  # the job went on, and is done
            bench.until(lambda: watcher.newest.fault)  # longer than a reader waits: it says so
            assert watcher.newest.job(first)  # and shows what it knew
            left = seconds - (time.monotonic() - locked)
            time.sleep(max(0.0, left))  # the length of the lock is what is tested
            assert worker.poll() is None
            assert follower.is_alive()
            other.execute("COMMIT")
        unlocked = time.monotonic()
        assert [bench.finished(job).state for job in (first, second)] == ["succeeded"] * 2
        print(f"both jobs over {time.monotonic() - unlocked:.2f} s after the lock was let go")

        def caught_up() -> bool:
            shown = [watcher.newest.job(job) for job in (first, second)]
            return watcher.newest.fault is None and all(j and j.finished for j in shown)

        bench.until(caught_up)
        print(f"the dashboard knows it after {time.monotonic() - unlocked:.2f} s")
    finally:
        follower.stop()
        follower.join(20)
    assert [note["text"] for note in bench.facts(first, "note")] == ["one", "two"]
    assert [len(bench.reader.attempts(job)) for job in (first, second)] == [1, 1]
    assert violations(bench.paths) == []


def test_f12_a_worker_obeys_at_once_while_the_store_is_locked(bench: Bench) -> None:
    job_id = bench.submit("deaf 600")
    worker = bench.up()
    child = bench.child(job_id)
    with closing(sqlite3.connect(bench.paths.db, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        told = time.monotonic()

        def insisted() -> bool:
            """More than once: two signals that come while the store is waited for count as one."""
            worker.send_signal(signal.SIGTERM)
            return gone(child)

        bench.until(insisted, within=10)
        assert worker.wait(20) == 0
        print(f"child and worker gone {time.monotonic() - told:.2f} s after the word")
        other.execute("COMMIT")
    bench.up()
    bench.until(lambda: bench.job(job_id).reason == "worker_lost" or bench.job(job_id).attempt == 2)


def test_f14_an_abort_has_its_reason(bench: Bench) -> None:
    job_id, other = bench.submit("abort"), bench.submit("nothing")
    bench.up()
    job = bench.finished(job_id)
    assert (job.state, job.reason) == ("failed", "signal")
    assert "aborted itself" in (job.error or "")
    assert bench.finished(other).state == "succeeded"


def test_f14_a_gigabyte_on_stdout_leaves_a_bounded_log(bench: Bench) -> None:
    job_id, other = bench.submit("print 1000", model="a/b"), bench.submit("nothing")
    worker = bench.up()
    before = psutil.Process(worker.pid).memory_info().rss
    assert bench.finished(job_id).state == "succeeded"
    grown = psutil.Process(worker.pid).memory_info().rss - before
    log = bench.paths.log(bench.job(job_id).ulid, 1)
    size = log.stat().st_size
    print(f"log of {size >> 20} MiB, worker grown by {grown >> 20} MiB")
    assert size <= LIMIT
    assert grown < 50 << 20
    with log.open("rb") as file:
        assert file.readline() == b"the first line\n"
        file.seek(-14, 2)
        assert file.read() == b"the last line\n"
    assert bench.finished(other).state == "succeeded"


def test_f14_a_silent_hang_is_ended_and_named(bench: Bench) -> None:
    job_id, other = bench.submit("hang 600"), bench.submit("nothing")
    bench.up(silence=1.0, grace={"generate": 0.3}, last_words=0.2)
    job = bench.finished(job_id)
    assert (job.state, job.reason) == ("failed", "hang")
    ended = time.monotonic()
    assert bench.finished(other).state == "succeeded"
    print(f"the next job done {time.monotonic() - ended:.2f} s after the hang was ended")


def test_f14_a_child_that_cannot_be_killed_stops_its_device_only(bench: Bench) -> None:
    job_id, other = bench.submit("stuck 30"), bench.submit("nothing")
    bench.up(unkillable=0.5, grace={"generate": 0.2}, last_words=0.2)
    bench.until(lambda: bench.job(job_id).progress or bench.job(job_id).finished)
    if bench.job(job_id).reason == "bad_input":
        pytest.skip("no process may trace another here")
    bench.store.cancel(job_id)
    job = bench.finished(job_id)
    assert (job.state, job.reason) == ("failed", "stuck_in_driver")
    assert "restart the computer" in (job.error or "")
    bench.until(lambda: bench.reader.stops())
    assert "restart the computer" in (bench.job(other).blocked or "")
    # The tracer lets go, the process dies, and the next worker finds the device in order.
    for process in psutil.process_iter(["cmdline"]):
        if "0x4206" in " ".join(process.info["cmdline"] or ()):
            process.kill()
    bench.workers.pop().terminate()
    bench.free(within=10)
    bench.up()
    assert bench.finished(other).state == "succeeded"


@pytest.mark.faults
def test_f16_poison_is_quarantined_and_the_others_are_done(bench: Bench) -> None:
    poison = bench.submit("die")
    others = [bench.submit("nothing") for _ in range(20)]
    bench.up(back_off=[0.0, 0.5, 0.5])
    assert [bench.finished(job).state for job in others] == ["succeeded"] * 20
    job = bench.finished(poison)
    assert (job.state, job.reason) == ("quarantined", "poison")
    attempts = len(bench.reader.attempts(poison))
    print(f"{attempts} attempts of the poison")
    assert attempts == 3
    assert violations(bench.paths) == []


def test_f17_three_like_failures_stop_the_device_with_one_notice(bench: Bench) -> None:
    bad = [bench.submit("segfault") for _ in range(3)]
    waiting = bench.submit("nothing")
    bench.up()
    assert {bench.finished(job).reason for job in bad} == {"segfault"}
    [stop] = bench.until(bench.reader.stops)
    assert stop.scope == "cpu"
    assert "alike" in stop.reason
    assert stop.reason in (bench.job(waiting).blocked or "")
    stops = [notice for notice in bench.store.notices() if notice.kind == "stop"]
    assert len(stops) == 1
    bench.store.go("cpu")
    assert bench.finished(waiting).state == "succeeded"


def test_jobs_at_fault_themselves_do_not_stop_the_device(bench: Bench) -> None:
    bad = [bench.submit("raise no such file") for _ in range(4)]
    bench.up()
    assert {bench.finished(job).reason for job in bad} == {"bad_input"}
    assert bench.finished(bench.submit("nothing")).state == "succeeded"


@pytest.mark.faults
def test_f19_of_two_workers_on_one_device_one_runs(bench: Bench) -> None:
    slowest = 0.0
    for _ in range(50):
        pair = [bench.worker(), bench.worker()]
        began = time.monotonic()
        loser = bench.until(lambda pair=pair: next((p for p in pair if p.poll() is not None), None))
        slowest = max(slowest, time.monotonic() - began)
        assert loser.returncode == 4
        assert "taken by" in loser.stderr.read()
        [winner] = [p for p in pair if p is not loser]
        bench.until(lambda: bench.reader.workers())
        assert winner.poll() is None
        winner.terminate()
        assert winner.wait(20) == 0
        assert not held(bench.lock)
    print(f"50 pairs: the second ended after {slowest:.2f} s at most, the start included")
