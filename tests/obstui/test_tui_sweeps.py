"""The sweep view: which models show, in which order, what the chart says of them, what leaves."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.text import Text

from obstui.config import Paths
from obstui.measured import METRICS, Measured
from obstui.store import Reader
from obstui.tui import board
from obstui.tui.screens.ab import ABScreen
from obstui.tui.screens.choice import Choice
from obstui.tui.screens.layers import LayersScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.screens.sweeps import SweepsScreen, write_export
from obstui.tui.snapshot import settled
from obstui.tui.widgets.chart import FRONT, OTHER, Axis, Chart, Level, Point, draw, scale
from obstui.tui.widgets.sheet import Head, Sheet
from obstui.tui.widgets.still import Still
from tests.obstui import tui_models, tui_store
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    """Job 1 prunes, 2 compares, 3 times; 4 imports a model of SDXL, larger and never measured."""
    scene = tui_store.Scene(paths.home)
    prune = tui_store.prune_finished(scene)
    tui_store.compare_finished(scene, prune)
    tui_models.timed(scene, prune)
    variant = {"id": "4@20", "base": "sdxl", "sparsity": 0.2, "method": "imported",
               "params": 2_000_000_000, "dense_params": 2_567_463_684, "path": "/tmp/x",
               "size_bytes": 4 << 30}  # fmt: skip
    tui_models.measured(scene, "import", {"variants": [variant]}, file="/tmp/x.pth")
    yield scene
    scene.close()


def lines(screen: Any) -> list[list[str]]:
    """The table's cells as text, row by row."""
    table = screen.query_one(Sheet)
    return [[str(cell).strip() for cell in table.get_row_at(row)] for row in range(table.row_count)]


def names(screen: Any) -> list[str]:
    return [row[1] for row in lines(screen)]


def chart_text(screen: Any) -> str:
    return "\n".join("".join(c for c, _ in line) for line in screen.query_one(Chart).lines)


async def press(app: Any, pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(app, pilot)


async def test_bases_lead_their_variants_and_the_front_is_marked(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(160, 50)) as (app, pilot):
        await press(app, pilot, "3")
        assert isinstance(app.screen, SweepsScreen)
        assert names(app.screen) == ["demo", "1@10", "1@30", "1@50", "sdxl", "4@20"]
        signs = {row[1]: row[0] for row in lines(app.screen)}
        assert signs == {"demo": "", "1@10": FRONT, "1@30": FRONT, "1@50": FRONT,
                         "sdxl": "", "4@20": ""}  # fmt: skip
        text = chart_text(app.screen)
        assert text.startswith("PSNR (dB) against parameters (M)")
        assert "1@10" in text
        assert "4@20" not in text, "it was never measured"


async def test_columns_that_do_not_fit_are_moved_to_whole(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(60, 20)) as (app, pilot):
        await press(app, pilot, "3")
        table = app.screen.query_one(Sheet)
        seen = []
        while True:
            heads = [str(column.label).strip() for column in table.ordered_columns]
            assert heads[1] == "model"
            assert sum(c.get_render_width(table) for c in table.ordered_columns) <= 60
            seen += [head for head in heads if head not in seen]
            if not table.hidden[1]:
                break
            assert "more column" in app.screen.query_one("#caption", Still).text
            await press(app, pilot, "l")
        assert {"PSNR", "SSIM", "step ms", "image s", "latent", "attr %", "weights"} <= set(seen)
        assert "CLIP" not in seen, "nobody measured it"


async def test_what_tells_the_variants_apart_comes_first(paths: Paths) -> None:
    """At 80 columns too: the method where there are several, and no column wider than it needs."""
    scene = tui_store.Scene(paths.home)
    for method, prompts in (("obs", 8), ("obs", 48), ("magnitude", None)):
        job = scene.queue("prune", sparsity=(0.3,), method=method,
                          **({"num_prompts": prompts} if prompts else {}))  # fmt: skip
        made = {"id": f"{job.id}@30", "sparsity": 0.3, "path": "/x", "method": method, "params": 7}
        scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    scene.close()
    async with opened(paths, size=(80, 24)) as (app, pilot):
        await press(app, pilot, "3")
        table = app.screen.query_one(Sheet)
        heads = [str(column.label).strip() for column in table.ordered_columns]
        assert heads[:5] == ["", "model", "method", "sparsity", "settings"]
        told = {row[1]: (row[2], row[4]) for row in lines(app.screen)}
        assert told == {"1@30": ("obs", "prompts 8"), "2@30": ("obs", "prompts 48"),
                        "3@30": ("magnitude", "")}  # fmt: skip
        assert table.ordered_columns[4].width == len("prompts 48")


def test_a_starred_figure_fits_its_column() -> None:
    row = Measured("demo", "1@30", "obs", 0.3, 7, psnr=100.0, ssim=0.9943, noise_error=1e-5,
                   latent_distance=1.2e-3, clip=31.25, attributes=1.0, step_ms=1234.5,
                   image_s=123.45, apart=frozenset(m.key for m in METRICS),
                   unsure=frozenset({"step_ms", "image_s"}))  # fmt: skip
    for column in board.columns([row]):
        assert len(column.words(row)) <= column.head.width, column.head.label


async def test_sorting_keeps_the_bases_apart(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(160, 50)) as (app, pilot):
        await press(app, pilot, "3", "s")
        assert isinstance(app.screen, Choice)
        app.screen.dismiss("step_ms")
        await until(pilot, lambda: isinstance(app.screen, SweepsScreen))
        assert names(app.screen) == ["demo", "1@50", "1@30", "1@10", "sdxl", "4@20"]
        app.screen.query_one(Sheet).post_message(Sheet.HeadClicked("step_ms"))
        await until(pilot, lambda: names(app.screen)[1] == "1@10")


async def test_keys_change_what_the_chart_shows_and_the_front(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(100, 40)) as (app, pilot):
        await press(app, pilot, "3", "x", "x")
        assert chart_text(app.screen).startswith("PSNR (dB) against step (ms)")
        await press(app, pilot, "y")
        assert chart_text(app.screen).startswith("SSIM against step (ms)")


async def test_another_seed_of_the_dense_model_is_a_line_for_scale(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    tui_store.compare_finished(scene, tui_store.prune_finished(scene), reseed={
        "pictures": 4, "psnr": 11.3, "ssim": 0.31, "latent_distance": 1.4})  # fmt: skip
    scene.close()
    async with opened(paths, size=(160, 50)) as (app, pilot):
        await press(app, pilot, "3")
        [line] = [line for line in chart_text(app.screen).splitlines() if "another seed" in line]
        assert "┄┄" in line
        below = chart_text(app.screen).partition("another seed")[2]
        assert "1@50" not in below, "all variants are nearer to the dense model than that"
        facts = app.screen.query_one("#facts", Still).text
        assert "another seed: PSNR (dB) 11.3, SSIM 0.310, latent distance 1.4e+00" in facts
        await press(app, pilot, "y", "y")
        assert "attributes" in chart_text(app.screen)
        assert "another seed" not in chart_text(app.screen), "attributes need no other picture"


async def test_a_filter_shows_one_base(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(100, 40)) as (app, pilot):
        await press(app, pilot, "3", "f")
        assert isinstance(app.screen, Choice)
        assert [words for _, words in app.screen._options] == [
            "all jobs", "demo", "sdxl", "job 1: demo: prune by OBS-Diff"
        ], "job 4 made one variant: no sweep"  # fmt: skip
        app.screen.dismiss("2")
        await until(pilot, lambda: isinstance(app.screen, SweepsScreen))
        assert names(app.screen) == ["sdxl", "4@20"]
        await press(app, pilot, "escape")
        assert len(names(app.screen)) == 6
        await press(app, pilot, "escape")
        assert isinstance(app.screen, QueueScreen)


async def test_a_filter_shows_what_one_job_made_beside_its_dense_model(
    scene: tui_store.Scene,
) -> None:
    other = tui_store.prune_finished(scene, levels=(0.2, 0.4))
    async with opened(scene.paths, size=(120, 40)) as (app, pilot):
        await press(app, pilot, "3", "f")
        app.screen.dismiss("3")  # after all and two bases the newest job
        await until(pilot, lambda: isinstance(app.screen, SweepsScreen))
        assert names(app.screen) == ["demo", f"{other}@20", f"{other}@40"]
        assert f"2 variants of job {other}: demo" in app.screen.query_one("#caption", Still).text


async def test_marked_models_leave_as_a_file_and_by_the_clipboard(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(100, 40)) as (app, pilot):
        await press(app, pilot, "3", "j", "space", "space", "v")
        [file] = (scene.paths.home / "exports").iterdir()
        rows = list(csv.DictReader(io.StringIO(file.read_text())))
        assert [row["model"] for row in rows] == ["1@10", "1@30"]
        assert app.clipboard == file.read_text()
        assert any(str(file) in str(note.message) for note in app._notifications)
        await press(app, pilot, "escape", "m")
        [page] = (scene.paths.home / "exports").glob("*.md")
        assert len(page.read_text().splitlines()) == 2 + 6, "without marks all of them"


async def test_read_only_writes_no_file(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, readonly=True) as (app, pilot):
        await press(app, pilot, "3", "m")
        assert app.clipboard.startswith("| model |")
        assert not (scene.paths.home / "exports").exists()


async def test_enter_opens_layers_and_a_the_pictures(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "3", "enter")
        assert isinstance(app.screen, SweepsScreen), "the dense model has no layer table"
        await press(app, pilot, "j", "a")
        await until(pilot, lambda: isinstance(app.screen, ABScreen))
        await press(app, pilot, "escape", "enter")
        assert isinstance(app.screen, LayersScreen)


async def test_the_sweeps_are_found_as_they_were_left(scene: tui_store.Scene) -> None:
    for _ in range(2):
        async with opened(scene.paths, size=(120, 40)) as (app, pilot):
            screen: Any = app.screen
            if not isinstance(screen, SweepsScreen):
                await press(app, pilot, "3")
                screen = app.screen
                screen._sort_by("params")
                await press(app, pilot, "y")
                left = (screen._sort, screen._axes["y"])
                assert left[1]
            await settled(app, pilot)
            assert (screen._sort, screen._axes["y"]) == left


async def test_two_marked_models_are_held_against_each_other(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "3", "j", "space", "space", "a")
        await until(pilot, lambda: isinstance(app.screen, ABScreen))
        words = app.screen.query_one("#ab-models", Still).text
        assert "A 1@10" in words
        assert "B 1@30" in words


async def test_the_pictures_are_those_of_the_comparison_whose_figures_show(
    scene: tui_store.Scene,
) -> None:
    newer = tui_store.compare_finished(scene, 1, (0.3,), steps=3)  # of fewer models: no yardstick
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "3", "j", "j", "a")
        await until(pilot, lambda: isinstance(app.screen, ABScreen))
        await until(pilot, lambda: "job 2, 1 of" in app.screen.query_one("#ab-caption", Still).text)
        assert "B 1@30" in app.screen.query_one("#ab-models", Still).text
        assert newer != 2


async def test_a_variant_that_nobody_painted_with_has_no_pictures(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "3", "G", "a")
        assert isinstance(app.screen, SweepsScreen)
        assert any("No comparison" in str(note.message) for note in app._notifications)


async def test_an_empty_store_says_what_fills_it(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "3", "x", "y", "m", "space", "enter")
        assert "prune, compare and bench" in app.screen.query_one("#nothing", Still).text
    scene.close()


@pytest.mark.parametrize("keys", [["3"], ["4"], ["3", "j", "enter"]])
async def test_a_table_is_made_again_only_when_something_changed(
    scene: tui_store.Scene, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    made = []
    real = Sheet.show
    monkeypatch.setattr(Sheet, "show", lambda *args: made.append(args) or real(*args))
    async with opened(scene.paths, size=(100, 40)) as (app, pilot):
        await press(app, pilot, *keys)
        shown = lines(app.screen)
        made.clear()
        scene.worker()  # what the top line tells
        await until(pilot, lambda: app.snapshot.workers)
        await app.screen.show_newest()
        await pilot.pause()
        assert made == []
        assert lines(app.screen) == shown
        await press(app, pilot, "T")
        assert made, "the colours are others"
        made.clear()
        await pilot.resize_terminal(60, 40)
        await until(pilot, lambda: made)
        widest = "more column" in "".join(still.text for still in app.screen.query(Still))
        assert widest == bool(app.screen.query_one(Sheet).hidden[1])


async def test_rows_that_come_right_behind_a_move_leave_the_cursor_where_it_went(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths, size=(160, 50)) as (app, pilot):
        await press(app, pilot, "3")
        table = app.screen.query_one(Sheet)
        keys = list(table._cells)
        table.choose(keys[0])
        table.action_cursor_down()
        table.show([Head("anew", "anew", 4)], {key: [Text("")] for key in keys})
        assert (table.chosen, table.cursor_row) == (keys[1], 1)


def test_exports_of_one_second_have_names_of_their_own(paths: Paths) -> None:
    folder = paths.home / "exports"
    files = {write_export(folder, "csv", str(number)) for number in range(3)}
    assert sorted(file.read_text() for file in files) == ["0", "1", "2"]
    assert {file.name for file in folder.iterdir()} == {file.name for file in files}


def text_of(cells: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(character for character, _ in line) for line in cells]


def test_a_chart_puts_more_further_up_and_further_right() -> None:
    points = [Point(1, 10, "low", "b", OTHER), Point(2, 20, "high", "b", FRONT),
              Point(3, 15, "far", "b", OTHER)]  # fmt: skip
    drawn = text_of(draw(60, 16, Axis("cost"), Axis("worth"), points))
    assert drawn[0].startswith("worth against cost")
    assert all(len(line) == 60 for line in drawn)
    row = {name: next(y for y, line in enumerate(drawn[1:]) if name in line)
           for name in ("low", "high", "far")}  # fmt: skip
    column = {name: drawn[row[name] + 1].index(name) for name in row}
    assert row["high"] < row["far"] < row["low"]
    assert column["low"] < column["high"]
    assert drawn[row["high"] + 1].count(FRONT) == 1


def test_the_line_of_a_front_joins_its_points_and_no_others() -> None:
    ends = [Point(0, 0, "", "b", FRONT), Point(10, 10, "", "b", FRONT)]
    dots = [c for line in draw(60, 16, Axis("x"), Axis("y"), ends) for c, _ in line if c > "\u2800"]
    assert len(dots) > 20
    apart = [ends[0], Point(10, 10, "", "another base", FRONT)]
    assert not any(c > "\u2800" for line in draw(60, 16, Axis("x"), Axis("y"), apart)
                   for c, _ in line)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "log", "words"),
    [
        ((6.0, 8.0), False, ["6.0", "6.5", "7.0", "7.5", "8.0"]),
        ((1e-5, 1e-2), True, ["1e-5", "1e-4", "1e-3", "1e-2"]),
        ((0.0, 1e-2), True, ["0.000", "0.005", "0.010"]),
        ((5.0, 5.0), False, ["4.8", "4.9", "5.0", "5.1", "5.2"]),
    ],
)
def test_ticks_are_round(values: tuple[float, ...], log: bool, words: list[str]) -> None:
    found = scale(values, log=log, ticks=5)
    assert [text for _, text in found.ticks] == words
    assert all(0 <= found.share(value) <= 1 for value in values)
    assert all(0 <= found.share(value) <= 1 for value, _ in found.ticks)


def test_a_scale_ends_at_the_most_there_can_be() -> None:
    found = scale([100.0], log=False, ticks=5, most=100.0)
    assert found.ticks[-1] == (100.0, "100")
    assert found.share(100.0) == 1.0
    [y] = {board.axis(m).most for m in METRICS if m.key == "attributes"}
    assert y == 100.0
    points = [Point(1, 100, "a", "b", FRONT), Point(2, 100, "b", "b", OTHER)]
    assert "102" not in "".join(text_of(draw(60, 16, Axis("x"), Axis("y", most=y), points)))


@pytest.mark.parametrize("size", [(0, 0), (5, 3), (24, 5), (300, 80)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    points = [Point(1, 1, "a" * 80, "b", FRONT, chosen=True), Point(1, 1, "b", "b", OTHER)]
    drawn = text_of(draw(*size, Axis("x" * 50, log=True), Axis("y"), points))
    assert [len(line) for line in drawn] == [size[0]] * size[1]


def test_a_level_is_on_the_scale_and_hides_no_point() -> None:
    points = [Point(float(x), 30.0 + x, f"v{x}", "demo", FRONT) for x in range(5)]
    lines = text_of(draw(60, 16, Axis("a"), Axis("b"), points, [Level(10.0, "another seed")]))
    [row] = [n for n, line in enumerate(lines) if "another seed" in line]
    assert row > max(n for n, line in enumerate(lines) if FRONT in line and n)
    on_it = text_of(draw(60, 16, Axis("a"), Axis("b"), points, [Level(32.0, "another seed")]))
    assert sum(line.count(FRONT) for line in on_it[1:]) == len(points)
    assert any("another seed" in line for line in on_it)


def test_results_are_read_again_only_when_a_job_ended_or_its_models_changed(
    scene: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = board.measured
    monkeypatch.setattr(board, "measured", lambda jobs: read.append("") or real(jobs))
    reading = board.BoardReading()
    with Reader.open(scene.paths) as reader:
        first = reading(reader)
        scene.queue("prune", name="next")
        claim = scene.start()
        assert reading(reader) == first
        reads = len(read)
        scene.phase(claim, "calibrate", 100, "prompts")
        assert reading(reader) is reading(reader)
        assert len(read) == reads, "progress changes no result"
        path = str(scene.paths.output(claim.ulid))
        variant = {"id": f"{claim.job_id}@20", "sparsity": 0.2, "params": 1, "path": path}
        scene.finish(claim, "succeeded", result={"variants": [variant]})
        assert variant["id"] in {row.model for row in reading(reader).rows}
        scene.store.forget_variant(claim.job_id, 0.2)
        assert variant["id"] not in {row.model for row in reading(reader).rows}


@pytest.mark.parametrize(
    ("width", "label"), [(10, "sparsity ↓"), (9, "sparsity↓"), (8, "sparsit↓")]
)
def test_the_arrow_of_the_sorted_column_always_shows(width: int, label: str) -> None:
    assert Head("sparsity", "sparsity", width).sorted(falling=True).label == label
