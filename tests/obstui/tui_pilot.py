"""Opening the dashboard in tests: on a scene, at a size, at a fixed time, without a worker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.message import Message
from textual.pilot import Pilot

from obstui.config import Paths
from obstui.tui.app import Dashboard
from obstui.tui.screens.view import View
from obstui.tui.snapshot import settled
from tests.obstui import tui_store


@asynccontextmanager
async def opened(
    paths: Paths,
    *,
    size: tuple[int, int] = (80, 24),
    heard: list[Message] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Dashboard, Pilot[None]]]:
    """The dashboard on this store, its first snapshot shown."""
    options.setdefault("start_worker", None)
    app = Dashboard(paths, clock=lambda: tui_store.NOW, **options)
    hook = heard.append if heard is not None else None
    async with app.run_test(size=size, message_hook=hook) as pilot:
        await settled(app, pilot)
        yield app, pilot
        broken = [view.broken for view in app.screen_stack if isinstance(view, View)]
        assert not any(broken), broken


def told(heard: list[Message]) -> list[str]:
    """The classes of our own messages in the order in which they were heard; of a row of one class
    one, for how often the store is read is a matter of its pace. Forgets what was heard."""
    once = {id(message): type(message) for message in heard}  # heard again wherever it bubbles to
    names = [c.__qualname__ for c in once.values() if c.__module__.startswith("obstui.")]
    heard.clear()
    return [name for name, _ in itertools.groupby(names)]


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 60) -> None:
    """Let the app run until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
    await pilot.pause()


def scene_in(folder: Path) -> tui_store.Scene:
    return tui_store.Scene(folder)
