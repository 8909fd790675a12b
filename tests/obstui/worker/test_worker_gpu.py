"""GPUs without a GPU: the real worker and its side processes, with a module in NVML's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from obstui.cli import main
from obstui.config import Paths
from obstui.store.reader import held
from obstui.telemetry import Reading, published
from obstui.worker import gpu, launch
from obstui.worker.guard import GIB, Guard, Limits
from obstui.worker.liveness import Holder
from obstui.worker.telemetry import Telemetry

from .conftest import Bench

A, B = "GPU-aaaa", "GPU-bbbb"
Driver = Callable[..., None]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Says what the driver says from now on."""
    state = tmp_path / "nvml.json"

    def say(**changes: Any) -> None:
        draft = tmp_path / "nvml.new"
        draft.write_text(json.dumps({"gpus": [A, B]} | changes))
        draft.rename(state)

    say()
    monkeypatch.setenv("OBSTUI_FAKE_NVML", str(state))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).with_name("fake_nvml")))
    return say


@pytest.fixture
def intruder() -> Iterator[int]:
    """Another program's process."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def test_gpus_are_known_by_their_uuid(driver: Driver) -> None:
    assert gpu.devices() == [gpu.Device(A, f"Fake {A}"), gpu.Device(B, f"Fake {B}")]
    assert gpu.choose(B).id == B
    assert gpu.choose(None).id == A
    assert gpu.choose("cpu").id == "cpu"


def test_a_machine_without_a_driver_computes_on_its_processor(driver: Driver) -> None:
    driver(error="absent")
    assert [device.id for device in gpu.devices()] == ["cpu"]
    driver(gpus=[])
    assert [device.id for device in gpu.devices()] == ["cpu"]


def test_a_broken_driver_is_named_and_not_replaced_by_the_processor(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(error="Driver/library version mismatch")
    with pytest.raises(gpu.DriverFails, match=r"version mismatch.*--device cpu"):
        gpu.choose(None)
    driver(hang=True)
    monkeypatch.setattr(gpu, "ANSWER_WITHIN", 1.0)
    with pytest.raises(gpu.DriverFails, match="no answer within 1 s"):  # it sleeps for an hour
        gpu.choose(None)


def test_readings_come_and_go_with_the_driver(
    driver: Driver, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obstui.worker.telemetry._STALE_AFTER", 3.0)
    driver(free=5 << 30, temperature=61, utilisation=93, users={A: [[1, 7]]})
    watch = Telemetry(A, paths.telemetry(A))
    try:
        until(lambda: watch.read() is not None)
        expected = Reading(5 << 30, 24 << 30, 61, ((1, 7),), utilisation=93, power=None)
        assert watch.read() == expected
        assert published(paths.telemetry(A), time.time()) == expected
        assert published(paths.telemetry(A), time.time() + 60) is None
        assert published(paths.telemetry(B), time.time()) is None
        driver(power=350.5)
        until(lambda: (reading := watch.read()) is not None and reading.power == 350.5)
        driver(hang=True)
        slowest = 0.0

        def silent() -> bool:
            nonlocal slowest
            began = time.monotonic()
            reading = watch.read()
            slowest = max(slowest, time.monotonic() - began)
            return reading is None

        until(silent)
        assert slowest < 2  # the driver sleeps for an hour
    finally:
        watch.close()


def test_a_processor_has_no_readings() -> None:
    watch = Telemetry("cpu")
    assert watch.read() is None
    watch.close()


def until(condition: Callable[[], Any], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def guard(paths: Paths, reading: Reading | None, **limits: Any) -> Guard:
    return Guard(paths, lambda: reading, Limits(disk=0, **limits))


def test_only_foreign_processes_with_much_memory_are_in_the_way(
    tmp_path: Path, intruder: int
) -> None:
    paths = Paths(tmp_path, tmp_path / "jobs.db")
    for used, pid, found in [
        (GIB, intruder, "foreign_gpu"),
        (GIB - 1, intruder, None),
        (GIB, 2**22 + 1, None),  # a pid of another namespace
    ]:
        verdict = guard(paths, Reading(0, 24 * GIB, None, ((pid, used),))).closed()
        assert (verdict and verdict[0]) == found
    own = guard(paths, Reading(0, 24 * GIB, None, ((intruder, GIB),)))
    assert own.in_the_way(os.getsid(intruder)) is None


def test_heat_stops_work_until_the_device_is_cool(tmp_path: Path) -> None:
    heat = 86
    paths = Paths(tmp_path, tmp_path / "jobs.db")
    watched = Guard(paths, lambda: Reading(1, 1, heat, ()), Limits(disk=0))
    said = []
    for heat in (86, 87, 80, 77, 76, 86):  # noqa: B007 - the guard reads it
        found = watched.closed()
        said.append(found and found[0])
    assert said == [None, "thermal", "thermal", "thermal", None, None]


def test_a_job_waits_for_memory_that_others_hold(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "jobs.db")
    spec = {"kind": "generate", "prompts": ["a"], "model": "stabilityai/sdxl"}
    assert guard(paths, Reading(24 * GIB, 24 * GIB, None, ())).room_for(spec) is None
    busy = guard(paths, Reading(GIB, 24 * GIB, None, ())).room_for(spec)
    assert busy is not None
    assert busy[0] == "gpu_busy"
    # What never fits is for the engine to refuse.
    assert guard(paths, Reading(GIB, GIB, None, ())).room_for(spec) is None
    assert guard(paths, None).room_for(spec) is None


def test_a_disk_too_small_for_the_forecast_puts_the_job_off(tmp_path: Path) -> None:
    spec = {"kind": "generate", "prompts": ["a"], "model": "demo"}
    full = Guard(Paths(tmp_path, tmp_path / "jobs.db"), lambda: None, Limits(disk=1 << 60))
    found = full.room_for(spec)
    assert found is not None
    assert found[0] == "disk_full"
    assert full.closed() is not None


def test_a_job_makes_room_for_another_program_and_comes_back(
    bench: Bench, driver: Driver, intruder: int
) -> None:
    job_id = bench.submit("once work 60", "nothing")
    bench.up(device=A, look=0.1)
    bench.child(job_id)
    driver(users={A: [[intruder, 9 * GIB]]})
    bench.until(lambda: bench.job(job_id).state == "queued")
    assert bench.job(job_id).reason == "foreign_gpu"
    bench.until(lambda: "another program uses the device" in (bench.job(job_id).blocked or ""))
    assert str(intruder) in (bench.job(job_id).blocked or "")
    driver()
    assert bench.finished(job_id).state == "succeeded"
    assert [a.reason for a in bench.reader.attempts(job_id)] == ["foreign_gpu", None]
    assert bench.reader.stops() == []


def test_a_guard_does_not_end_a_stop_that_a_person_made(
    bench: Bench, driver: Driver, intruder: int
) -> None:
    driver(users={A: [[intruder, 9 * GIB]]})
    bench.up(device=A)
    bench.store.stop(A, "by hand")
    waiting = bench.submit("nothing")
    driver()
    time.sleep(3)  # longer than the guard takes to see the change
    assert "by hand" in (bench.job(waiting).blocked or "")


def test_a_driver_that_hangs_hangs_no_job(bench: Bench, driver: Driver) -> None:
    worker = bench.up(device=A)
    bench.until(lambda: watchers(bench))
    driver(hang=True)
    assert bench.finished(bench.submit("nothing")).state == "succeeded"
    worker.kill()
    bench.until(lambda: not watchers(bench))


def watchers(bench: Bench) -> list[int]:
    """The side processes that ask the driver for this bench's workers."""
    found = psutil.process_iter(["cmdline", "environ", "status"])
    return [
        process.pid
        for process in found
        if "obstui.worker.gpu" in (process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("OBSTUI_HOME") == str(bench.paths.home)
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def test_each_gpu_has_a_worker_and_a_child_of_its_own(bench: Bench, driver: Driver) -> None:
    # Neither ends by itself: the first worker would take both while the second still starts.
    jobs = [bench.submit("environment CUDA_VISIBLE_DEVICES", "work 600") for _ in range(2)]
    bench.up(device=A)
    bench.up(device=B)
    for job in jobs:
        bench.child(job)
    assert {bench.job(job).device for job in jobs} == {A, B}
    for job in jobs:
        assert str(bench.job(job).device) in bench.log(job)
    locks = [bench.paths.lock(device) for device in (A, B)]
    assert all(held(lock) for lock in locks)
    assert {h.device for lock in locks if (h := Holder.read(lock))} == {A, B}
    assert len(launch.status(bench.paths)) == 2


def test_the_command_starts_a_worker_for_each_gpu(
    bench: Bench,
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OBSTUI_HOME", str(bench.paths.home))
    monkeypatch.setenv("OBSTUI_CONFIG", str(bench.paths.home / "none.toml"))
    try:
        for _ in range(2):  # the second time they are there already
            with pytest.raises(SystemExit) as ended:
                main(["worker", "start"])
            assert ended.value.code == 0
            said = capsys.readouterr().err
            assert f"up on Fake {A}" in said
            assert f"up on Fake {B}" in said
            assert {worker.device for worker in bench.reader.workers()} == {A, B}
            assert len({status.pid for status in launch.status(bench.paths)}) == 2
    finally:
        launch.stop(bench.paths)


def test_the_dashboard_starts_a_worker_for_every_gpu(
    bench: Bench, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from obstui.tui.app import start_worker

    monkeypatch.setenv("OBSTUI_CONFIG", str(bench.paths.home / "none.toml"))
    try:
        start_worker(bench.paths)
        start_worker(bench.paths)  # those that live stay
        alive = [worker for worker in bench.reader.workers() if worker.alive]
        assert {worker.device for worker in alive} == {A, B}
    finally:
        launch.stop(bench.paths)
    assert not any(held(bench.paths.lock(device)) for device in (A, B))
