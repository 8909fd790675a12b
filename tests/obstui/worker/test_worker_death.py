"""What happens to jobs, children and the device when the worker itself ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from obstui.store.reader import held
from obstui.worker import launch
from obstui.worker.launch import WorkerError
from obstui.worker.liveness import DeviceLock, Holder, Process
from obstui.worker.protocol import Order
from obstui.worker.supervise import Child

from .conftest import Bench, gone, until


def test_a_killed_worker_takes_its_child_and_the_helpers_along(bench: Bench) -> None:
    job_id = bench.submit("helper", "once work 60")
    worker = bench.up()
    pid = bench.child(job_id)
    helper = bench.paths.log(bench.job(job_id).ulid, 1).with_name("helper.pid")
    helper_pid = int(helper.read_text())
    bench.children.add(helper_pid)
    worker.kill()
    bench.until(lambda: gone(pid) and gone(helper_pid))
    bench.free()
    bench.up()
    assert bench.finished(job_id).state == "succeeded"
    first, second = bench.reader.attempts(job_id)
    assert (first.state, first.reason, second.state) == ("interrupted", "worker_lost", "succeeded")


def test_a_child_that_finds_nobody_listening_takes_its_helpers_along(tmp_path: Path) -> None:
    """A killed worker closes both pipes: the child may hear of either first."""
    order = Order(job=1, ulid="x", attempt=1, spec={"prompts": ["helper", "work 60"]}, variants={},
                  output=str(tmp_path), work=str(tmp_path), hessians="",
                  log=str(tmp_path / "log.txt"))  # fmt: skip
    order.save(tmp_path / "order.json")
    command = [sys.executable, str(Path(__file__).with_name("scripted_child.py"))]
    child = Child(command, "cpu", os.open(tmp_path, os.O_RDONLY), tmp_path, "MARK=1")
    child.order(tmp_path / "order.json")
    helper = tmp_path / "helper.pid"
    try:
        until(lambda: helper.exists() and helper.read_text())
        os.dup2(os.open(os.devnull, os.O_RDONLY), child.events)  # its other end stays open
        until(lambda: child.exited and gone(int(helper.read_text())))
    finally:
        child.close()


def test_a_result_that_the_store_never_heard_of_is_not_made_again(bench: Bench) -> None:
    job_id = bench.submit("orphan-late")
    worker = bench.up()
    assert worker.wait(20) == -signal.SIGKILL
    bench.up()
    job = bench.finished(job_id)
    assert job.state == "succeeded"
    assert len(bench.reader.attempts(job_id)) == 1
    assert job.result["images"][0]["path"] == str(bench.paths.output(job.ulid) / "picture.png")


def test_a_damaged_result_is_made_again(bench: Bench) -> None:
    job_id = bench.submit("once orphan-late", "nothing")
    bench.up().wait(20)
    (bench.paths.output(bench.job(job_id).ulid) / "picture.png").write_text("short")
    bench.free()
    bench.up()
    assert bench.finished(job_id).state == "succeeded"
    assert len(bench.reader.attempts(job_id)) == 2


def test_cancel_while_no_worker_lives_is_obeyed_by_the_next(bench: Bench) -> None:
    job_id = bench.submit("work 60")
    worker = bench.up()
    bench.child(job_id)
    worker.kill()
    bench.free()
    bench.store.cancel(job_id)
    bench.up()
    assert bench.finished(job_id).state == "cancelled"


def test_jobs_of_a_device_that_nobody_serves_are_recovered_too(bench: Bench) -> None:
    lost, kept = bench.submit("nothing"), bench.submit("nothing")
    assert bench.store.claim("dead", "GPU-taken-out")
    assert bench.store.claim("alive", "GPU-busy")
    busy = DeviceLock(bench.paths.lock("GPU-busy"))
    assert busy.take()
    bench.up()
    assert bench.finished(lost).state == "succeeded"
    assert bench.job(kept).state == "starting"
    assert not held(bench.paths.lock("GPU-taken-out"))
    busy.release()


def test_sigterm_puts_the_job_back_uncounted(bench: Bench) -> None:
    job_id = bench.submit("once work 60", "nothing")
    worker = bench.up()
    pid = bench.child(job_id)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    job = bench.job(job_id)
    assert (job.state, job.reason) == ("queued", "drain")
    assert gone(pid)
    assert not held(bench.lock)
    assert bench.reader.workers() == []
    bench.up()
    assert bench.finished(job_id).state == "succeeded"


def test_the_second_sigterm_means_at_once(bench: Bench) -> None:
    job_id = bench.submit("deaf 600")
    worker = bench.up()
    pid = bench.child(job_id)
    worker.send_signal(signal.SIGTERM)
    bench.until(lambda: [w for w in bench.reader.workers() if w.state == "draining"], within=10)
    assert not gone(pid)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert bench.job(job_id).state == "queued"
    assert gone(pid)


def test_sighup_is_ignored(bench: Bench) -> None:
    worker = bench.up()
    worker.send_signal(signal.SIGHUP)
    assert bench.finished(bench.submit("nothing")).state == "succeeded"
    assert worker.poll() is None


def test_the_second_worker_on_a_device_names_the_first(bench: Bench) -> None:
    first = bench.up()
    second = bench.worker()
    _, said = second.communicate(timeout=20)
    assert second.returncode == 4
    assert f"taken by the worker with pid {first.pid}" in said
    assert str(bench.paths.db) in said
    assert bench.finished(bench.submit("nothing")).state == "succeeded"


def test_an_orphan_that_does_not_notice_is_killed_by_the_next_worker(bench: Bench) -> None:
    job_id = bench.submit("once work 60", "nothing")
    worker = bench.up()
    pid = bench.child(job_id)
    os.kill(pid, signal.SIGSTOP)
    worker.kill()
    worker.wait()
    assert held(bench.lock)
    bench.up()
    assert gone(pid)
    assert bench.finished(job_id).state == "succeeded"


def test_a_message_of_another_life_signals_nobody(bench: Bench) -> None:
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        process = Process.of(bystander.pid)
        assert process is not None
        lock = DeviceLock(bench.lock)
        assert lock.take()
        stale = replace(process, start_ticks=process.start_ticks - 1)
        other_boot = replace(process, boot_id="another boot")
        lock.sign(Holder("w", str(bench.paths.db), "cpu", stale, other_boot))
        lock.release()
        assert not stale.send(signal.SIGTERM)
        assert not other_boot.kill_group()
        bench.up()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_start_status_stop(bench: Bench) -> None:
    assert launch.status(bench.paths) == []
    pid = launch.start(bench.paths, "cpu")
    try:
        assert held(bench.lock)
        assert [w.pid for w in bench.reader.workers()] == [pid]
        assert launch.start(bench.paths, "cpu") == pid
        [status] = launch.status(bench.paths)
        assert (status.device, status.pid, status.db) == ("cpu", pid, str(bench.paths.db))
    finally:
        assert launch.stop(bench.paths)
    assert not held(bench.lock)
    assert not launch.stop(bench.paths)


def test_start_says_why_it_failed(bench: Bench) -> None:
    worker = bench.up()
    other = replace(bench.paths, db=bench.paths.home / "other.db")
    with pytest.raises(WorkerError, match=f"taken by the worker with pid {worker.pid}"):
        launch.start(other, "cpu")
    with pytest.raises(WorkerError, match="No device"):
        launch.start(other, "GPU-none")


def test_stop_now_does_not_wait_for_a_boundary(bench: Bench) -> None:
    job_id = bench.submit("deaf 600")
    bench.up()
    bench.child(job_id)
    assert launch.stop(bench.paths, now=True, wait=10)
    assert bench.job(job_id).state == "queued"
