"""Who tells whom what, in which order, in the flows that everything else hangs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from textual.message import Message
from textual.widgets import Button, Input
from textual.widgets._toast import Toast

from obstui.config import Paths
from obstui.tui.app import Dashboard
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.snapshot import settled
from obstui.tui.widgets.job_table import JobTable
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, told, until


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


async def test_messages_cover_no_buttons(busy: tui_store.Scene) -> None:
    app = Dashboard(busy.paths, clock=lambda: tui_store.NOW, start_worker=None)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(app, pilot)
        await pilot.press("c")
        app.notify("The answers are those of a picture with a long name: ctrl+z brings back yours.")
        app.notify("Queued as job 12.")
        await until(pilot, lambda: len(app.screen.query(Toast)) == 2)
        await pilot.pause()
        toasts = [toast.region for toast in app.screen.query(Toast)]
        assert all(toasts), "they are there to be seen"
        buttons = [button.region for button in app.screen.query(Button)]
        assert len(buttons) == 2
        assert not [each for each in toasts if any(each.overlaps(button) for button in buttons)]


async def test_a_job_queued_by_the_form(busy: tui_store.Scene) -> None:
    """Every change of an answer is planned; what was queued is read, then chosen, then followed."""
    heard: list[Message] = []
    async with opened(busy.paths, heard=heard, watch=5) as (app, pilot):
        heard.clear()
        await pilot.press("n")
        await settled(app, pilot)
        assert told(heard) == ["StoreRead", "PlanPanel.Planned"], "who makes variants, and the plan"
        app.screen.query_one("#answer-sparsity", Input).value = "0.4"
        await settled(app, pilot)
        assert told(heard) == ["PlanPanel.Planned"]
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await until(pilot, lambda: app.screen.query_one(JobTable).job_id == 9)
        await settled(app, pilot)
        assert told(heard) == ["StoreRead", "JobTable.Chosen", "LayerMap.Pointed", "StoreRead"]


async def test_a_filter_set_and_forgotten(busy: tui_store.Scene) -> None:
    """The line tells the screen, which asks the store; only its answer moves the cursor."""
    heard: list[Message] = []
    async with opened(busy.paths, heard=heard, watch=5) as (app, pilot):
        await pilot.press("slash")
        heard.clear()
        app.screen.query_one("#filter Input", Input).value = "state:failed"
        await pilot.press("enter")
        await until(pilot, lambda: app.snapshot.found and app.snapshot.found.total == 1)
        await settled(app, pilot)
        chosen = ["StoreRead", "JobTable.Chosen", "LayerMap.Pointed", "StoreRead"]
        assert told(heard) == ["FilterLine.Changed", *chosen]
        await pilot.press("escape")
        await until(pilot, lambda: app.snapshot.found and app.snapshot.found.total == 8)
        await settled(app, pilot)
        assert told(heard)[:2] == ["FilterLine.Changed", "StoreRead"]


async def test_a_job_opened_and_left(busy: tui_store.Scene) -> None:
    """Its story is read once; what it shows is told by its parts; back home all is read anew, and
    nobody chooses what was chosen already."""
    heard: list[Message] = []
    async with opened(busy.paths, heard=heard, watch=5) as (app, pilot):
        heard.clear()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
        await settled(app, pilot)
        assert told(heard) == ["LayerMap.Pointed", "LogLines.Moved", "StoreRead"]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await settled(app, pilot)
        assert told(heard) == ["StoreRead"]


async def test_marked_jobs_cancelled(busy: tui_store.Scene) -> None:
    """Nothing is told to anyone before the question has its answer; then the store is read."""
    heard: list[Message] = []
    async with opened(busy.paths, heard=heard, watch=6) as (app, pilot):
        for _ in range(2):
            heard.clear()
            await pilot.press("space")
            await settled(app, pilot)
            assert told(heard) == ["JobTable.Chosen", "StoreRead"]
        await pilot.press("c")
        await settled(app, pilot)
        assert told(heard) == []
        await pilot.press("y")
        await until(pilot, lambda: all(
            (job := app.snapshot.job(number)) and job.state == "cancelled" for number in (6, 7)
        ))  # fmt: skip
        await settled(app, pilot)
        assert told(heard) == ["StoreRead"]
