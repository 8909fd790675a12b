"""The job screen: phase, layers, results, pictures, log; and text that tries to be more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from obstui.config import Paths
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.picture import PictureScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.widgets.layer_map import LayerMap, plan
from obstui.tui.widgets.log_tail import LogTail
from obstui.tui.widgets.picture import Picture, PictureRow
from obstui.tui.widgets.still import Still
from obstui.tui.widgets.target_table import TargetTable
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


def shown(app: object, selector: str) -> str:
    return app.screen.query_one(selector, Still).text  # type: ignore[attr-defined]


async def test_enter_opens_the_job_and_escape_leaves_it(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
        await until(pilot, lambda: "87 of 210 solved" in shown(app, "#job-legend"))
        await pilot.press("escape")
        assert isinstance(app.screen, QueueScreen)


async def test_the_map_grows_as_targets_are_solved(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=5) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "87 of 210" in shown(app, "#job-legend"))
        found = tui_store.targets(tui_store.SDXL_STAGES)
        job = app.snapshot.job(5)
        assert job is not None
        claim = tui_store.Claim(5, job.ulid, 1, tui_store.WORKER, "cpu", {}, {})
        fact = tui_store.solved(found[87], (0.1, 0.2, 0.3))
        busy.store.append(claim, [("target_solved", fact)])
        await until(pilot, lambda: "88 of 210" in shown(app, "#job-legend"))


async def test_the_cursor_of_the_map_tells_a_target(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=1) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "solved" in shown(app, "#job-legend"))
        assert shown(app, "#job-pointed").startswith("down1 block 0 attn1")
        assert "at 50 %" in shown(app, "#job-legend")
        await pilot.press("right", "down", "v")
        await until(pilot, lambda: "at 10 %" in shown(app, "#job-legend"))
        assert shown(app, "#job-pointed").startswith("down2 block 1 attn2")
        assert "keeps 18 of 20 heads" in shown(app, "#job-pointed")


async def test_the_targets_tab_has_a_row_for_each(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=1) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query_one(TargetTable).row_count == 33)
        await pilot.press("2")
        assert app.focused is app.screen.query_one(TargetTable)
        await pilot.press("t")
        assert app.focused is app.screen.query_one("#log", LogTail)
        assert "wrote 3 variants" in app.screen.query_one("#log", LogTail).lines


async def test_a_comparison_shows_a_column_for_each_model_and_steps_through_prompts(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths, watch=2, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query_one(PictureRow).shots)
        row = app.screen.query_one(PictureRow)
        assert [shot.caption for shot in row.shots] == ["dense", "1@10", "1@30", "1@50"]
        assert "1 of 3" in shown(app, "#job-caption")
        assert "0.960" in shown(app, "#job-result")
        await pilot.press("down", "right")
        assert "2 of 3" in shown(app, "#job-caption")
        assert row.shots[0].path.endswith("dense/001.png")
        await pilot.press("enter")
        assert isinstance(app.screen, PictureScreen)
        assert "1@10" in shown(app, "#caption")
        await pilot.press("right", "escape")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
        await until(pilot, lambda: row._marked == 2)


async def test_pictures_are_drawn_in_half_blocks_or_letters(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=2, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query_one(PictureRow).shots)
        await app.workers.wait_for_complete()
        await pilot.pause()
        first = app.screen.query(Picture).first()
        assert "▀" in first.render_line(2).text
        await pilot.press("i")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "▀" not in first.render_line(2).text
        assert first.render_line(2).text.strip()


async def test_a_picture_that_is_missing_or_half_written_is_words(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    job = scene.queue("generate", prompts=["a fox"])
    claim = scene.start()
    broken = paths.output(job.ulid) / "0.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    image = {"model": "dense", "prompt": "a fox", "seed": 0, "seconds": 1.0}
    images = [{"path": str(broken), "thumbnail": str(broken), **image},
              {"path": "/no/such.png", "thumbnail": "/no/such.png", **image}]  # fmt: skip
    scene.finish(claim, "succeeded", result={"images": images})
    async with opened(paths, watch=job.id) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen.query(Picture)) == 2)
        await app.workers.wait_for_complete()
        await pilot.pause()
        drawn = [p.render_line(p.size.height // 2).text.strip() for p in app.screen.query(Picture)]
        assert drawn == ["unreadable picture", "no picture yet"]
    scene.close()


HOSTILE = "[bold red]x[/] \x1b[31mESC\x1b]0;owned\x07 \u202egnp.exe\u2066 [@click=app.quit]q[/]"


async def test_hostile_text_is_plain_text_everywhere(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    job = scene.queue("generate", name=HOSTILE, prompts=[HOSTILE])
    claim = scene.start()
    scene.log(claim, f"{HOSTILE}\nfirst\rsecond\r\n\x9b2Jthird\n")
    scene.store.append(claim, [("note", {"text": HOSTILE})])
    image = {"path": f"/tmp/{HOSTILE}", "thumbnail": "", "model": HOSTILE, "prompt": HOSTILE,
             "seed": 0, "seconds": 1.0}  # fmt: skip
    scene.store.append(claim, [("image_saved", image)])
    scene.finish(claim, "failed", reason="exit_code", error=HOSTILE)
    async with opened(paths, watch=job.id, size=(160, 50)) as (app, pilot):
        for keys in ((), ("enter",), ("3",)):
            await pilot.press(*keys)
            await pilot.pause()
            await until(pilot, lambda: app.up_to_date)
            screen = "\n".join(
                "".join(segment.text for segment in line)
                for line in app.screen._compositor.render_strips()
            )
            assert "\x1b" not in screen
            assert "\u202e" not in screen
            assert "owned" not in screen
            assert "[bold red]x[/]" in screen, "markup is shown, not obeyed"
        assert app.screen.query_one("#log", LogTail).lines[1:] == ("second", "third")
    scene.close()


@pytest.mark.parametrize(
    ("stages", "width", "cell", "bands"),
    [
        (tui_store.SDXL_STAGES, 158, 2, 1),
        (tui_store.SDXL_STAGES, 80, 1, 1),
        (tui_store.SDXL_STAGES, 77, 1, 1),
        (tui_store.SDXL_STAGES, 60, 1, 2),
        (tui_store.SDXL_STAGES, 30, 1, 5),
        (tui_store.DEMO_STAGES, 78, 3, 1),
        ((), 78, 1, 0),
    ],
)
def test_the_map_fits_its_width(
    stages: tuple[tuple[str, int, int], ...], width: int, cell: int, bands: int
) -> None:
    from obstui.tui.facts import Target

    found = tuple(Target(**target) for target in tui_store.targets(stages))
    made = plan(found, width)
    assert (made.cell, len(made.bands)) == (cell, bands)
    for band in made.bands:
        blocks = sum(end - start for _, start, end in band.groups)
        assert made.label + blocks * made.cell + len(band.groups) - 1 <= width


async def test_a_job_that_vanishes_is_said_so(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=4) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: shown(app, "#job-head").startswith("4"))
        busy.store.remove(4)
        await until(pilot, lambda: "not in the store" in shown(app, "#job-head"))
        assert not app.screen.query_one(LayerMap).targets
