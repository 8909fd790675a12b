"""What is wrong in one job's data stays in one panel: the dashboard goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from textual.widgets import ContentSwitcher

from obstui.config import Paths
from obstui.store import Reader
from obstui.tui.follow import Fault
from obstui.tui.places import PLACES
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.widgets.layer_map import LayerMap
from obstui.tui.widgets.still import Still
from tests.obstui import tui_store
from tests.obstui.cases import first_now
from tests.obstui.tui_pilot import opened, until

BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a bench of an older version": (
        {"kind": "bench", "variants": ("1@10",)},
        {"latency": [{"model": "dense", "step_ms": 80.0}]},
    ),
    "a comparison without figures": (
        {"kind": "compare", "variants": ("1@10",)},
        {"models": [{"model": "dense"}, 7]},
    ),
    "a prune whose variants are words": (
        {"kind": "prune", "sparsity": (0.3,)},
        {"variants": "three of them", "targets": 12},
    ),
    "an export of nothing": (
        {"kind": "export", "variant": "1@30", "format": "pth"},
        {"export": {"params": "many", "files": [None]}},
    ),
    "pictures that are numbers": (
        {"kind": "generate", "prompts": ("a cat",)},
        {"images": [1, 2], "models": None},
    ),
}


BROKEN_JOB = 2


def finished(paths: Paths, spec: dict[str, Any], result: dict[str, Any]) -> tui_store.Scene:
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    scene.queue(**spec)
    scene.finish(scene.start(), "succeeded", result=result)
    return scene


@pytest.mark.parametrize("what", first_now(BROKEN))
async def test_a_broken_result_breaks_no_place(paths: Paths, what: str) -> None:
    scene = finished(paths, *BROKEN[what])
    async with opened(scene.paths, size=(160, 50)) as (app, pilot):
        for place in PLACES:
            await pilot.press(place.key)
            await until(pilot, lambda: app.up_to_date)
        await pilot.press("1", "home", "enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and app.up_to_date)
        assert cast(JobScreen, app.screen).job_id == BROKEN_JOB
        tabs = []
        for tab in "LSAO":
            await pilot.press(tab)
            await until(pilot, lambda: app.up_to_date)
            tabs.append(app.screen.query_one(ContentSwitcher).current)
        assert tabs == ["log", "settings", "settings", "overview"], "without targets A does nothing"
        assert app.is_running
        for view in app.screen_stack:  # said in a panel or on the banner: either will do
            cast(Any, view).broken = None
    scene.close()


async def test_the_panel_says_what_it_could_not_read(paths: Paths) -> None:
    scene = finished(paths, *BROKEN["a bench of an older version"])
    async with opened(scene.paths, size=(160, 50)) as (app, _):
        assert "cannot be read (KeyError" in app.screen.query_one("#pane-result", Still).text
    scene.close()


async def test_a_screen_that_cannot_be_drawn_says_so_and_comes_back(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    async with opened(scene.paths) as (app, pilot):
        with monkeypatch.context() as patch:
            patch.delattr(QueueScreen, "_found_words")
            await app.screen.show_newest()
            assert "cannot be drawn (AttributeError" in app.screen.query_one("#banner", Still).text
        await pilot.press("2", "1")
        await until(pilot, lambda: not app.screen.query_one("#banner", Still).text)
    scene.close()


@pytest.mark.parametrize("place", ["sweeps", "models", "workers", "report"])
async def test_a_fault_is_told_by_the_screen_whose_page_it_is(paths: Paths, place: str) -> None:
    scene = tui_store.busy(paths.home)
    [key] = [each.key for each in PLACES if each.name == place]
    async with opened(scene.paths, size=(120, 40)) as (app, pilot):

        def told() -> bool:
            return any("unreadable" in still.text for still in app.screen.query(Still))

        await pilot.press(key)
        await until(pilot, lambda: app.up_to_date)
        own = replace(app.snapshot, page=Fault("unreadable"))
        app.snapshot = replace(own, reading=lambda reader: None)
        await app.screen.show_newest()
        assert not told()
        app.snapshot = own
        await app.screen.show_newest()
        assert told()
    scene.close()


async def test_a_reading_that_means_nothing_breaks_its_own_panel_only(paths: Paths) -> None:
    scene = tui_store.busy(paths.home)
    claim = tui_store.Claim(5, "", 1, tui_store.WORKER, "cpu", {}, {})
    with Reader.open(paths) as reader:
        job = reader.job(5)
        assert job is not None
        claim = replace(claim, ulid=job.ulid)
    scene.store.progress(
        claim, {**(job.progress or {}), "memory": {"device": "cuda:0", "now": "much"}}
    )
    async with opened(scene.paths, size=(160, 50), watch=5) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and app.up_to_date)
        assert "cannot be read" in app.screen.query_one("#job-memory", Still).text
        assert "solve 87 of 210" in app.screen.query_one("#job-status", Still).text
        assert app.screen.query_one(LayerMap).targets, "the rest of the screen stands"
        for view in app.screen_stack:
            cast(Any, view).broken = None
    scene.close()
