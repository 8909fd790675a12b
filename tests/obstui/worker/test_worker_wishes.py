"""Why a running job stops though it could go on, and what becomes of it."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from obstui.worker import attempt as attempts
from obstui.worker import launch, logs
from obstui.worker.verdict import Ending, Verdict, judge

from .conftest import Bench, gone


def end(said: dict[str, str] | None = None, code: int | None = 1, **changes: Any) -> Verdict:
    nothing = Ending(said, code, None, None, Path("/nonexistent"))
    return judge(replace(nothing, **changes))


FULL = {"type": "failed", "reason": "oom_gpu", "error": "The GPU's memory is full: 2 GiB wanted"}
CRASH = {"type": "failed", "reason": "exit_code", "error": "RuntimeError: CUDA error"}


def test_want_of_memory_is_tried_once_more_and_then_says_what_to_change() -> None:
    first = end(FULL)
    assert (first.state, first.reason) == ("queued", "oom_gpu")
    assert first.not_before is not None
    second = end(FULL, tried=True)
    assert (second.state, second.reason) == ("failed", "oom_gpu")
    assert "--size" in (second.error or "")


def test_the_kernels_oom_killer_is_told_from_other_kills() -> None:
    assert end(code=-9).reason == "child_lost"
    assert end(code=-9, starved=True).reason == "oom_host"
    assert end(code=-9, starved=True, tried=True).state == "failed"
    assert end(code=-9, starved=True, asked="cancel").state == "cancelled"


def test_f10_a_failure_after_a_suspend_is_the_machines() -> None:
    slept = end(CRASH, slept=True)
    assert (slept.state, slept.reason) == ("queued", "gpu_lost")
    assert "slept" in (slept.error or "")
    bad = {"type": "failed", "reason": "bad_input", "error": "no such file"}
    assert end(bad, slept=True).state == "failed"
    assert end(CRASH).state == "failed"


def test_signatures_are_alike_but_for_their_numbers() -> None:
    def of(text: str, reason: str = "exit_code") -> str | None:
        return end({"type": "failed", "reason": reason, "error": text}).signature

    assert of("CUDA error 700 at 0x7f00") == of("CUDA error 2 at 0x10")
    assert of("CUDA error") != of("no kernel image")
    assert of("no such file", "bad_input") is None


def test_the_machine_tells_of_sleep_and_of_killed_processes() -> None:
    assert attempts._seconds_asleep() > -1
    assert attempts._oom_kills() >= 0


def test_a_job_out_of_memory_is_put_off(bench: Bench) -> None:
    job_id = bench.submit("memory CUDA out of memory. Tried to allocate 2.00 GiB")
    bench.up()
    bench.until(lambda: bench.job(job_id).reason == "oom_gpu")
    job = bench.job(job_id)
    assert job.state == "queued"
    assert "starts again at" in (job.blocked or "")
    assert "2.00 GiB" in (job.error or "")


def test_a_job_over_its_maximum_runtime_fails_with_the_reason(bench: Bench) -> None:
    job_id, other = bench.submit("work 60"), bench.submit("nothing")
    bench.sql("UPDATE job SET max_runtime = 0.5 WHERE id = ?", job_id)
    bench.up()
    job = bench.finished(job_id)
    assert (job.state, job.reason) == ("failed", "timeout")
    assert "max runtime" in (job.error or "")
    assert bench.finished(other).state == "succeeded"


def test_an_urgent_stop_of_the_queue_frees_the_device_and_costs_nothing(bench: Bench) -> None:
    job_id = bench.submit("once work 60", "nothing")
    bench.up()
    pid = bench.child(job_id)
    bench.store.stop("*", "paused by hand", urgent=True)
    bench.until(lambda: bench.job(job_id).state == "queued")
    assert gone(pid)
    assert bench.job(job_id).reason == "queue_paused"
    assert "paused by hand" in (bench.job(job_id).blocked or "")
    bench.store.go("*")
    assert bench.finished(job_id).state == "succeeded"


def test_a_drained_worker_finishes_its_job_and_takes_no_other(bench: Bench) -> None:
    job_id, other = bench.submit("work 1"), bench.submit("nothing")
    worker = bench.up()
    bench.child(job_id)
    assert launch.drain(bench.paths) == 1
    assert worker.wait(20) == 0
    assert bench.job(job_id).state == "succeeded"
    assert bench.job(other).state == "queued"


def test_a_start_during_a_drain_waits_for_a_worker_of_its_own(bench: Bench) -> None:
    job_id = bench.submit("work 1.5")
    worker = bench.up()
    bench.child(job_id)
    launch.drain(bench.paths)
    bench.until(lambda: (h := bench.holder()) and h.leaving)
    # Reaped at once: a zombie would look as if it still held the device.
    threading.Thread(target=worker.wait, daemon=True).start()
    pid = launch.start(bench.paths, "cpu")
    try:
        assert pid != worker.pid
        assert bench.job(job_id).state == "succeeded"
    finally:
        launch.stop(bench.paths)


def test_exit_when_idle_waits_for_jobs_that_come_again(bench: Bench) -> None:
    job_id = bench.submit("once die", "nothing")
    bench.sql("UPDATE job SET losses = 1 WHERE id = ?", job_id)
    worker = bench.worker(exit_when_idle=True, back_off=[0.0, 2.0, 2.0])
    assert worker.wait(30) == 0
    assert bench.job(job_id).state == "succeeded"
    assert len(bench.reader.attempts(job_id)) == 2


def test_sigterm_of_systemd_ends_it_cleanly(bench: Bench) -> None:
    """KillMode=mixed: the worker alone is told."""
    job_id = bench.submit("once work 60", "nothing")
    worker = bench.up()
    bench.child(job_id)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert (bench.job(job_id).state, bench.job(job_id).reason) == ("queued", "drain")


@pytest.mark.parametrize("size", [logs.LIMIT, logs.LIMIT + 1])
def test_a_log_over_the_limit_keeps_its_beginning_and_its_end(tmp_path: Path, size: int) -> None:
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        file.write(b"first")
        file.truncate(size - 4)
        file.seek(0, 2)
        file.write(b"last")
    assert logs.trim(log) is (size > logs.LIMIT)
    kept = log.stat().st_size
    assert kept == size if size == logs.LIMIT else 32 << 20 < kept < 33 << 20
    with log.open("rb") as file:
        assert file.read(5) == b"first"
        file.seek(-4, 2)
        assert file.read() == b"last"


def test_a_log_is_cut_while_the_job_goes_on_writing(bench: Bench) -> None:
    job_id = bench.submit("print 70", "gate go", "print 1", "work 600")
    bench.up()
    bench.child(job_id)
    log = bench.paths.log(bench.job(job_id).ulid, 1)
    bench.until(lambda: log.stat().st_size < 33 << 20)
    cut = log.stat().st_size
    assert bench.job(job_id).state == "running"
    log.with_name("go").touch()
    bench.until(lambda: log.stat().st_size > cut + (1 << 20))
    assert bench.job(job_id).state == "running"
    kept = log.read_bytes()
    assert kept.startswith(b"the first line\n")
    assert kept.endswith(b"the last line\n")
    assert kept.count(b"[obstui left out ") == 1
    assert b"\0" not in kept  # what followed the cut was appended to the new end
    bench.store.cancel(job_id)
    bench.finished(job_id)


def test_a_cut_loses_no_line_of_a_job_that_prints_without_end(bench: Bench) -> None:
    job_id = bench.submit("flood")
    bench.up()
    assert bench.finished(job_id).state == "succeeded"
    kept = bench.paths.log(bench.job(job_id).ulid, 1).read_bytes()
    after = kept.rpartition(b"[obstui left out ")[2].splitlines()[2:]
    numbers = [int(line) for line in after]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) > 100


def test_a_log_that_is_a_link_is_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "log.txt"
    with target.open("wb") as file:
        file.truncate(logs.LIMIT + 1)
    link.symlink_to(target)
    assert not logs.trim(link)
    assert target.stat().st_size == logs.LIMIT + 1
