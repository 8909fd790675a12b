"""Keys that come in one packet are acted upon one by one, each where the one before it has led."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandList, CommandPalette
from textual.events import Key, Paste
from textual.screen import Screen
from textual.widgets import Input

from obstui.config import Paths
from obstui.store import Store
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.layers import LayersScreen
from obstui.tui.screens.new_job import NewJobScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.screens.sweeps import SweepsScreen
from obstui.tui.snapshot import settled
from obstui.tui.widgets.filter_line import FilterLine
from obstui.tui.widgets.job_table import JobTable
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until

KEYS = {"enter": "\r", "escape": None, "backspace": None, "space": " ", "slash": "/", "colon": ":"}


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(tmp_path)
    yield scene
    scene.close()


def burst(app: Any, *keys: str | Paste) -> None:
    """All of them before the dashboard has seen one."""
    for key in keys:
        app.post_message(key if isinstance(key, Paste) else Key(key, KEYS.get(key, key)))


def order(app: Any) -> list[int]:
    return [int(str(key.value)) for key in app.screen_stack[0].query_one(JobTable).rows]


async def at(pilot: Any, app: Any, screen: type[Screen[Any]]) -> None:
    await until(pilot, lambda: type(app.screen) is screen and not app._typing)
    await settled(app, pilot)


async def test_there_and_back_and_on(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        table = app.screen.query_one(JobTable)
        await pilot.press("g")
        first = table.job_id
        burst(app, "j", "enter", "escape", "j")
        await until(pilot, lambda: table.job_id == order(app)[2])
        await at(pilot, app, QueueScreen)
        assert order(app)[0] == first
        burst(app, "enter", "escape", "enter")
        await at(pilot, app, JobScreen)
        assert len(app.screen_stack) == 2
        assert app.screen.job_id == order(app)[2]


async def test_no_key_acts_on_a_place_that_was_left(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        burst(app, "3", "x")
        await at(pilot, app, SweepsScreen)
        burst(app, "1", "n", "x")
        await at(pilot, app, NewJobScreen)
        assert not app._notifications


async def test_a_key_waits_for_what_the_place_before_it_has_to_read(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        burst(app, "4", "j", "j", "enter")
        await until(pilot, lambda: isinstance(app.screen, LayersScreen))
        burst(app, "escape", "1", "slash", Paste("state:failed"), "enter", "space")
        await until(pilot, lambda: len(app.screen.query(JobTable)) == 1)
        table = app.screen.query_one(JobTable)
        await until(pilot, lambda: bool(table.marks))
        assert set(table.marks) == {3}


async def test_a_key_sees_what_the_one_before_it_has_changed(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: order(app)[:3] == [5, 6, 7])  # 5 runs, 6 and 7 wait
        burst(app, "g", "j", "j", "plus", "plus", "k", "enter")
        await at(pilot, app, JobScreen)
        assert app.screen.job_id == 5  # 7 has come before 6


async def test_also_what_is_done_at_once_is_seen_before_the_next_key(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(act: Callable[[Store], object]) -> object:
        return act(busy.store)

    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: order(app)[:3] == [5, 6, 7])
        monkeypatch.setattr(app._writer, "call", call)
        burst(app, "g", "j", "j", "plus", "plus", "k", "enter")
        await at(pilot, app, JobScreen)
        assert app.screen.job_id == 5


async def test_forms_that_come_in_one_go_are_all_filled(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    async with opened(scene.paths) as (app, pilot):
        for name in ("one", "two", "three"):
            burst(app, "n", "tab", "tab", *name, "ctrl+s")
        await until(pilot, lambda: len(app.snapshot.jobs) == 3)
        assert {job.name for job in app.snapshot.jobs} == {"one", "two", "three"}
    scene.close()


async def test_pasted_text_keeps_its_place_among_the_keys(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        burst(app, "slash", Paste("state:failed"), "enter", "g")
        await until(pilot, lambda: order(app) == [3])
        assert app.focused is app.screen.query_one(JobTable)
        assert app.screen.query_one(FilterLine).text == "state:failed"


async def test_escape_and_a_letter_are_not_alt_and_the_letter(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("g")
        table = app.screen.query_one(JobTable)
        burst(app, "enter")
        await at(pilot, app, JobScreen)
        app.post_message(Key("alt+j", "j"))
        await at(pilot, app, QueueScreen)
        await until(pilot, lambda: table.job_id == order(app)[1])
        burst(app, "slash", "n")
        await until(pilot, lambda: app.screen.query_one(FilterLine).text == "n")
        app.post_message(Key("alt+b", "b"))
        await settled(app, pilot)
        assert app.focused is app.screen.query_one("#filter-text")


async def test_what_was_read_last_may_come_behind_the_last_screen(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, _):
        pass
    await app._show()


async def test_the_palette_runs_only_what_was_found_for_the_whole_text(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: order(app)[0] == 5)
        await pilot.press("g")
        burst(app, "colon", *"pau")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette) and not app._typing)
        await until(pilot, lambda: app.screen.query_one(CommandList).option_count)
        written = app.screen.query_one(Input)
        burst(app, "s", "x", "x", "enter")
        await until(pilot, lambda: written.value == "pausxx" and not app._typing)
        assert isinstance(app.screen, CommandPalette)
        burst(app, "backspace", "backspace", "e", "enter")
        await until(pilot, lambda: not isinstance(app.screen, CommandPalette))
        await until(pilot, lambda: any(j.desired == "pause" for j in app.snapshot.jobs))
