"""The models place: lineage and sizes, names, imports, exports, checks, deletion with a warning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from core.manifest import WEIGHTS
from obstui import models
from obstui.config import Paths
from obstui.store import JobView, Reader
from obstui.tui.screens.ask import Ask
from obstui.tui.screens.choice import Choice
from obstui.tui.screens.confirm import Confirm
from obstui.tui.screens.layers import LayersScreen
from obstui.tui.screens.models import ModelsScreen
from obstui.tui.screens.verify import VerifyScreen
from obstui.tui.snapshot import settled, workers_done
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
def scene(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[tui_store.Scene]:
    """Job 1 makes a variant with a folder, job 2 has painted with it."""
    monkeypatch.setenv("OBSTUI_HOME", str(paths.home))
    scene = tui_store.Scene(paths.home)
    folder = paths.home / "made"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / WEIGHTS).write_bytes(b"x" * 2048)
    made = {"id": "1@30", "sparsity": 0.3, "method": "obs", "path": str(folder),
            "params": 7_000_000, "dense_params": 8_000_000, "size_bytes": 2048,
            "mean_error": 0.05, "held_out_error": 0.06}  # fmt: skip
    tui_models.measured(scene, "prune", {"variants": [made]}, sparsity=(0.3,))
    tui_models.measured(scene, "generate", {"images": []}, variant="1@30", prompts=["a fox"])
    yield scene
    scene.close()


def rows(app: Any) -> list[list[str]]:
    table = app.screen.query_one(Sheet)
    return [[str(cell).strip() for cell in table.get_row_at(row)] for row in range(table.row_count)]


async def press(app: Any, pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(app, pilot)


def newest(paths: Paths) -> JobView:
    with Reader.open(paths) as reader:
        return reader.jobs(limit=1)[0]


def said(app: Any, words: str) -> bool:
    return any(words in str(note.message) for note in app._notifications)


def keys(app: Any) -> set[str]:
    return {b.binding.id or "" for b in app.screen.active_bindings.values() if b.enabled}


async def test_variants_stand_under_their_base(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4")
        assert isinstance(app.screen, ModelsScreen)
        demo, variant = rows(app)
        assert demo[0] == "demo"
        assert variant == ["└ 1@30", "30 %", "7.0 M", "2.00 KiB", "prune 1", "1 job", "obs"]
        await press(app, pilot, "j")
        assert str(scene.paths.home / "made") in app.screen.query_one("#models-where", Still).text
        facts = app.screen.query_one("#models-facts", Still).text
        assert facts == "used by job 2  mean error 0.0500  held-out error 0.0600"
        await press(app, pilot, "o")
        assert app.screen_stack[-1] is not app.screen_stack[1], "its job is open"


async def test_a_model_gets_a_name(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4", "n")
        assert isinstance(app.screen, Ask)
        await press(app, pilot, *"demo", "enter", *"a/b", "enter")
        await until(pilot, lambda: app.screen.query_one("#fault", Still).text)
        assert "cannot be a model's name" in app.screen.query_one("#fault", Still).text
        await press(app, pilot, "shift+tab", "home", *"my-", "enter")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await settled(app, pilot)
        await until(pilot, lambda: [row[0] for row in rows(app)] == ["demo", "└ 1@30", "my-demo"])
        assert models.registered(scene.paths) == {"my-demo": "a/b"}
        await press(app, pilot, "G", "x")
        assert isinstance(app.screen, Confirm)
        await press(app, pilot, "y")
        await until(pilot, lambda: models.registered(scene.paths) == {})


async def test_an_import_is_queued_or_says_what_is_wrong(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4", "i", "enter")
        assert "The file is missing" in app.screen.query_one("#fault", Still).text
        await press(app, pilot, *"/no.pth", "enter")
        await until(pilot, lambda: "no.pth" in app.screen.query_one("#fault", Still).text)
        assert newest(scene.paths).kind == "generate", "nothing was queued"
        await press(app, pilot, "escape")
        assert isinstance(app.screen, ModelsScreen)


async def test_an_export_is_queued_in_the_chosen_format(real: tui_store.Scene) -> None:
    async with opened(real.paths) as (app, pilot):
        await press(app, pilot, "4", "j", "e")
        assert isinstance(app.screen, Choice)
        await press(app, pilot, "down", "enter")
        await until(pilot, lambda: newest(real.paths).kind == "export")
        spec = newest(real.paths).spec
        assert (spec["variant"], spec["format"]) == ("1@30", "pth")
        real.store.cancel(newest(real.paths).id)


async def test_verify_tells_each_file_and_finds_one_changed_byte(real: tui_store.Scene) -> None:
    with Reader.open(real.paths) as reader:
        weights = models.find_variant(reader, "1@50") / "unet" / WEIGHTS
    async with opened(real.paths, size=(100, 30)) as (app, pilot):
        await press(app, pilot, "4", "j", "v")
        assert isinstance(app.screen, VerifyScreen)
        await until(
            pilot, lambda: "All is as it was" in app.screen.query_one("#verdict", Still).text
        )
        assert app.screen.query_one("#checks", Still).text.count("✓") == 4
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        await press(app, pilot, "escape", "j", "v")
        await until(
            pilot, lambda: "not what was saved" in app.screen.query_one("#verdict", Still).text
        )
        assert f"✗ {WEIGHTS}" in app.screen.query_one("#checks", Still).text
        weights.write_bytes(whole)
        await press(app, pilot, "escape", "enter")
        assert isinstance(app.screen, LayersScreen)


async def test_verify_tells_how_far_it_is_and_escape_ends_the_reading(
    real: tui_store.Scene,
) -> None:
    with Reader.open(real.paths) as reader:
        weights = models.find_variant(reader, "1@50") / "unet" / WEIGHTS
    before, total = weights.stat().st_size, 64 << 30
    os.truncate(weights, total)  # a hole of minutes
    heard: list[Message] = []
    try:
        async with opened(real.paths, size=(100, 30), heard=heard) as (app, pilot):
            await press(app, pilot, "4", "j", "j")
            await pilot.press("v")
            await until(pilot, lambda: isinstance(app.screen, VerifyScreen))
            verdict = app.screen.query_one("#verdict", Still)
            await until(pilot, lambda: "of 64.0 GiB" in verdict.text)
            assert "left" in verdict.text
            await pilot.press("escape")
            await workers_done(app)
            reads = [message for message in heard if isinstance(message, VerifyScreen.Read)]
            assert 0 < max(message.done for message in reads) < total
    finally:
        os.truncate(weights, before)


async def test_delete_warns_and_keeps_unless_told(scene: tui_store.Scene) -> None:
    folder = scene.paths.home / "made"
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4", "j", "x")
        assert isinstance(app.screen, Confirm)
        assert "Job 2 used it" in app.screen.question.consequence
        await press(app, pilot, "enter")  # the safe answer has the focus
        assert folder.exists()
        await press(app, pilot, "x", "y")
        await until(pilot, lambda: not folder.exists())
        await until(pilot, lambda: [row[0] for row in rows(app)] == ["demo"])


async def test_what_an_unfinished_job_needs_stays(scene: tui_store.Scene) -> None:
    job = scene.queue("generate", variant="1@30", prompts=["a hare"])
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4", "j", "x")
        assert isinstance(app.screen, ModelsScreen)
        assert said(app, f"Job {job.id} still needs 1@30")
        assert (scene.paths.home / "made").exists()


async def test_a_folder_that_has_gone_is_said(scene: tui_store.Scene) -> None:
    (scene.paths.home / "made").rename(scene.paths.home / "elsewhere")
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4", "j")
        assert rows(app)[1][3] == "not here"
        assert "not on this disk" in app.screen.query_one("#models-where", Still).text
        await press(app, pilot, "v")
        await until(
            pilot, lambda: "deleted or moved" in app.screen.query_one("#verdict", Still).text
        )


async def test_read_only_hides_what_changes(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, readonly=True) as (app, pilot):
        await press(app, pilot, "4", "j")
        assert not keys(app) & {"models.add", "models.import", "models.export", "models.delete"}
        assert {"models.verify", "models.layers"} <= keys(app)
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4")
        assert "models.delete" not in keys(app), "the demo model is part of the program"
        await press(app, pilot, "j")
        assert {"models.add", "models.import", "models.export", "models.delete"} <= keys(app)


async def test_a_second_name_of_a_model_hides_nothing(scene: tui_store.Scene) -> None:
    models.register(scene.paths, "my", "demo")
    async with opened(scene.paths) as (app, pilot):
        await press(app, pilot, "4")
        await until(pilot, lambda: [row[0] for row in rows(app)] == ["demo", "└ 1@30", "my"])
