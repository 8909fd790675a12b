"""What the sweep view, the layer table and the models place look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from obstui.config import Paths
from obstui.tui.app import Dashboard
from obstui.tui.snapshot import settled
from tests.obstui import tui_models, tui_store

pytestmark = pytest.mark.slow

SMALL, LARGE = (80, 24), (160, 50)


@pytest.fixture
def scene(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[tui_store.Scene]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    scene = tui_store.Scene(paths.home)
    prune = tui_store.prune_finished(scene)
    tui_store.compare_finished(scene, prune)
    tui_models.timed(scene, prune)
    yield scene
    scene.close()


def looks_right(
    snap_compare: Any, scene: tui_store.Scene, size: tuple[int, int], *keys: str
) -> bool:
    app = Dashboard(scene.paths, clock=lambda: tui_store.NOW, start_worker=None)

    async def steer(pilot: Pilot[None]) -> None:
        await settled(app, pilot)
        for key in keys:
            await pilot.press(key)
            await settled(app, pilot)

    return bool(snap_compare(app, terminal_size=size, run_before=steer))


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "160x50"])
def test_sweeps(snap_compare: Any, scene: tui_store.Scene, size: tuple[int, int]) -> None:
    assert looks_right(snap_compare, scene, size, "3", "j", "j", "space", "x", "x")


def test_layers_side_by_side(snap_compare: Any, scene: tui_store.Scene) -> None:
    assert looks_right(snap_compare, scene, SMALL, "3", "j", "space", "space", "d")


def test_models(snap_compare: Any, scene: tui_store.Scene) -> None:
    assert looks_right(snap_compare, scene, SMALL, "4", "j", "j")
