"""A screen of the dashboard as an SVG picture, without a terminal."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from textual.widget import Widget

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from obstui.config import Paths
    from obstui.tui.app import Dashboard


async def svg(
    paths: Paths,
    *,
    size: tuple[int, int] = (120, 36),
    watch: int | None = None,
    opened: bool = False,
    place: str | None = None,
    theme: str = "",
    steer: Callable[[Pilot[None]], Awaitable[Any]] | None = None,
    clock: Callable[[], float] = time.time,
) -> str:
    """The queue (or, `opened`, the screen of job `watch`; or another `place`) at `size` cells, in
    a theme. Starts no worker and remembers nothing.

    `steer` may press keys before the picture is taken.
    """
    from obstui.tui.app import Dashboard
    from obstui.tui.appearance import Appearance
    from obstui.tui.remembered import Remembered

    looks = Appearance(theme=theme)
    app = Dashboard(paths, watch=watch, clock=clock, start_worker=None, appearance=looks)
    app.remembered = Remembered(None)
    async with app.run_test(size=size, notifications=False) as pilot:
        await settled(app, pilot)
        if opened and watch is not None:
            app.open_job(watch)
            await settled(app, pilot)
        if place is not None:
            await app.action_go(place)
            await settled(app, pilot)
        if steer is not None:
            await steer(pilot)
            await settled(app, pilot)
        picture = app.export_screenshot(simplify=True)
    # Not every renderer knows the stylesheet's white-space.
    return picture.replace("<svg ", '<svg xml:space="preserve" ', 1)


async def settled(app: Dashboard, pilot: Pilot[None]) -> None:
    """Wait until the store has been read and its pictures are drawn. Raises TimeoutError."""
    import asyncio

    from obstui.tui.widgets.plan_panel import PlanPanel

    async with asyncio.timeout(60):
        await pilot.pause()
        while not app.up_to_date or any(plan.at_work for plan in app.screen.query(PlanPanel)):
            await asyncio.sleep(0.02)
            await pilot.pause()
    await workers_done(app)
    # A table that has just been filled may get a scrollbar, and its columns then another width.
    places, before = _places(app), None
    while places != before:
        await pilot.pause()
        places, before = _places(app), places


async def workers_done(app: Dashboard) -> None:
    """Wait for every worker, and for those that take the place of a cancelled one: a picture whose
    room changes is loaded anew. Raises WorkerFailed."""
    import asyncio

    from textual.worker import WorkerFailed

    while running := [worker for worker in app.workers if not worker.is_finished]:
        ends = await asyncio.gather(*(it.wait() for it in running), return_exceptions=True)
        for failure in (end for end in ends if isinstance(end, WorkerFailed)):
            raise failure


def _places(app: Dashboard) -> list[tuple[object, bool]]:
    """Where everything on the screen is."""
    return [
        (widget.region, widget.show_vertical_scrollbar)
        for widget in app.screen.walk_children()
        if isinstance(widget, Widget)
    ]
