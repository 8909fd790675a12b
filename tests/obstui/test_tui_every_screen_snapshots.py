"""Every screen at the three sizes that people have, and in every theme once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from obstui.config import THEMES
from obstui.tui import theme
from obstui.tui.app import Dashboard
from obstui.tui.appearance import Appearance
from obstui.tui.remembered import Remembered
from obstui.tui.snapshot import SCREENS, Way, reach, settled
from tests.obstui import tui_models, tui_store

from .test_tui_workers import telemetry

pytestmark = pytest.mark.slow

SIZES = {"80x24": (80, 24), "120x40": (120, 40), "60x20": (60, 20)}
WAYS: dict[str, Way] = {
    **SCREENS,
    "replay": Way(("left_square_bracket",), needs=SCREENS["job"].needs),
    "ab": Way(("right", "c"), place="gallery"),
    "layers": Way(("j", "space", "space", "d"), place="sweeps"),
    "columns": Way(("o",)),
    "pick": Way(("n", "tab", "tab", "tab", "ctrl+n")),
    "ask": Way(("n",), place="models"),
    "verify": Way(("j", "v"), place="models"),
    "confirm": Way(("c",)),
}
"""Those that a picture can be had of at the command line, some at another moment, and what else
opens."""

RUNNING, PAINTED = 5, 2


@pytest.fixture(scope="module")
def scene() -> Iterator[tui_store.Scene]:
    """One evening for all pictures: none of them writes to it."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setenv("TZ", "UTC")
        time.tzset()
        scene = tui_store.busy(Path(folder))
        tui_models.timed(scene, 1)
        scene.now = tui_store.NOW
        with closing(sqlite3.connect(scene.paths.db)) as conn, conn:
            conn.execute("UPDATE worker SET pid = 4242, seen_at = ?", (tui_store.NOW,))
        telemetry(scene.paths, users=[])
        yield scene
        scene.close()
    time.tzset()


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("OBSTUI_CONFIG", "/home/you/.config/obstui/config.toml")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    theme.use("dark")


def looks_right(
    snap_compare: Any, scene: tui_store.Scene, name: str, size: tuple[int, int], look: Appearance
) -> bool:
    app = Dashboard(scene.paths, watch=5, clock=lambda: tui_store.NOW,
                    start_worker=None, appearance=look, remembered=Remembered(None))  # fmt: skip

    async def steer(pilot: Pilot[None]) -> None:
        await reach(app, pilot, WAYS[name], PAINTED if name == "picture" else RUNNING)
        # They name the folder, which is another in every run.
        for line in app.screen.query("#picture-facts, PictureScreen #path"):
            line.visible = False
        for line in app.screen.query(Input):
            line.cursor_blink = False
        await settled(app, pilot)

    return bool(snap_compare(app, terminal_size=size, run_before=steer))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", WAYS)
def test_size(snap_compare: Any, scene: tui_store.Scene, name: str, size: str) -> None:
    assert looks_right(snap_compare, scene, name, SIZES[size], Appearance())


@pytest.mark.parametrize("colours", [name for name in THEMES if name != "dark"])
@pytest.mark.parametrize("name", WAYS)
def test_theme(snap_compare: Any, scene: tui_store.Scene, name: str, colours: str) -> None:
    assert looks_right(snap_compare, scene, name, (80, 24), Appearance(theme=colours))
