"""What the gallery, a full picture and a comparison look like."""

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


@pytest.fixture
def scene(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[tui_store.Scene]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    scene = tui_store.Scene(paths.home)
    tui_store.compare_finished(scene, tui_store.prune_finished(scene))
    yield scene
    scene.close()
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("size", "keys"),
    [(SMALL, "2"), (LARGE, "2"), (SMALL, "2rc"), (LARGE, "2rcd"), (SMALL, "2rcs")],
    ids=["gallery", "gallery-large", "flip", "difference-large", "side"],
)
def test_pictures(
    snap_compare: Any, scene: tui_store.Scene, size: tuple[int, int], keys: str
) -> None:
    app = Dashboard(scene.paths, clock=lambda: tui_store.NOW, start_worker=None)

    async def steer(pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        for key in keys:
            await pilot.press("right" if key == "r" else key)
            await settled(app, pilot)
            # The folder of a test differs from run to run.
            for line in app.screen.query("#picture-facts"):
                line.visible = False
        await settled(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=steer)
