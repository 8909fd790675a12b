"""A screen of the dashboard as an SVG picture, without a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.widget import Widget

from obstui.tui.places import PLACES

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from obstui.config import Paths
    from obstui.store import JobView, Reader
    from obstui.tui.app import Dashboard

_FONTS = "'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, monospace"


@dataclass(frozen=True, slots=True)
class Need:
    """What a job must have for a screen of it to show something, in words too."""

    words: str
    has: Callable[[Reader, JobView], bool]


@dataclass(frozen=True, slots=True)
class Way:
    """How a screen is reached: by `keys`, from a place or, where there is a `needs`, from the
    screen of a job that has what it says."""

    keys: tuple[str, ...] = ()
    place: str = "queue"
    needs: Need | None = None


def _found_targets(reader: Reader, job: JobView) -> bool:
    return bool(reader.events(job.id, kinds=("targets_found",), limit=1))


def _has_pictures(reader: Reader, job: JobView) -> bool:
    from obstui.store import ImageFilter

    return bool(reader.images(ImageFilter(job=job.id), limit=1))


_ANY = Need("settings", lambda reader, job: True)
_LOG = Need("a log", lambda reader, job: job.attempt > 0)
_TARGETS = Need("targets", _found_targets)
_VARIANTS = Need(
    "variants of its own pruning",
    lambda reader, job: bool((job.result or {}).get("variants")) and _found_targets(reader, job),
)
_PICTURES = Need("pictures", _has_pictures)
_COMPARED = Need(
    "a comparison's pictures",
    lambda reader, job: job.kind == "compare" and _has_pictures(reader, job),
)

SCREENS: Mapping[str, Way] = {
    **{place.name: Way(place=place.name) for place in PLACES},
    "form": Way(("n",)),
    "help": Way(("question_mark",)),
    "palette": Way(("colon",)),
    "job": Way(needs=_ANY),
    "settings": Way(("S",), needs=_ANY),
    "log": Way(("L",), needs=_LOG),
    "targets": Way(("A",), needs=_TARGETS),
    "layers": Way(("enter",), needs=_VARIANTS),
    "picture": Way(("enter",), needs=_PICTURES),
    "ab": Way(("b",), needs=_COMPARED),
}


def newest_with(reader: Reader, need: Need) -> int | None:
    """The newest job that has it."""
    jobs = reader.jobs(limit=1_000_000)
    return next((job.id for job in jobs if need.has(reader, job)), None)


async def svg(
    paths: Paths,
    way: Way,
    *,
    job: int | None = None,
    size: tuple[int, int] = (120, 36),
    theme: str = "",
    clock: Callable[[], float] = time.time,
) -> str:
    """The screen that a way leads to, from `job` if it begins at one, at `size` cells, in a theme.
    Starts no worker and remembers nothing."""
    from obstui.tui.app import Dashboard
    from obstui.tui.appearance import Appearance
    from obstui.tui.remembered import Remembered

    app = Dashboard(paths, watch=job, clock=clock, start_worker=None,
                    appearance=Appearance(theme=theme), remembered=Remembered(None))  # fmt: skip
    async with app.run_test(size=size, notifications=False) as pilot:
        await reach(app, pilot, way, job)
        picture = app.export_screenshot(simplify=True)
    # Not every renderer knows the stylesheet's white-space.
    return _without_downloads(picture).replace("<svg ", '<svg xml:space="preserve" ', 1)


def _without_downloads(picture: str) -> str:
    """Rich's picture with fonts of the computer that shows it alone: its own come from a server."""
    local = re.sub(r"\s*@font-face *\{[^}]*\}", "", picture)
    return local.replace("font-family: Fira Code, monospace", f"font-family: {_FONTS}")


async def reach(app: Dashboard, pilot: Pilot[None], way: Way, job: int | None) -> None:
    """Go the way, from where the dashboard begins, and wait until all is drawn."""
    await settled(app, pilot)
    if way.needs is not None and job is not None:
        app.open_job(job)
    else:
        await app.action_go(way.place)
    await settled(app, pilot)
    for key in way.keys:
        await pilot.press(key)
        await settled(app, pilot)


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
