"""What the shell looks like: every theme once, without colours, in ASCII, the workers' screen."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from textual.pilot import Pilot

from obstui.config import THEMES, Paths
from obstui.tui import theme
from obstui.tui.app import Dashboard
from obstui.tui.appearance import Appearance
from obstui.tui.snapshot import settled
from tests.obstui import tui_store

from .test_tui_workers import telemetry

pytestmark = pytest.mark.slow


@pytest.fixture
def busy(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[tui_store.Scene]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("OBSTUI_CONFIG", "/home/you/.config/obstui/config.toml")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    scene = tui_store.busy(paths.home)
    scene.store.stop("*", "by hand")
    scene.store.stop("GPU-2", "3 jobs in a row failed alike: a fault of the driver")
    with closing(sqlite3.connect(paths.db)) as conn, conn:
        conn.execute("UPDATE worker SET pid = 4242, seen_at = ?", (tui_store.NOW,))
    telemetry(paths, users=[])
    yield scene
    scene.close()
    theme.use("dark")
    monkeypatch.undo()
    time.tzset()


def looks_right(
    snap_compare: Any, scene: tui_store.Scene, look: Appearance, size: tuple[int, int], *keys: str
) -> bool:
    app = Dashboard(
        scene.paths, watch=5, clock=lambda: tui_store.NOW, start_worker=None, appearance=look
    )

    async def steer(pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        for key in keys:
            await pilot.press(key)
            await settled(app, pilot)

    return bool(snap_compare(app, terminal_size=size, run_before=steer))


@pytest.mark.parametrize("name", THEMES)
def test_theme(snap_compare: Any, busy: tui_store.Scene, name: str) -> None:
    assert looks_right(snap_compare, busy, Appearance(theme=name), (80, 24))


def test_ascii(snap_compare: Any, busy: tui_store.Scene) -> None:
    assert looks_right(snap_compare, busy, Appearance(ascii=True), (80, 24))


def test_no_colours(
    snap_compare: Any, busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert looks_right(snap_compare, busy, Appearance(), (80, 24))


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (60, 20)], ids=["80", "160", "60"])
def test_workers(snap_compare: Any, busy: tui_store.Scene, size: tuple[int, int]) -> None:
    assert looks_right(snap_compare, busy, Appearance(), size, "5")


def test_help(snap_compare: Any, busy: tui_store.Scene) -> None:
    assert looks_right(snap_compare, busy, Appearance(), (160, 50), "5", "question_mark")
