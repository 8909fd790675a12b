"""The layer table: from the files of a real prune, from events alone, and two variants together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.manifest import decode_kept, read_manifest
from obstui.config import Paths
from obstui.specs import NoSuchModel
from obstui.store import Reader
from obstui.tui import layers
from obstui.tui.layers import Layer, LayersReading, Pair, Table, read_table
from obstui.tui.screens.choice import Choice
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.layers import LayersScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.snapshot import settled
from obstui.tui.widgets.layer_map import LayerMap
from obstui.tui.widgets.sheet import Sheet
from obstui.tui.widgets.still import Still
from tests.obstui import tui_models, tui_store
from tests.obstui.tui_pilot import opened, until


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tui_store.Scene]:
    """1@30 and 1@50 by magnitude, with their files."""
    scene = tui_models.pruned(tmp_path_factory.mktemp("home"))
    yield scene
    scene.close()


@pytest.fixture
def told(paths: Paths) -> Iterator[tui_store.Scene]:
    """A prune of which only the events are left."""
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    yield scene
    scene.close()


def folder(scene: tui_store.Scene, variant: str) -> Path:
    with Reader.open(scene.paths) as reader:
        job = reader.job(1)
    assert job is not None
    assert job.result is not None
    return Path(next(v["path"] for v in job.result["variants"] if v["id"] == variant))


def rows(app: Any) -> list[list[str]]:
    table = app.screen.query_one(Sheet)
    return [[str(cell).strip() for cell in table.get_row_at(row)] for row in range(table.row_count)]


async def press(app: Any, pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(app, pilot)


def test_a_table_has_what_the_manifest_has(real: tui_store.Scene) -> None:
    with Reader.open(real.paths) as reader:
        table = read_table(reader, "1@30")
    entries = read_manifest(folder(real, "1@30"))["targets"]
    assert [layer.name for layer in table.layers] == [entry["name"] for entry in entries]
    for layer, entry in zip(table.layers, entries, strict=True):
        assert layer.kept == len(decode_kept(entry["kept"], entry["units"]))
        assert layer.share == layer.kept / entry["units"]
        assert layer.removed is not None
        kept = decode_kept(entry["kept"], entry["units"])
        assert set(layer.removed) == set(range(entry["units"])) - set(kept)
    assert table.words == "demo to 30 % by magnitude"


def test_a_table_without_files_comes_from_the_events(told: tui_store.Scene) -> None:
    with Reader.open(told.paths) as reader:
        table = read_table(reader, "1@30")
        with pytest.raises(NoSuchModel, match="There is no variant 9@30"):
            read_table(reader, "9@30")
    first = table.layers[0]
    want = tui_store.solved(tui_store.targets(tui_store.DEMO_STAGES)[0], (0.1, 0.3, 0.5))
    assert (first.name, first.kept) == (want["name"], want["kept"]["0.3"])
    assert first.error == want["error"]["0.3"]
    assert (first.samples_per_dim, first.seconds) == (12.5, 1.25)


def test_a_damaged_manifest_is_a_sentence_where_no_event_tells(
    real: tui_store.Scene, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder(real, "1@30"), copy)
    (copy / "unet" / "pruning.json").write_text("{")
    with Reader.open(real.paths) as reader, pytest.raises(NoSuchModel, match="cannot be read"):
        read_table(reader, str(copy))


def test_a_pair_tells_what_both_keep() -> None:
    one = Layer("a", "ff", "mid", 0, 8, kept=3, bits=bytes([0b00000111]))
    other = Layer("a", "ff", "mid", 0, 8, kept=3, bits=bytes([0b00001011]))
    assert Pair(one, other).shared == 2
    assert Pair(one, other).differs, "as many units, but not the same"
    assert not Pair(one, one).differs
    assert Pair(one).shared is None


def test_rows_sort_with_the_unknown_last() -> None:
    known = [Layer(name, "ff", "mid", 0, 8, error=error)
             for name, error in (("a", 0.1), ("b", None), ("c", 0.3))]  # fmt: skip
    table = Table("x", "", tuple(known))
    column = next(c for c in layers.columns([table]) if c.head.key == "error")
    for reverse, names in ((False, "cab"), (True, "acb")):
        found = layers.ordered(layers.pair([table]), column, reverse=reverse, only_differing=False)
        assert "".join(row.first.name for row in found) == names


def test_the_reading_lists_all_other_variants(real: tui_store.Scene) -> None:
    with Reader.open(real.paths) as reader:
        page = LayersReading(("1@30",))(reader)
    assert page.others == (("1@50", "demo to 50 % by magnitude"),)


def test_a_table_is_read_again_only_when_something_was_made(
    told: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = layers.read_table
    monkeypatch.setattr(layers, "read_table", lambda *args: read.append("") or real(*args))
    reading = LayersReading(("1@30",))
    with Reader.open(told.paths) as reader:
        first = reading(reader)
        running = tui_store.prune_running(told)
        reading(reader)
        reads = len(read)
        told.store.append(running, [("target_solved", {"name": "x"})])
        assert reading(reader) == first
        assert len(read) == reads, "another job's progress changes no table"
        made = {"id": f"{running.job_id}@10", "sparsity": 0.1, "params": 1, "path": "/tmp/y"}
        told.finish(running, "succeeded", result={"variants": [made]})
        assert made["id"] in dict(reading(reader).others)


async def test_sorting_by_a_key_and_the_other_way_round(told: tui_store.Scene) -> None:
    async with opened(told.paths, size=(100, 30)) as (app, pilot):
        app.push_screen(LayersScreen("1@30"))
        await settled(app, pilot)
        forward = [row[0] for row in rows(app)]
        heads = [str(c.label).strip() for c in app.screen.query_one(Sheet).ordered_columns]
        assert heads == ["target", "units", "kept", "share", "error", "N/d", "time"]
        assert "N/d: " in app.screen.query_one("#layers-caption", Still).text
        await press(app, pilot, "s")
        assert isinstance(app.screen, Choice)
        app.screen.dismiss("error")
        await until(pilot, lambda: isinstance(app.screen, LayersScreen))
        errors = [float(row[4]) for row in rows(app)]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > errors[-1]
        app.screen.query_one(Sheet).post_message(Sheet.HeadClicked("error"))
        await until(pilot, lambda: float(rows(app)[0][4]) == min(errors))
        app.screen.query_one(Sheet).post_message(Sheet.HeadClicked("target"))
        await until(pilot, lambda: [row[0] for row in rows(app)] == forward)


async def test_two_variants_side_by_side_and_only_what_differs(real: tui_store.Scene) -> None:
    async with opened(real.paths, size=(120, 60)) as (app, pilot):
        app.push_screen(LayersScreen("1@30"))
        await settled(app, pilot)
        await press(app, pilot, "o", "d")
        assert isinstance(app.screen, Choice)
        await press(app, pilot, "enter")
        assert isinstance(app.screen, LayersScreen)
        heads = [str(c.label).strip() for c in app.screen.query_one(Sheet).ordered_columns]
        assert heads == ["target", "units", "kept 1@30", "kept 1@50", "in both"]
        every = rows(app)
        _, _, some, fewer, both = every[0]
        assert int(some) > int(fewer) == int(both), "1@50 keeps a part of what 1@30 keeps"
        await press(app, pilot, "o")
        caption = app.screen.query_one("#layers-caption", Still).text
        assert f"{len(rows(app))} layers that differ" in caption
        assert "N/d" not in caption, "there is no such column"
        assert 0 < len(rows(app)) <= len(every)
        await press(app, pilot, "t")
        assert int(rows(app)[0][2]) < int(rows(app)[0][3])
        await press(app, pilot, "escape")
        assert app.screen.query_one("#layers-caption", Still).text.startswith("1@50  51 layers")
        await press(app, pilot, "escape")
        assert isinstance(app.screen, QueueScreen)


async def test_a_variant_against_itself_differs_nowhere(real: tui_store.Scene) -> None:
    async with opened(real.paths) as (app, pilot):
        app.push_screen(LayersScreen("1@30", str(folder(real, "1@30"))))
        await settled(app, pilot)
        await press(app, pilot, "o")
        assert "No layer differs" in app.screen.query_one("#layers-nothing", Still).text


async def test_a_variant_that_is_not_there_is_a_sentence(told: tui_store.Scene) -> None:
    async with opened(told.paths) as (app, pilot):
        app.push_screen(LayersScreen("7@30"))
        await settled(app, pilot)
        words = app.screen.query_one("#layers-nothing", Still).text
        assert words.startswith("There is no variant 7@30")


async def test_the_line_below_names_the_heads_that_are_gone(real: tui_store.Scene) -> None:
    with Reader.open(real.paths) as reader:
        layers = read_table(reader, "1@50").layers
    want = next(layer for layer in layers if layer.kind == "attn1" and layer.removed)
    async with opened(real.paths, size=(120, 60)) as (app, pilot):
        app.push_screen(LayersScreen("1@50"))
        await settled(app, pilot)
        sheet = app.screen.query_one(Sheet)
        sheet.move_cursor(row=sheet.get_row_index(want.name))
        await until(pilot, lambda: sheet.chosen == want.name)
        words = app.screen.query_one("#layers-facts", Still).text
        assert f"removed: {', '.join(map(str, want.removed or ()))}  " in words


async def test_enter_on_the_map_leads_to_the_target_in_the_layer_table(
    told: tui_store.Scene,
) -> None:
    async with opened(told.paths, watch=1) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
        await until(pilot, lambda: app.screen.query_one(LayerMap).targets)
        await pilot.press("v", "v", "right", "down", "down")
        marked = app.screen.query_one(LayerMap).pointed
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LayersScreen))
        await until(pilot, lambda: app.screen.query_one(Sheet).row_count > 0)
        assert marked is not None
        assert marked.kind == "ff"
        assert app.screen.query_one(Sheet).chosen == marked.name
        assert app.screen.query_one("#layers-caption", Still).text.startswith("1@30")
        await pilot.press("escape", "A", "G", "enter")
        await until(pilot, lambda: isinstance(app.screen, LayersScreen))
        sheet = app.screen.query_one(Sheet)
        await until(pilot, lambda: sheet.row_count > 0)
        assert sheet.chosen == [str(key.value) for key in sheet.rows][-1]
