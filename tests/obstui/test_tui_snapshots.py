"""What the screens look like, at the smallest and at the largest size people use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from obstui.config import Paths
from obstui.tui.app import Dashboard
from obstui.tui.snapshot import settled
from tests.obstui import tui_store

pytestmark = pytest.mark.slow

SMALL, LARGE = (80, 24), (160, 50)
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x50"])


@pytest.fixture
def busy(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[tui_store.Scene]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()
    monkeypatch.undo()
    time.tzset()


def looks_right(
    snap_compare: Any, scene: tui_store.Scene, size: tuple[int, int], watch: int, *keys: str
) -> bool:
    app = Dashboard(scene.paths, watch=watch, clock=lambda: tui_store.NOW, start_worker=None)

    async def steer(pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        for key in keys:
            await pilot.press(key)
            await settled(app, pilot)

    return bool(snap_compare(app, terminal_size=size, run_before=steer))


@SIZES
def test_queue_with_a_running_prune(
    snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]
) -> None:
    assert looks_right(snap_compare, busy, size, 5)


@SIZES
def test_queue_with_a_failed_job(
    snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]
) -> None:
    assert looks_right(snap_compare, busy, size, 3)


@SIZES
def test_running_prune(snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]) -> None:
    assert looks_right(snap_compare, busy, size, 5, "enter")


@SIZES
def test_a_job_that_waits(snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]) -> None:
    assert looks_right(snap_compare, busy, size, 8, "enter")


@SIZES
def test_finished_prune(snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]) -> None:
    assert looks_right(snap_compare, busy, size, 1, "enter")


@SIZES
def test_comparison(snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]) -> None:
    assert looks_right(snap_compare, busy, size, 2, "enter")


@SIZES
def test_form(snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]) -> None:
    assert looks_right(snap_compare, busy, size, 5, "n")


def test_small_terminal(snap_compare: Any, busy: tui_store.Scene) -> None:
    assert looks_right(snap_compare, busy, (60, 20), 5)


def test_keys(snap_compare: Any, busy: tui_store.Scene) -> None:
    assert looks_right(snap_compare, busy, SMALL, 5, "question_mark")


def test_confirm(snap_compare: Any, busy: tui_store.Scene) -> None:
    assert looks_right(snap_compare, busy, SMALL, 5, "c")
