"""One evening by the keyboard alone, one by the mouse alone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest
from textual.events import MouseEvent, MouseScrollDown, MouseScrollUp
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Button, DataTable, Footer
from textual.widgets._footer import FooterKey

from obstui.config import Paths
from obstui.tui.app import Dashboard
from obstui.tui.places import PLACES
from obstui.tui.screens.confirm import Confirm
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.keys import KeysScreen
from obstui.tui.screens.new_job import NewJobScreen
from obstui.tui.screens.picture import PictureScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.snapshot import settled
from obstui.tui.widgets.job_table import JobTable
from obstui.tui.widgets.layer_map import LayerMap
from obstui.tui.widgets.log_view import LogLines
from obstui.tui.widgets.picture import Picture
from obstui.tui.widgets.status_line import StatusLine
from obstui.tui.widgets.still import Still
from obstui.tui.widgets.tab_line import TabLine
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until

RUNNING, LOG_LINES = 5, 87


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


def seen(app: Dashboard, selector: str) -> str:
    return app.screen.query_one(selector, Still).text


def chosen(app: Dashboard) -> int | None:
    return app.screen.query_one(JobTable).job_id


async def at_job(app: Dashboard, pilot: Pilot[None], number: int) -> None:
    await until(pilot, lambda: isinstance(app.screen, JobScreen) and app.up_to_date)
    assert isinstance(app.screen, JobScreen)
    assert app.screen.job_id == number


# -- keys ------------------------------------------------------------------------------------


async def test_every_place_by_its_key(busy: tui_store.Scene) -> None:
    """In each place a key moves, `?` explains it and Escape closes that: nothing needs a mouse."""
    async with opened(busy.paths) as (app, pilot):
        for place in [*PLACES[1:], PLACES[0]]:
            await pilot.press(place.key)
            await until(pilot, lambda place=place: app.place == place.name and app.up_to_date)
            await pilot.press("j", "k", "question_mark")
            await until(pilot, lambda: isinstance(app.screen, KeysScreen))
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, KeysScreen))
        assert isinstance(app.screen, QueueScreen)


async def test_a_job_by_keys_alone(busy: tui_store.Scene) -> None:
    """From the table through the map, the targets and the log, and back to the same row."""
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("g", "j", "k")
        while chosen(app) != RUNNING:
            before = chosen(app)
            await pilot.press("j")
            assert chosen(app) != before, "the end, and not found"
        await pilot.press("enter")
        await at_job(app, pilot, RUNNING)
        await until(pilot, lambda: seen(app, "#job-pointed").startswith("down1 block 0 attn1"))
        await pilot.press("l", "j")
        await until(pilot, lambda: seen(app, "#job-pointed").startswith("down1 block 1 attn2"))
        await pilot.press("A", "j", "j")
        assert app.screen.query_one("#targets", DataTable).cursor_row == 2
        await pilot.press("L", "slash", *"down2.0", "enter")
        await until(pilot, lambda: '"down2.0"' in seen(app, "#log-foot"))
        await pilot.press("n", "f", "escape")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        assert chosen(app) == RUNNING


async def test_a_question_by_keys_alone(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=RUNNING) as (app, pilot):
        await pilot.press("c", "enter")  # the safe answer has the focus
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await pilot.press("c", "right", "enter")
        await until(pilot, lambda: (job := app.snapshot.job(RUNNING)) and job.desired == "cancel")


# -- the mouse -------------------------------------------------------------------------------


async def click(
    pilot: Pilot[None], widget: Widget, at: tuple[int, int] | None = None, *, times: int = 1
) -> None:
    """Click there: (column, row) in the widget's content, its middle where not told."""
    region = widget.content_region
    where = region.offset + at if at else region.offset + Offset(region.width // 2, 0)
    for _ in range(times):
        await pilot.click(offset=where)
    await pilot.pause()


async def wheel(pilot: Pilot[None], widget: Widget, way: type[MouseEvent]) -> None:
    """Turn the wheel by a notch over this widget; the pilot has no word of its own for that."""
    where = widget.content_region.offset + Offset(5, 1)
    await pilot._post_mouse_events([way], offset=where)


async def footer_key(app: Dashboard, pilot: Pilot[None], words: str) -> None:
    (key,) = (key for key in app.screen.query_one(Footer).query(FooterKey)
              if key.description == words)  # fmt: skip
    await click(pilot, key)


async def test_every_place_by_its_tab(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        for place in [*PLACES[1:], PLACES[0]]:
            top = app.screen.query_one(StatusLine)
            column = top.text.index(f"{place.key} {place.label}")
            await click(pilot, top, (column + 1, 0))
            await until(pilot, lambda place=place: app.place == place.name and app.up_to_date)


async def test_the_table_by_the_mouse(busy: tui_store.Scene) -> None:
    """One click selects, two open, a click on a head sorts, the next one the other way round."""
    async with opened(busy.paths, size=(160, 50)) as (app, pilot):
        table = app.screen.query_one(JobTable)
        first = [int(str(row.key.value)) for row in table.ordered_rows]
        await click(pilot, table, (20, 3))
        assert isinstance(app.screen, QueueScreen)
        assert chosen(app) == first[2]
        await click(pilot, table, (40, 3))
        await at_job(app, pilot, first[2])
        await footer_key(app, pilot, "Back")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        ids = sorted(first)
        for wanted in (ids, ids[::-1]):
            await click(pilot, table, (3, 0))
            await until(pilot, lambda wanted=wanted: wanted == [
                int(str(row.key.value)) for row in table.ordered_rows])  # fmt: skip


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (60, 20)])
async def test_the_layer_map_by_the_mouse(busy: tui_store.Scene, size: tuple[int, int]) -> None:
    """Where a cell is drawn, a click finds it; the wheel goes along the blocks."""
    async with opened(busy.paths, size=size, watch=RUNNING) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "87 of 210" in seen(app, "#job-legend"))
        layers = app.screen.query_one(LayerMap)
        drawn = [layers.render_line(y).text for y in range(layers.size.height)]
        stage = next(y for y, line in enumerate(drawn) if "mid" in line)
        column = drawn[stage].index("mid")
        await click(pilot, layers, (column, stage + 3))
        await until(pilot, lambda: seen(app, "#job-pointed").startswith("mid block 24 ff"))
        await click(pilot, layers, (0, stage + 1))  # a label is no cell
        await click(pilot, layers, (column, stage))
        assert layers.pointed is not None
        assert layers.pointed.name == "mid.0.blocks.0.ff"
        await wheel(pilot, layers, MouseScrollDown)
        await until(pilot, lambda: seen(app, "#job-pointed").startswith("mid block 25 ff"))


async def test_the_log_by_the_mouse(busy: tui_store.Scene) -> None:
    """The tab is clicked; the wheel leaves the end, the footer's key follows it again."""
    async with opened(busy.paths, watch=RUNNING) as (app, pilot):
        await pilot.press("enter")
        await at_job(app, pilot, RUNNING)
        tabs = app.screen.query_one(TabLine)
        await click(pilot, tabs, (tabs.text.index("L Log"), 0))
        lines = app.screen.query_one(LogLines)
        await until(pilot, lambda: len(lines.lines) == LOG_LINES and lines.region.height > 3)
        await wheel(pilot, lines, MouseScrollUp)
        await until(pilot, lambda: not lines.follow and "stopped" in seen(app, "#log-foot"))
        await footer_key(app, pilot, "Follow")
        await until(pilot, lambda: lines.follow)


async def test_questions_and_forms_by_the_mouse(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, size=(120, 40), watch=RUNNING) as (app, pilot):
        await footer_key(app, pilot, "Cancel")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await click(pilot, app.screen.query_one("#no", Button))
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        job = app.snapshot.job(RUNNING)
        assert job is not None
        assert job.desired == "run"
        await footer_key(app, pilot, "Cancel")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await click(pilot, app.screen.query_one("#yes", Button))
        await until(pilot, lambda: (job := app.snapshot.job(RUNNING)) and job.desired == "cancel")
        await footer_key(app, pilot, "New job")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        await click(pilot, app.screen.query_one("#leave", Button))
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))


async def test_pictures_of_a_job_by_the_mouse(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, size=(120, 40), watch=2) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen.query(Picture)) == 4)
        await settled(app, pilot)
        second = app.screen.query(Picture)[1]
        await click(pilot, second)
        await until(pilot, lambda: "▸ 1@10" in [s.text for s in app.screen.query(Still)])
        await click(pilot, second)
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        assert "1@10" in seen(app, "#caption")


async def test_a_question_that_comes_while_something_else_is_made_anew_is_drawn(
    busy: tui_store.Scene,
) -> None:
    def undrawn() -> bool:
        screen = app.screen
        return screen._layout_required or screen._repaint_required or bool(screen._dirty_widgets)

    async with opened(busy.paths, watch=5) as (app, pilot):
        with app.batch_update():
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.pause(0.2)
            assert undrawn()
        # Nothing else happens that would have it drawn by chance.
        async with asyncio.timeout(30):
            while undrawn():
                await asyncio.sleep(0.01)


async def test_a_night_of_other_keys_leaves_nothing_behind(busy: tui_store.Scene) -> None:
    """Each place and each job has keys of its own in the footer; those of before are forgotten."""

    def keys() -> int:
        gc.collect()
        return sum(isinstance(each, FooterKey) for each in gc.get_objects())

    async with opened(busy.paths, size=(160, 50)) as (app, pilot):
        await until(pilot, lambda: app.screen.query(FooterKey))
        before = keys()
        for _ in range(6):
            for place in ("workers", "report", "queue"):
                await app.action_go(place)
                await until(pilot, lambda place=place: app.place == place and app.up_to_date)
        assert keys() < before + 20
