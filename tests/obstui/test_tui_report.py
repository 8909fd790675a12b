"""The morning report: what it shows first, what its keys do, and that looking writes nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from textual.widgets import DataTable, Input

from obstui.config import Paths
from obstui.finish import Finish
from obstui.report import SEEN
from obstui.store import Reader
from obstui.store.stops import BY_HAND
from obstui.tui.formats import when
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.new_job import NewJobScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.screens.report import Away, ReportScreen, greeting, leave_word
from obstui.tui.widgets.status_line import StatusLine
from obstui.tui.widgets.still import Still
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


def text(app: object, name: str) -> str:
    return app.screen.query_one(name, Still).text  # type: ignore[attr-defined]


def rows(app: object) -> list[str]:
    table = app.screen.query_one(DataTable)  # type: ignore[attr-defined]
    return [str(key.value) for key in table.rows]


async def test_what_failed_comes_first_and_says_why(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: rows(app) == ["3", "4", "2", "1"])
        heading = text(app, "#heading")
        assert "1 compare, 1 prune" in heading
        assert "1 failed" in heading
        await until(pilot, lambda: "9.4 GiB more were needed" in text(app, "#lines"))
        lines = text(app, "#lines")
        assert "demo as 1@10" in lines
        assert "20 min on cpu" in lines
        assert "1 running, 2 queued, 1 held" in lines
        await pilot.press("j")
        await until(pilot, lambda: text(app, "#lines").startswith("Job 4"))
        await pilot.press("k", "enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))


async def test_the_selection_stays_at_its_job_when_another_ends(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: rows(app) == ["3", "4", "2", "1"])
        await pilot.press("j")
        await until(pilot, lambda: text(app, "#lines").startswith("Job 4"))
        busy.store.cancel(7)
        await until(pilot, lambda: rows(app) == ["3", "7", "4", "2", "1"])
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
        assert app.screen.selected_job.id == 4


async def test_what_was_seen_is_not_told_again(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: rows(app))
        with Reader.open(busy.paths) as reader:
            assert reader.setting(SEEN) is None
            await pilot.press("s")
            await until(pilot, lambda: reader.setting(SEEN) == tui_store.NOW)
        await pilot.press("1", "6")
        await until(pilot, lambda: "0 finished" in text(app, "#heading"))
        assert rows(app) == []


async def test_read_only_it_cannot_be_marked_or_changed(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, readonly=True) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: rows(app))
        await pilot.press("s", "r", "d")
        await pilot.pause()
        assert isinstance(app.screen, ReportScreen)
    with Reader.open(busy.paths) as reader:
        assert reader.setting(SEEN) is None
        assert reader.job(3).state == "failed"


async def test_a_failed_job_is_retried_or_changed_from_here(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: rows(app))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        assert app.screen.query_one("#answer-size", Input).value == "2048"
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ReportScreen))
        await pilot.press("r")
        with Reader.open(busy.paths) as reader:
            await until(pilot, lambda: reader.job(3).state == "queued")


async def test_coming_back_a_toast_says_what_ended(busy: tui_store.Scene) -> None:
    assert greeting(busy.paths, tui_store.NOW) == ""  # nobody has read a report yet
    busy.store.set_setting(SEEN, tui_store.NOW - 86_400)
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: any("2 finished, 1 failed" in n.message
                                       for n in app._notifications))  # fmt: skip
        assert isinstance(app.screen, QueueScreen)
    busy.store.set_setting(SEEN, tui_store.NOW)
    assert greeting(busy.paths, tui_store.NOW) == ""


def test_folders_are_not_walked_at_every_look(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store changes every second while a job runs; the sizes may be a minute old."""
    walked: list[Path] = []

    def tree_bytes(folder: Path) -> int:
        walked.append(folder)
        return 7

    monkeypatch.setattr("obstui.tui.screens.report.tree_bytes", tree_bytes)
    away = Away(lambda: tui_store.NOW)
    with Reader.open(busy.paths) as reader:
        first = away.read(reader)
        assert away.read(reader) == first
        assert first.all_bytes == 7
        assert len(walked) == len(set(walked)) > 1
        monkeypatch.setattr("obstui.tui.screens.report.SIZES_FOR", 0.0)
        away.read(reader)
    assert len(walked) == 2 * len(set(walked))


async def test_leaving_after_reading_begins_the_next_report(busy: tui_store.Scene) -> None:
    """Who never looks at it does not lose it, at the first visit neither."""

    def seen() -> object:
        with Reader.open(busy.paths) as reader:
            return reader.setting(SEEN)

    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: app.snapshot.found)
        await pilot.press("q")
    assert seen() is None, "never read"
    busy.store.set_setting(SEEN, tui_store.NOW - 500)
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("q")
    assert seen() == tui_store.NOW - 500, "not read"
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: app.report_read_at)
        await pilot.press("q")
    assert seen() == tui_store.NOW


async def test_seen_can_be_taken_back(busy: tui_store.Scene) -> None:
    busy.store.set_setting(SEEN, tui_store.NOW - 86_400)
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: rows(app))
        with Reader.open(busy.paths) as reader:
            await pilot.press("s")
            await until(pilot, lambda: reader.setting(SEEN) == tui_store.NOW)
            await pilot.press("u")
            await until(pilot, lambda: reader.setting(SEEN) == tui_store.NOW - 86_400)


async def test_what_was_taken_back_is_not_redone_on_leaving(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: rows(app))
        with Reader.open(busy.paths) as reader:
            await pilot.press("s")
            await until(pilot, lambda: reader.setting(SEEN) == tui_store.NOW)
            await pilot.press("u")
            await until(pilot, lambda: reader.setting(SEEN) is None)  # as it was: never read
        busy.store.set_setting(SEEN, tui_store.NOW - 500)
        await until(pilot, lambda: app.report_read_at is None)
        await pilot.press("q")
    with Reader.open(busy.paths) as reader:
        assert reader.setting(SEEN) == tui_store.NOW - 500


def test_the_newest_reading_counts(busy: tui_store.Scene) -> None:
    leave_word(busy.store, 1000.0)
    leave_word(busy.store, 500.0)  # a dashboard that was left open since
    assert busy.store.setting(SEEN) == 1000.0


async def test_a_locked_store_does_not_keep_anybody(busy: tui_store.Scene) -> None:
    with closing(sqlite3.connect(busy.paths.db, isolation_level=None)) as other:
        async with opened(busy.paths) as (app, pilot):
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            await pilot.press("q")
            await until(pilot, lambda: not app.is_running)
        took = time.monotonic() - began
    assert took < 2.0, "half a second, and nothing after it"


def test_the_report_goes_on_while_it_is_open(busy: tui_store.Scene) -> None:
    now = [tui_store.NOW]
    away = Away(lambda: now[0])
    with Reader.open(busy.paths) as reader:
        first = away.read(reader)
        now[0] += 5.0
        assert away.read(reader) == first, "not drawn anew every second"
        now[0] += 10.0
        later = away.read(reader)
    assert later.since == first.since
    assert later.device_seconds["cpu"] == first.device_seconds["cpu"] + 15.0


@pytest.mark.parametrize(
    ("unknown", "rest"), [(0, ", nine times of ten by "), (1, " at the earliest")]
)
async def test_the_report_and_the_top_tell_the_same_end(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch, unknown: int, rest: str
) -> None:
    told = Finish(3, unknown, p50=tui_store.NOW + 3600, p90=tui_store.NOW + 7200)
    monkeypatch.setattr("obstui.report.finish_of", lambda reader, now: told)
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: "done" in text(app, "#lines"))
        end = when(tui_store.NOW + 3600, tui_store.NOW)
        assert f"; done by {end}{rest}" in text(app, "#lines")
        assert f"done ~{end}" in app.screen.query_one(StatusLine).text
        busy.store.stop("*", BY_HAND)
        await until(pilot, lambda: "the queue: by hand; P in the queue" in text(app, "#lines"))
        assert "obstui resume" not in text(app, "#lines")
        assert "done" not in text(app, "#lines")
        assert "done ~" not in app.screen.query_one(StatusLine).text
