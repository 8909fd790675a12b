"""The list behind a field of the form: models that are known, files and folders as they are
written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Select

from obstui import models
from obstui.config import Paths
from obstui.tui import form, pickable
from obstui.tui.app import Dashboard
from obstui.tui.pickable import Entry
from obstui.tui.screens.new_job import NewJobScreen
from obstui.tui.screens.pick import Pick
from obstui.tui.widgets.still import Still
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.Scene(paths.home)
    yield scene
    scene.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts, a pipeline, a single file, a hidden folder, and a name that would be markup."""
    folder = tmp_path / "work"
    for name in ("sdxl/model_index.json", "sdxl/unet/config.json", "prompts/night.txt",
                 "prompts/[red]day.txt", "prompts/.draft.txt", "one.safetensors", ".cache/x",
                 "notes.md"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def listed(app: Dashboard) -> list[str]:
    options = app.screen.query_one(OptionList)
    return [str(options.get_option_at_index(i).prompt) for i in range(options.option_count)]


def test_models_are_the_demo_named_ones_and_those_of_jobs_newest_first(
    scene: tui_store.Scene, folder: Path
) -> None:
    models.register(scene.paths, "mine", str(folder / "sdxl"))
    for name in ("owner/first", "owner/second", "owner/first", "demo"):
        scene.queue("prune", model=name)
    found = pickable.models(scene.paths)
    assert [entry.answer for entry in found] == ["demo", "mine", "owner/first", "owner/second"]
    assert found[1].words == str(folder / "sdxl")
    assert found[2].words == "used by job 3"


def test_a_store_that_is_not_there_yet_knows_the_demo_model(tmp_path: Path) -> None:
    found = pickable.models(Paths(tmp_path, tmp_path / "jobs.db"))
    assert [entry.answer for entry in found] == ["demo"]


@pytest.mark.parametrize(
    ("written", "sort", "answers"),
    [
        ("", "file", ["prompts/", "sdxl/", "notes.md", "one.safetensors"]),
        ("", "model", ["prompts/", "one.safetensors", "sdxl"]),
        ("", "new", ["prompts/", "sdxl/"]),
        ("PROM", "file", ["prompts/"]),
        ("prompts/", "file", ["prompts/[red]day.txt", "prompts/night.txt"]),
        (".", "file", [".cache/"]),
        ("prompts/.", "file", ["prompts/.draft.txt"]),
        ("sdxl", "model", ["sdxl"]),
        ("sdxl/", "model", ["sdxl/unet/"]),
    ],
)
def test_files_and_folders_begin_as_it_is_written(
    folder: Path, written: str, sort: pickable.Sort, answers: list[str]
) -> None:
    found, _ = pickable.below(f"{folder}/{written}", sort)
    assert [entry.answer for entry in found] == [f"{folder}/{answer}" for answer in answers]


def test_a_home_folder_is_written_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert pickable.below("~/pro", "file") == ([Entry("~/prompts/", inside=True)], "")
    assert pickable.below("~", "file")[0][0].answer == "~/prompts/"


@pytest.mark.parametrize("written", ["/no/such/place/x", "~nobody-here/x", "/a\0b/c"])
def test_a_place_that_cannot_be_read_is_a_sentence(written: str) -> None:
    found, note = pickable.below(written, "file")
    assert found == []
    assert note.startswith("Cannot read ")


def test_a_large_folder_is_cut_and_says_so(tmp_path: Path) -> None:
    for number in range(pickable.MOST + 5):
        (tmp_path / f"{number:04}.txt").touch()
    found, note = pickable.below(f"{tmp_path}/", "file")
    assert len(found) == pickable.MOST
    assert "of 205" in note


async def test_a_model_is_picked_by_a_part_of_its_name(scene: tui_store.Scene) -> None:
    scene.queue("prune", model="stabilityai/stable-diffusion-xl-base-1.0")
    scene.queue("prune", model="owner/other")
    async with opened(scene.paths, size=(60, 20)) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-model").focus()
        await pilot.press("end", ",", "ctrl+n")
        await until(pilot, lambda: isinstance(app.screen, Pick) and len(listed(app)) == 3)
        await pilot.press(*"xl base", "enter")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        answer = app.screen.query_one("#answer-model", Input).value
        assert form.parts(answer)[-1] == "stabilityai/stable-diffusion-xl-base-1.0"
        assert len(form.parts(answer)) == 2


async def test_a_prompt_file_is_found_folder_by_folder(
    scene: tui_store.Scene, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-prompt_file").focus()
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, Pick) and len(listed(app)) == 4)
        await pilot.press("enter")
        await until(pilot, lambda: listed(app) == ["[red]day.txt", "night.txt"])
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        answer = app.screen.query_one("#answer-prompt_file", Input).value
        assert os.path.samefile(answer, folder / "prompts" / "night.txt")


async def test_a_new_folder_is_offered_as_it_is_written(
    scene: tui_store.Scene, folder: Path
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#kind", Select).value = "export"
        await pilot.pause()
        app.screen.query_one("#answer-to", Input).value = f"{folder}/"
        app.screen.query_one("#answer-to").focus()
        await pilot.press("ctrl+n")
        await until(pilot, lambda: isinstance(app.screen, Pick) and listed(app))
        assert listed(app) == ["prompts/", "sdxl/"]
        await pilot.press(*"small", "enter")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        assert app.screen.query_one("#answer-to", Input).value == f"{folder}/small"


async def test_escape_changes_nothing_and_an_unreadable_place_is_told(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-model").focus()
        await pilot.press("ctrl+n")
        await until(pilot, lambda: isinstance(app.screen, Pick) and listed(app))
        await pilot.press(*"/no/such/x")
        await until(pilot, lambda: "Cannot read" in app.screen.query_one("#note", Still).text)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        assert app.screen.query_one("#answer-model", Input).value == "demo"


async def test_enter_right_after_writing_takes_what_was_written(
    scene: tui_store.Scene, folder: Path
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-model").focus()
        await pilot.press("ctrl+n")
        await until(pilot, lambda: isinstance(app.screen, Pick) and listed(app))
        written = app.screen.query_one("#written", Input)
        written.value = f"{folder}/sdxl"
        await written.action_submit()
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        assert app.screen.query_one("#answer-model", Input).value == f"{folder}/sdxl"
