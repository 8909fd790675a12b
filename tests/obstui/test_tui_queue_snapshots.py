"""What the queue looks like with a filter, with marks, with a stopped device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from obstui.config import Paths
from tests.obstui import tui_store
from tests.obstui.test_tui_snapshots import looks_right

pytestmark = pytest.mark.slow


@pytest.fixture
def held_up(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[tui_store.Scene]:
    """The busy evening, after a device was stopped."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    scene = tui_store.busy(paths.home)
    scene.store.stop("cuda:0", "3 jobs failed alike: CUDA error 719")
    yield scene
    scene.close()
    monkeypatch.undo()
    time.tzset()


def test_a_filter_and_marks(snap_compare: Any, held_up: tui_store.Scene) -> None:
    keys = ("slash", *"kind:gen", "enter", "asterisk")
    assert looks_right(snap_compare, held_up, (80, 24), 3, *keys)


def test_what_can_be_done_to_the_queue(snap_compare: Any, held_up: tui_store.Scene) -> None:
    assert looks_right(snap_compare, held_up, (160, 50), 7, "s", "s", "P")
