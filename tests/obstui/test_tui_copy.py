"""Copying a job: as a command line and as a file, from the lists and from the form."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from textual.notifications import Notification
from textual.widgets import Input, Select, TextArea

from obstui import again, cli
from obstui.config import Paths
from obstui.job_files import read_job_file
from obstui.store import Reader, Store
from obstui.tui.app import Dashboard
from obstui.tui.clipboard import FILE
from tests.obstui import tui_store
from tests.obstui.test_again import understood
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    yield scene
    scene.close()


def told(app: Dashboard) -> list[str]:
    found: list[Notification] = list(app._notifications)
    return [each.message for each in found]


@pytest.mark.parametrize("keys", [[], ["enter"]], ids=["queue", "job"])
async def test_a_job_is_copied_as_its_command_line_and_as_yaml(
    scene: tui_store.Scene, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    file = scene.paths.home / FILE
    async with opened(scene.paths) as (app, pilot):
        await pilot.press(*keys, "y")
        await until(pilot, lambda: file.exists() and app.clipboard)
        with Reader.open(scene.paths) as reader:
            job = reader.job(1)
        assert job is not None
        spec, _ = again.asked_for(scene.paths, job)
        assert understood(app.clipboard)[0] == spec
        assert file.read_text() == app.clipboard
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        await until(pilot, lambda: any(str(file) in words for words in told(app)))
        assert not any("tmux" in words for words in told(app))
        before = app.clipboard
        await pilot.press("Y")
        await until(pilot, lambda: app.clipboard != before and file.read_text() != before)
        shown = CliRunner().invoke(
            cli.cli, ["--db", str(scene.paths.db), "show", "1", "--yaml"], catch_exceptions=False
        )
        assert app.clipboard == shown.output == file.read_text()


async def test_in_tmux_the_setting_is_told_once(
    scene: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("y")
        await until(pilot, lambda: any("set-clipboard on" in words for words in told(app)))
        await pilot.press("y")
        await until(pilot, lambda: told(app) and "set-clipboard on" not in told(app)[-1])
        assert "copied" in told(app)[-1]


async def test_a_readonly_dashboard_copies_and_writes_nothing(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, readonly=True) as (app, pilot):
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard.startswith("obstui prune"))
        await until(pilot, lambda: told(app))
    assert not (scene.paths.home / FILE).exists()


async def test_a_job_without_words_says_what_to_take_instead(scene: tui_store.Scene) -> None:
    scene.queue("prune", prompts=["a cat", "a cat"])
    async with opened(scene.paths, watch=2) as (app, pilot):
        await until(pilot, lambda: app.screen.selected_job is not None)  # type: ignore[attr-defined]
        await pilot.press("y")
        await until(pilot, lambda: any("take the job as YAML" in words for words in told(app)))
        assert app.clipboard == ""


async def test_the_form_copies_what_is_being_written(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#kind", Select).value = "generate"
        await pilot.pause()
        app.screen.query_one("#answer-prompts", TextArea).text = "a fox, 35 mm\nit's a hen"
        app.screen.query_one("#answer-steps", Input).value = "12"
        app.screen.query_one("#answer-prompts").focus()
        await pilot.press("ctrl+l")
        await until(pilot, lambda: app.clipboard)
        spec, _ = understood(app.clipboard)
        assert spec.model_dump()["prompts"] == ("a fox, 35 mm", "it's a hen")
        app.screen.query_one("#answer-steps", Input).value = "12, 20"
        app.screen.query_one("#answer-seed", Input).value = "1,2"
        app.screen.query_one("#answer-name", Input).value = "night"
        await pilot.press("ctrl+t")
        await until(pilot, lambda: "matrix" in app.clipboard)
        file = tmp_path / "copied.yaml"
        file.write_text(app.clipboard)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: app.clipboard.count("obstui generate") == 4)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: len(app.snapshot.jobs) == 5)
    asked = read_job_file(file)
    with Reader.open(scene.paths) as reader:
        queued = sorted((job for job in reader.jobs() if job.id > 1), key=lambda job: job.id)
        assert asked.sweep == reader.sweeps()[0].name == "night"
    with Store.open(scene.paths) as store:
        again_queued = store.enqueue_all(asked.jobs, sweep=asked.sweep)
    assert [job.spec for job in again_queued] == [job.spec for job in queued]


async def test_what_cannot_be_queued_is_not_copied(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-steps", Input).value = "many"
        await pilot.press("ctrl+l")
        await pilot.pause()
        assert app.focused is app.screen.query_one("#answer-steps")
        assert app.clipboard == ""
