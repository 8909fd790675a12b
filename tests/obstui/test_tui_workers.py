"""The workers' screen, the top of every screen, and what the terminal around it is told."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from obstui.config import Paths, Settings
from obstui.finish import Finish
from obstui.store import Reader, WorkerView
from obstui.store.stops import BY_HAND, QUEUE
from obstui.tui import attention, farewell, machine
from obstui.tui.app import Dashboard, start_worker
from obstui.tui.aside import aside
from obstui.tui.follow import Fault, Snapshot
from obstui.tui.formats import when
from obstui.tui.screens import workers
from obstui.tui.screens.confirm import Confirm
from obstui.tui.screens.workers import WorkersScreen
from obstui.tui.widgets.device_lines import read_users
from obstui.tui.widgets.sheet import Rows
from obstui.tui.widgets.status_line import Said, StatusLine
from obstui.tui.widgets.still import Still
from tests.obstui import tui_pilot, tui_store

GPU = "cuda:0"
GIB = 1 << 30


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    telemetry(paths)
    yield scene
    scene.close()


def telemetry(paths: Paths, **changes: Any) -> None:
    """What the worker of the GPU has read a moment ago."""
    path = paths.telemetry(GPU)
    path.parent.mkdir(exist_ok=True)
    reading = {"at": tui_store.NOW, "free": 40 * GIB, "total": 80 * GIB, "temperature": 63,
               "users": [[os.getpid(), 3 * GIB]], "utilisation": 97, "power": 512.4}  # fmt: skip
    path.write_text(json.dumps(reading | changes))


def words(app: Dashboard, widget: str) -> str:
    return app.screen.query_one(widget, Still).text


async def test_the_device_tells_all(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await pilot.press("5")
        await tui_pilot.until(pilot, lambda: "used by" in words(app, "#device"))
        told = words(app, "#device")
        assert "40.0 of 80.0 GiB" in told
        assert "97 %" in told
        assert "63 °C" in told
        assert "512 W" in told
        assert f"pid {os.getpid()})  3.00 GiB, another program: jobs make way" in told
        assert "its heart beats" in told
        assert words(app, "#top").splitlines()[1].startswith("● H100 80GB HBM3 job 5  97 %")


async def test_the_selection_stays_at_its_device_when_another_comes(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await pilot.press("5")
        await tui_pilot.until(pilot, lambda: "H100" in words(app, "#device"))
        screen = app.screen
        assert isinstance(screen, WorkersScreen)
        view = WorkerView("w-2", "a first one", "Another", os.getpid(), "here", busy.now, busy.now,
                          "idle", None, True)  # fmt: skip
        busy.store.beat(view)
        await tui_pilot.until(pilot, lambda: screen.query_one(Rows).row_count > 1)
        assert screen.chosen is not None
        assert screen.chosen.id == GPU
        assert screen.query_one(Rows).cursor_row == 1


async def test_small_users_are_not_in_the_way(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths, settings=Settings(foreign_gib=4)) as (app, pilot):
        await pilot.press("5")
        await tui_pilot.until(pilot, lambda: "used by" in words(app, "#device"))
        assert "another program: " not in words(app, "#device"), "3 GiB are below the limit"


def test_the_jobs_own_process_is_no_intruder(busy: tui_store.Scene) -> None:
    """A process is the job's when it is in the session that the job's child leads."""
    with Reader.open(busy.paths) as reader:
        assert [user.ours for user in read_users(reader)] == [False]
    with closing(sqlite3.connect(busy.paths.db)) as conn, conn:
        conn.execute("UPDATE attempt SET pid = ? WHERE job_id = 5", (os.getsid(0),))
        conn.execute("UPDATE worker SET seen_at = ?", (tui_store.NOW,))
    with Reader.open(busy.paths) as reader:
        assert [user.ours for user in read_users(reader)] == [True]


async def test_the_queue_is_paused_and_goes_on(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await pilot.press("5", "p")
        await tui_pilot.until(pilot, lambda: "the queue is paused" in words(app, "#device"))
        assert "‖ queue paused" in words(app, "#top")
        with Reader.open(busy.paths) as reader:
            assert [(stop.scope, stop.reason) for stop in reader.stops()] == [(QUEUE, BY_HAND)]
        await pilot.press("p")
        await tui_pilot.until(pilot, lambda: "paused" not in words(app, "#top").splitlines()[1])


async def test_the_circuit_breakers_stop_is_lifted(busy: tui_store.Scene) -> None:
    busy.store.stop(GPU, "3 jobs in a row failed alike: a driver fault")
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await pilot.press("5")
        await tui_pilot.until(pilot, lambda: "3 jobs in a row" in words(app, "#device"))
        assert "l lifts it" in words(app, "#device")
        await pilot.press("l")
        await tui_pilot.until(pilot, lambda: "3 jobs in a row" not in words(app, "#device"))


async def test_readonly_changes_nothing(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths, readonly=True) as (app, pilot):
        await pilot.press("5", "p", "l", "d", "S")
        await pilot.pause()
        assert isinstance(app.screen, WorkersScreen)
        with Reader.open(busy.paths) as reader:
            assert reader.stops() == []
        assert "read-only" in words(app, "#top")
    assert not (busy.paths.home / "dashboard.json").exists()


async def test_a_fault_of_the_page_is_shown_in_the_page(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Reader) -> object:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(workers, "read_users", broken)
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await pilot.press("5")
        await tui_pilot.until(pilot, lambda: isinstance(app.snapshot.page, Fault))
        await tui_pilot.until(pilot, lambda: "ZeroDivisionError" in words(app, "#device"))
        assert "H100" in words(app, "#device"), "the rest of the screen stands"


async def test_a_real_worker_is_started_and_stopped(paths: Paths) -> None:
    """Whatever devices this machine has, all are served, and all are free in the end."""
    from obstui.worker import gpu, launch

    count = len(gpu.devices())
    try:
        async with tui_pilot.opened(paths, start_worker=start_worker) as (app, pilot):
            await tui_pilot.until(
                pilot, lambda: sum(worker.alive for worker in app.snapshot.workers) == count
            )
            await pilot.press("5")
            await tui_pilot.until(pilot, lambda: isinstance(app.screen, WorkersScreen))
            await tui_pilot.until(pilot, lambda: words(app, "#device"))
            await pilot.press("S")
            await tui_pilot.until(pilot, lambda: isinstance(app.screen, Confirm))
            assert app.screen.query_one("#no").has_focus, "the safe answer"
            await pilot.press("y")
            await tui_pilot.until(pilot, lambda: not app.snapshot.worker_alive)
        assert launch.status(paths) == []
    finally:
        launch.stop(paths, now=True)


async def test_nobody_who_leaves_waits_for_a_worker_that_stops(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def stop(paths: Paths) -> None:
        threads.append(threading.current_thread())
        raise RuntimeError("the driver hangs")

    monkeypatch.setattr("obstui.worker.launch.stop", stop)
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await pilot.press("5", "S")
        await tui_pilot.until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await tui_pilot.until(
            pilot, lambda: any("the driver hangs" in each.message for each in app._notifications)
        )
    assert [thread.daemon for thread in threads] == [True]


def test_what_nobody_waits_for_goes_on() -> None:
    over = threading.Event()

    async def leave() -> None:
        waiting = asyncio.create_task(aside(lambda: over.wait(30)))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave())
    left = [thread for thread in threading.enumerate() if thread.name == "aside"]
    assert left
    over.set()
    for thread in left:
        thread.join(30)


# -- the top ---------------------------------------------------------------------------------


async def top(app: Dashboard, snapshot: Snapshot, now: float = tui_store.NOW) -> list[str]:
    line = app.screen.query_one(StatusLine)
    line.tell(Said(snapshot, "queue", False, False, now))
    return line.text.splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
async def test_the_top_fits_and_keeps_the_counts(busy: tui_store.Scene, width: int) -> None:
    async with tui_pilot.opened(busy.paths, size=(width, 24)) as (app, _):
        finish = Finish(3, p50=tui_store.NOW + 3600, p90=tui_store.NOW + 7200)
        told = machine.Machine(app.snapshot.machine.devices, finish, 812 * GIB)
        first, second = await top(app, replace(app.snapshot, machine=told))
        assert len(first) <= width - 2
        assert len(second) <= width - 2
        assert first.endswith("2 done" if width >= 120 else "2")
        assert ("5 Workers" in first) == (width >= 80)
        assert "1 Queue" in first
        assert "job 5" in second
        assert "done ~" in second


async def test_many_devices_are_dots_on_a_narrow_screen(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths) as (app, _):
        worker = app.snapshot.workers[0]
        eight = tuple(replace(worker, device=f"GPU-{n}", job_id=n or None) for n in range(8))
        _, second = await top(app, replace(app.snapshot, workers=eight))
        assert second.startswith("○●●●●●●● 7 of 8 devices busy")


# -- the terminal around -----------------------------------------------------------------------


def test_the_title_counts() -> None:
    counts = {"running": 1, "starting": 1, "queued": 0, "failed": 1}
    assert attention.title(Snapshot(counts=counts)) == "\x1b]2;obstui: 2 running, 1 failed\x07"
    assert attention.title(Snapshot()) == "\x1b]2;obstui: idle\x07"


def test_ends_are_told_once_and_safely(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    with Reader.open(busy.paths) as reader:
        before = Snapshot(jobs=tuple(reader.jobs()))
        assert attention.ended(before, before) == []
    running = next(job for job in before.jobs if job.live)
    over = replace(running, state="succeeded", finished_at=tui_store.NOW)
    after = Snapshot(jobs=(over,), titles={over.id: "evil;\x1b]0;x\x07 name"})
    assert attention.ended(before, after) == [over]
    assert attention.ended(after, after) == []
    assert attention.call("bell", after, [over]) == "\x07"
    said = attention.call("osc777", after, [over])
    assert said == f"\x1b]777;notify;obstui;job {over.id} succeeded: evil, name\x07"
    monkeypatch.setenv("TMUX", "yes")
    assert attention.call("osc9", after, [over]).startswith("\x1bPtmux;\x1b\x1b]9;job")


async def test_a_stopped_worker_is_not_forgotten(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    scene.now = tui_store.NOW - 100
    async with tui_pilot.opened(paths) as (app, pilot):
        await pilot.press("5")
        await tui_pilot.until(pilot, lambda: "has run here yet" in words(app, "#nobody"))
        scene.queue("prune")
        scene.finish(scene.start(), "succeeded", result={})
        ended = when(scene.now, tui_store.NOW)
        await tui_pilot.until(
            pilot, lambda: f"job that one took: 1, succeeded {ended}." in words(app, "#nobody")
        )
    scene.close()


def test_the_last_words_tell_what_goes_on() -> None:
    worker = WorkerView("w", "cpu", "cpu", 1, "here", 0.0, 0.0, "idle", None, alive=True)
    waiting = Snapshot(counts={"queued": 1}, workers=(worker,))
    assert farewell(waiting, "bin/obstui").endswith(
        "goes on with 1 queued job; bin/obstui shows it again."
    )
    paused = replace(waiting, counts={"queued": 2}, nobody="the queue is paused: by hand")
    assert farewell(paused, "obstui") == "Not started: 2 queued jobs; the queue is paused: by hand."
    assert farewell(replace(paused, counts={}), "obstui") == ""
    assert farewell(replace(waiting, workers=()), "obstui") == ""
