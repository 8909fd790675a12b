"""The job screen: phase, layers, results, pictures, log; and text that tries to be more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.style import Style
from textual.strip import Strip

from obstui.cli.jobs import latency_table
from obstui.config import Paths
from obstui.options import JobOptions
from obstui.specs import parse
from obstui.store import EventView
from obstui.tui import formats, theme, wording
from obstui.tui.facts import Fold, Sample
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.layers import LayersScreen
from obstui.tui.screens.picture import PictureScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.snapshot import workers_done
from obstui.tui.tail import Tail
from obstui.tui.widgets.job_table import JobTable
from obstui.tui.widgets.layer_map import CURSOR, HEIGHTS, LayerMap, plan, stages
from obstui.tui.widgets.log_tail import LogTail
from obstui.tui.widgets.log_view import LogLines, LogView
from obstui.tui.widgets.picture import Picture, PictureRow
from obstui.tui.widgets.plan_panel import PlanPanel
from obstui.tui.widgets.result_tables import result_text
from obstui.tui.widgets.sheet import Rows
from obstui.tui.widgets.still import Still
from obstui.tui.widgets.tab_line import TabLine
from obstui.tui.widgets.target_table import TargetTable
from obstui.tui.widgets.telemetry import Span, telemetry
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


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
@pytest.mark.parametrize("job", [1, 5])
async def test_the_first_map_drawn_is_the_whole_map(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], job: int
) -> None:
    heads: list[str] = []
    draw = LayerMap.render_line

    def drawn(layers: LayerMap, y: int) -> Strip:
        strip = draw(layers, y)
        if y == 0 and layers.id == "job-map":
            heads.append(strip.text)
        return strip

    monkeypatch.setattr(LayerMap, "render_line", drawn)
    async with opened(busy.paths, watch=job, size=size) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: heads and "solved" in shown(app, "#job-legend"))
        await pilot.pause(0.2)
    assert len({len(head.rstrip()) for head in heads}) == 1, heads


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
        assert "solve 88 of 210 targets" in shown(app, "#job-status")  # though not told of it yet


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
        # The cell keeps its height and colour; what lies behind it, and a mark above it, tell.
        layers = app.screen.query_one(LayerMap)
        lines = [layers.render_line(y) for y in range(3)]
        column = lines[0].text.index(CURSOR)
        (cell,) = lines[2].crop(column, column + 1)
        assert cell.text in HEIGHTS
        assert cell.style is not None
        assert Style(bgcolor=cell.style.bgcolor) == Style.parse(theme.style("cursor"))
        assert not cell.style.reverse


@pytest.mark.parametrize("job", [1, 5])
async def test_the_cursors_mark_leaves_the_stages_names_to_read(
    busy: tui_store.Scene, job: int
) -> None:
    async with opened(busy.paths, watch=job) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query_one(LayerMap).targets)
        layers = app.screen.query_one(LayerMap)
        layers.focus()
        await pilot.pause()
        names = [stage for stage, _, _ in stages(layers.targets)]
        for block in layers._blocks:
            head = layers.render_line(0).text
            assert head.index(CURSOR) == layers._region(layers._kinds[0], block).x
            words = head.replace(CURSOR, " ").split()
            for word, name in zip(words, names, strict=True):
                assert word in (name, name[0] + name[-1]), head
            await pilot.press("l")


async def test_the_targets_tab_has_a_row_for_each(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=1) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "solved" in shown(app, "#job-legend"))
        assert not app.screen.query_one(TargetTable).row_count, "what is not seen costs nothing"
        await pilot.press("A")
        assert app.screen.query_one(TargetTable).row_count == 33
        table = app.screen.query_one(TargetTable)
        assert app.focused is table
        assert table.virtual_size.width <= table.size.width
        assert table.hidden[1], "three sparsities and the time do not fit into 80 columns"
        tabs = app.screen.query_one(TabLine)
        await until(pilot, lambda: f"→ {table.hidden[1]} more column" in tabs.text)
        while table.hidden[1]:
            await pilot.press("right")
        assert "time" in str(table.ordered_columns[-1].label)
        await pilot.press("j", "enter")
        await until(pilot, lambda: isinstance(app.screen, LayersScreen))
        await until(pilot, lambda: app.screen.query_one(Rows).chosen == table.chosen)
        await pilot.press("escape", "t", "t")
        assert app.focused is app.screen.query_one(LogLines)
        assert app.screen.query_one("#log", LogView).lines[-1].endswith(" wrote 3 variants")


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
        await workers_done(app)
        await pilot.pause()
        first = app.screen.query(Picture).first()
        assert "▀" in first.render_line(2).text
        await pilot.press("i")
        await workers_done(app)
        await pilot.pause()
        assert "▀" not in first.render_line(2).text
        assert first.render_line(2).text.strip()


async def test_waiting_for_pictures_outlives_one_that_is_loaded_anew(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=2, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query_one(PictureRow).shots)
        await workers_done(app)
        picture = app.screen.query(Picture).first()
        for _ in range(5):
            picture.reload()
        await workers_done(app)
        await pilot.pause()
        assert "▀" in picture.render_line(2).text


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
        await workers_done(app)
        await pilot.pause()
        drawn = [p.render_line(p.size.height // 2).text.strip() for p in app.screen.query(Picture)]
        assert drawn == ["unreadable picture", "no picture here"]
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
        for keys in ((), ("enter",), ("S",), ("L",)):
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
        assert app.screen.query_one("#log", LogView).lines[1:] == ("second", "third")
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


def night(home: Path, *, finished: bool = True) -> tuple[tui_store.Scene, tui_store.Claim]:
    """A prune of SDXL on a card, with samples, rounds, held-out errors and a long log."""
    scene = tui_store.Scene(home)
    scene.queue("prune", sparsity=(0.1, 0.3), packages=2, damping=0.02)
    claim = scene.start()
    found = tui_store.targets(tui_store.SDXL_STAGES)
    scene.store.append(claim, [("targets_found", {"targets": found})])
    scene.log(claim, "".join(f"line {n} {'x' * (n % 7) * 30}\n" for n in range(120)))
    for first, count in ((0, 105), (105, 105)):
        scene.store.append(claim, [("round_begun", {"first": first, "count": count})])
        scene.phase(claim, "calibrate", 50, "passes")
        for step in range(10):
            sample(scene, claim, 6 + step, done=5 * step)
        scene.phase(claim, "solve", count, "targets")
        for start in range(first, first + count, 15):
            solved = [tui_store.solved(t, (0.1, 0.3)) for t in found[start : start + 15]]
            scene.store.append(claim, [("target_solved", fact) for fact in solved])
            sample(scene, claim, 20, done=start - first + 15)
    errors = {target["name"]: 0.077 for target in found}
    held_out = {"sparsity": 0.3, "noise": 0.01, "error": errors}
    scene.store.append(claim, [("held_out_measured", held_out)])
    long = "The calibration of this model is short of tokens in its widest layers. " * 4
    scene.store.append(claim, [("note", {"text": f"first. {long}"}), ("note", {"text": long})])
    if finished:
        scene.finish(claim, "succeeded", result={"variants": []})
    return scene, claim


def sample(scene: tui_store.Scene, claim: tui_store.Claim, gib: int, **more: object) -> None:
    scene.now += 60
    payload = {"device": "cuda", "now": gib << 30, "high": (gib + 1) << 30, "peak": 21 << 30,
               "total": 24 << 30, "utilisation": 97, "power": 312,
               "temperature": 67, **more}  # fmt: skip
    scene.store.append(claim, [("sample", payload)])


async def test_a_finished_job_is_replayed_and_left_at_its_end(paths: Paths) -> None:
    scene, claim = night(paths.home)
    began = tui_store.NOW - 7200 + 25
    minutes = [f"{formats.clock(began + 60 * n)} minute {n}\nand more of it\n" for n in range(35)]
    scene.log(claim, "".join(minutes))
    async with opened(paths, watch=1, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "210 of 210 solved" in shown(app, "#job-legend"))
        assert "VRAM" in shown(app, "#job-memory")
        assert "97 %  312 W  67 °C" in shown(app, "#job-memory")
        tail = app.screen.query_one(LogTail)
        assert tail.lines
        await pilot.press("{", "{")  # the second solve, then its calibration
        await until(pilot, lambda: "105 of 210 solved" in shown(app, "#job-legend"))
        assert "○ 105 calibrating" in shown(app, "#job-legend")
        assert "calibrate 0 of 50" in shown(app, "#job-status")
        assert "(+17 min)" in shown(app, "#job-status")
        moment = formats.clock(began + 17 * 60)
        assert tail.lines[-2:] == (f"{moment} minute 17", "and more of it")
        assert app.screen.query_one(LogView).lines == tail.lines
        await pilot.press("L")
        await until(pilot, lambda: f"as it stood at {moment}" in shown(app, "#log-foot"))
        await pilot.press("O")
        await pilot.press("]", "]")
        await until(pilot, lambda: "calibrate 5 of 50" in shown(app, "#job-status"))
        assert "7.0 of 24.0 GiB" in shown(app, "#job-memory")
        await pilot.press("{", "{", "{")
        await until(pilot, lambda: "0 of 210 solved" in shown(app, "#job-legend"))
        await pilot.press("space")
        await until(pilot, lambda: "210 of 210 solved" in shown(app, "#job-legend"))
        await pilot.press("escape")
        await until(pilot, lambda: "succeeded" in shown(app, "#job-status"))
        assert isinstance(app.screen, JobScreen)
        assert len(tail.lines) == 70
        await pilot.press("L")
        await until(pilot, lambda: "following" in shown(app, "#log-foot"))
        await pilot.press("escape")
        assert isinstance(app.screen, QueueScreen)
    scene.close()


def test_a_log_is_cut_at_a_moment_of_a_night_before() -> None:
    """Its lines tell no day, and it goes on after what is known of the job."""
    began = tui_store.NOW - 40 * 3600
    lines = tuple(f"{formats.clock(began + 3600 * hour)} hour {hour}" for hour in range(40))
    log = Tail("log", lines, tuple(range(40)))
    for hour in (0, 7, 33, 39):
        cut = log.up_to(began + 3600 * hour + 0.5, ended=began + 3600 * 36)
        assert len(cut.lines) == len(cut.starts) == hour + 1
    assert not log.up_to(began - 1, ended=began + 3600 * 36).lines
    assert Tail(lines=("no time",)).up_to(began, began + 9).lines == ("no time",)


def test_the_errors_of_a_variant_are_told_apart() -> None:
    made = {"id": "1@30", "sparsity": 0.3, "mean_error": 0.0201, "held_out_error": 0.0249,
            "noise_error": 3.4e-4, "params": 7_000_000, "dense_params": 8_200_000,
            "size_bytes": 1 << 20}  # fmt: skip
    heads, row = result_text("prune", {"variants": [made]}, 78).plain.split("\n")
    assert "mean error  held-out error  noise error  params  vs dense" in heads
    assert row.split()[3:6] == ["0.0201", "0.0249", "3.4e-04"]
    unchecked = made | {"held_out_error": None, "noise_error": None}
    words = result_text("prune", {"variants": [unchecked]}, 78).plain
    assert "held-out" not in words
    assert "noise" not in words


def test_all_variants_are_saved_where_a_story_ends() -> None:
    story = Fold(1, 1)
    saved = [("variant_saved", {"sparsity": level}) for level in (0.1, 0.3)]
    begun = ("phase", {"name": "save", "total": 2})
    sampled = ("sample", {"device": "cpu", "now": 1, "done": 1})
    for number, (kind, payload) in enumerate([begun, saved[0], sampled, saved[1]]):
        story.add([EventView(number, 1, 1, float(number), kind, payload)])
    assert story.facts().phase_done == 2


async def test_what_is_being_saved_is_told_in_words(paths: Paths) -> None:
    scene, claim = night(paths.home, finished=False)
    progress = {"phase": "save", "done": 1, "total": 2, "unit": "variants", "detail": "s10"}
    scene.store.progress(claim, progress)
    async with opened(paths, watch=1, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "save 1 of 2 variants" in shown(app, "#job-status"))
        assert "writing the 30 % variant" in shown(app, "#job-status")
        progress |= {"phase": "check", "detail": "s10 on held-out prompts"}
        scene.store.progress(claim, progress)
        words = "the 10 % variant on held-out prompts"
        await until(pilot, lambda: words in shown(app, "#job-status"))
    scene.close()


async def test_a_target_tells_its_held_out_error(paths: Paths) -> None:
    scene, _ = night(paths.home)
    async with opened(paths, watch=1, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "held-out 0.0770" in shown(app, "#job-pointed"))
        await pilot.press("v")
        await until(pilot, lambda: "held-out" not in shown(app, "#job-pointed"))
    scene.close()


async def test_settings_tell_what_was_set_and_all_notes(paths: Paths) -> None:
    scene, _ = night(paths.home)
    async with opened(paths, watch=1) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "S: all 2 notes" in shown(app, "#job-note"))
        await pilot.press("S")
        words = shown(app, "#job-settings")
        chosen, usual = words.split("As usual")
        assert "first. The calibration" in words
        assert "10 %, 30 %" in chosen
        assert "0.02" in chosen
        assert "packages" in chosen
        assert "timestep weights" in usual
        assert "1  succeeded" in words
    scene.close()


async def test_the_log_stops_when_one_scrolls_up_and_tells_what_came(paths: Paths) -> None:
    scene, claim = night(paths.home, finished=False)
    path = paths.log(claim.ulid, 1)
    async with opened(paths, watch=1) as (app, pilot):
        await pilot.press("enter", "L")
        view = app.screen.query_one(LogView)
        await until(pilot, lambda: len(view.lines) == 120)
        await pilot.press("k")
        with path.open("a") as file:
            file.write("one more\nand another\n")
        await until(pilot, lambda: "2 new lines" in shown(app, "#log-foot"))
        assert len(view.lines) == 120, "what is read stays where it is"
        await pilot.press("f")
        await until(pilot, lambda: "following" in shown(app, "#log-foot"))
        assert view.lines[-1] == "and another"
    scene.close()


async def test_an_empty_log_says_so(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    scene.queue("prune")
    scene.finish(scene.start(), "failed", reason="timeout")
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("enter", "L")
        await until(pilot, lambda: "The log is empty" in shown(app, "#log-foot"))
    scene.close()


async def test_the_log_is_searched_wrapped_and_copied(paths: Paths) -> None:
    scene, _ = night(paths.home)
    async with opened(paths, watch=1) as (app, pilot):
        await pilot.press("enter", "L")
        view = app.screen.query_one(LogView)
        await until(pilot, lambda: len(view.lines) == 120)
        await pilot.press("slash", *"LINE", "space", "1", "1", "enter")
        await until(pilot, lambda: "11 of 11" in shown(app, "#log-foot"))
        await pilot.press("n")
        await until(pilot, lambda: "1 of 11" in shown(app, "#log-foot"))
        assert view.lines[view.body.hit or 0].startswith("line 11 ")
        await pilot.press("y")
        assert app.clipboard.startswith("line 11 x")
        rows = view.body.virtual_size.height
        await pilot.press("W")
        await until(pilot, lambda: view.body.virtual_size.height > rows)
    scene.close()


async def test_the_end_of_the_log_is_seen_beside_the_scrollbars_and_when_wrapped(
    paths: Paths,
) -> None:
    scene, claim = night(paths.home, finished=False)
    scene.log(claim, "line\n" * 40 + "語" * 100 + " the very end")
    async with opened(paths, watch=1) as (app, pilot):
        await pilot.press("enter", "L")
        view = app.screen.query_one(LogView)
        body = view.body
        await until(pilot, lambda: body.show_horizontal_scrollbar)

        def last_row() -> str:
            return body.render_line(body.scrollable_content_region.height - 1).text

        assert last_row().startswith("語語")
        await pilot.press("W")
        await until(pilot, lambda: not body.show_horizontal_scrollbar)
        assert last_row().rstrip().endswith("the very end")
        parts = "".join(part for number, part in body._rows if number == len(view.lines) - 1)
        assert parts == "語" * 100 + " the very end", "no half of a wide character is lost"
    scene.close()


async def test_an_earlier_attempt_has_its_own_log_and_story(paths: Paths) -> None:
    scene, claim = night(paths.home, finished=False)
    scene.finish(claim, "queued", reason="worker_lost")
    again = scene.start()
    scene.log(again, "the second attempt\n")
    async with opened(paths, watch=1) as (app, pilot):
        await pilot.press("enter", "L")
        view = app.screen.query_one(LogView)
        await until(pilot, lambda: view.lines == ("the second attempt",))
        await pilot.press("a")
        await until(pilot, lambda: len(view.lines) == 120)
        assert "attempt 1 of 2" in shown(app, "#job-tabs")
        await pilot.press("a")
        await until(pilot, lambda: view.lines == ("the second attempt",))
    scene.close()


async def test_a_picture_being_made_is_shown_and_renewed(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    scene.queue("generate", prompts=["a fox"])
    claim = scene.start()
    path = paths.output(claim.ulid) / "preview.png"
    path.parent.mkdir(parents=True, exist_ok=True)

    def say(step: int, colour: str) -> None:
        Image.new("RGB", (16, 16), colour).save(path)
        progress = {"phase": "generate", "done": step, "total": 30, "unit": "step",
                    "detail": f"image 1 of 1, step {step}/30", "preview": str(path)}  # fmt: skip
        scene.store.progress(claim, progress)

    def colour() -> str:
        picture = app.screen.query(Picture).first()
        styles = [s.style for s in picture.render_line(picture.size.height // 2) if s.style]
        return " ".join(str(style) for style in styles)

    say(5, "#ff0000")
    async with opened(paths, watch=1, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query(Picture) and "#ff0000" in colour())
        say(9, "#0000ff")
        await until(pilot, lambda: "#0000ff" in colour())
    scene.close()


def test_a_ratio_within_the_scatter_is_no_speed_up(paths: Paths) -> None:
    """Wherever a bench's ratio is told: its table, the command's, the list of jobs."""

    def rows(high: float) -> list[dict[str, Any]]:
        row = {"params": 5_000_000, "ideal": 1.0, "image_s": 1.0, "image_s_low": 0.9,
               "image_s_high": 1.1, "peak_bytes": None, "repeats": 5, "size": 64, "steps": 30,
               "dtype": "float32", "device": "cpu", "step_ms_low": 63.0}  # fmt: skip
        return [
            {**row, "model": "dense", "sparsity": 0.0, "step_ms": 101.0, "step_ms_high": 268.0},
            {**row, "model": "1@30", "sparsity": 0.3, "step_ms": 50.0, "step_ms_low": 40.0,
             "step_ms_high": high},
        ]  # fmt: skip

    scene = tui_store.Scene(paths.home)
    job = scene.queue("prune")
    scene.close()

    def told(high: float) -> list[str]:
        result = {"latency": rows(high)}
        return [
            result_text("bench", result, 100).plain,
            latency_table(result["latency"]),
            wording.best_result(replace(job, result=result)),
        ]

    table, command, listed = told(99.0)
    assert "~2.02 ×" in table
    assert "~2.02x" in command
    assert listed == "~2.02x faster"
    assert "within noise" in table
    assert "within noise" in command
    assert not any("~" in words for words in told(60.0))


def test_results_of_a_bench_and_of_an_export_are_told() -> None:
    row = {"model": "dense", "sparsity": 0.0, "params": 5_000_000, "ideal": 1.0, "step_ms": 20.0,
           "step_ms_low": 19.0, "step_ms_high": 22.0, "image_s": 1.0,
           "peak_bytes": None}  # fmt: skip
    pruned = {**row, "model": "1@30", "sparsity": 0.3, "step_ms": 16.0, "ideal": 1.4,
              "step_ms_low": 15.0, "step_ms_high": 17.0}  # fmt: skip
    words = result_text("bench", {"latency": [row, pruned]}, 100).plain
    assert "1.25 ×" in words
    assert "19.0–22.0" in words
    assert "VRAM" not in words
    files = [{"name": "unet/model.safetensors", "sha256": "ab" * 32, "size_bytes": 1 << 20}]
    export = {"variant": "1@30", "format": "pth", "folder": "/out/x", "params": 4_000_000,
              "size_bytes": 1 << 20, "files": files}  # fmt: skip
    assert "~" not in words
    words = result_text("export", {"export": export}, 80).plain
    assert "1@30 as pth, 4.0 M parameters" in words
    assert "/out/x" in words
    assert "unet/model.safetensors" in words


def test_a_comparison_tells_the_clip_score_and_what_another_seed_does() -> None:
    dense = {"model": "dense", "params": 5_000_000, "latency": 1.0, "clip": 31.26}
    pruned = {**dense, "model": "1@30", "sparsity": 0.3, "ssim": 0.9, "psnr": 29.0, "clip": 30.5,
              "latent_distance": 2e-3, "params": 4_000_000, "method": "obs"}  # fmt: skip
    reseed = {"pictures": 4, "psnr": 11.3, "ssim": 0.31, "latent_distance": 1.4}
    result = {"models": [dense, pruned], "reseed": reseed}
    lines = result_text("compare", result, 80).plain.split("\n")
    assert max(len(line.rstrip()) for line in lines) <= 80
    place = lines[0].index("CLIP")
    assert [line[place : place + 4] for line in lines[1:3]] == ["31.3", "30.5"]
    assert "attributes" not in lines[0], "nobody measured them"
    assert lines[3] == "another seed: PSNR (dB) 11.3, SSIM 0.310, latent distance 1.4e+00"
    bare = {"models": [{**dense, "clip": None}]}
    assert "CLIP" not in result_text("compare", bare, 80).plain
    assert "another seed" not in result_text("compare", bare, 80).plain


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_strip_fits_and_says_what_nobody_measured(width: int) -> None:
    bare = Sample(at=30.0, device="cuda", now=1 << 30, high=2 << 30, peak=2 << 30, total=24 << 30)
    lines = telemetry([bare], Span(0, 60, 45), width, forecast=3 << 30).plain.split("\n")
    assert max(len(line) for line in lines) <= width
    assert set(lines[0].removeprefix("VRAM ")) <= {" ", "▁", "▂"}
    assert lines[0].endswith("▂"), "the time to come stands as high as the forecast"
    unforeseen = telemetry([bare], Span(0, 60, 45), width).plain.split("\n")
    assert unforeseen[0].rstrip("·").endswith("▁")
    assert "no NVML reading" in lines[1]
    host = telemetry([replace(bare, device="cpu")], Span(0, 60, 45), width).plain
    assert host.startswith("RAM ")
    assert "of this process" in host
    assert "%" not in host


async def test_a_job_that_waits_tells_what_it_will_take(paths: Paths) -> None:
    """Its plan, in the queue's pane where there is room and on its own screen; a change of the job
    makes it anew, a start takes it away, and a job that cannot run is known before the night."""
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    first = scene.queue("prune", model="demo", sparsity=[0.1], num_prompts=48)
    lost = scene.queue("prune", model=str(paths.home / "gone"), sparsity=[0.1])
    try:
        async with opened(paths, size=(160, 50), watch=first.id) as (app, pilot):
            await until(pilot, lambda: "Time about" in shown(app, "#pane-plan #plan-lines"))
            await pilot.press("enter")
            await until(pilot, lambda: "10 %" in shown(app, "#job-plan #plan-lines"))
            assert app.focused is app.screen.query_one(PlanPanel)
            longer = first.spec | {"sparsity": [0.1, 0.4]}
            scene.store.edit(first.id, parse(longer), JobOptions())
            await until(pilot, lambda: "40 %" in shown(app, "#job-plan #plan-lines"))
            claim = scene.start()
            scene.phase(claim, "calibrate", 75, "passes")
            await until(pilot, lambda: not app.screen.query_one(PlanPanel).display)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, QueueScreen))
            app.screen.query_one(JobTable).choose(lost.id)
            words = "None yet: No model"
            await until(pilot, lambda: words in shown(app, "#pane-plan #plan-lines"))
    finally:
        scene.close()


async def test_a_long_plan_is_read_with_the_usual_keys(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    scene.queue("prune", model="demo", sparsity=[0.1, 0.2, 0.3])
    try:
        async with opened(paths, size=(60, 20), watch=1) as (app, pilot):
            await pilot.press("enter")
            await until(pilot, lambda: "30 %" in shown(app, "#job-plan #plan-lines"))
            panel = app.screen.query_one(PlanPanel)
            await pilot.press("j", "j")
            await until(pilot, lambda: panel.scroll_y == 2)
            await pilot.press("G")
            await until(pilot, lambda: panel.scroll_y == panel.max_scroll_y > 2)
            await pilot.press("g", "S", "O", "j")
            await until(pilot, lambda: panel.scroll_y == 1)
    finally:
        scene.close()
