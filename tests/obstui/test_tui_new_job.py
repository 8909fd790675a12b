"""The form: what it asks, what it refuses and where it says so, what it queues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, Select, SelectionList, TextArea

from obstui.config import Paths
from obstui.store import Reader
from obstui.tui import form
from obstui.tui.screens.new_job import NewJobScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.widgets.still import Still
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    yield scene
    scene.close()


def fault(app: object, key: str) -> str:
    return app.screen.query_one(f"#ask-{key} .fault", Still).text  # type: ignore[attr-defined]


async def test_a_prune_is_queued_and_selected(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        assert isinstance(app.screen, NewJobScreen)
        app.screen.query_one("#answer-name", Input).value = "night sweep"
        app.screen.query_one("#answer-sparsity", Input).value = "0.2, 0.4"
        app.screen.query_one("#answer-seed", Input).value = "7"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await until(pilot, lambda: app.screen.selected_job is not None
                    and app.screen.selected_job.name == "night sweep")  # fmt: skip
    with Reader.open(scene.paths) as reader:
        job = reader.jobs()[0]
    assert (job.state, job.spec["sparsity"], job.spec["seed"]) == ("queued", [0.2, 0.4], 7)


async def test_a_wrong_answer_is_named_under_its_field_and_nothing_is_queued(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        before = app.snapshot.jobs
        await pilot.press("n")
        app.screen.query_one("#answer-sparsity", Input).value = "30"
        await pilot.pause()
        assert "for 30 % write 0.3" in fault(app, "sparsity")
        app.screen.query_one("#answer-steps", Input).value = "many"
        await pilot.pause()
        assert "whole number" in fault(app, "steps")
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert isinstance(app.screen, NewJobScreen)
        assert app.focused is app.screen.query_one("#answer-sparsity")
        app.screen.query_one("#answer-sparsity", Input).value = "0.3"
        await pilot.pause()
        assert fault(app, "sparsity") == ""
        assert app.snapshot.jobs == before


async def test_a_model_that_is_not_there_is_named_under_its_field(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-model", Input).value = "/no/such/folder"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "No model /no/such/folder" in fault(app, "model"))


async def test_a_comparison_offers_the_variants_of_its_model(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#kind", Select).value = "compare"
        await pilot.pause()
        choices = app.screen.query_one("#answer-variants", SelectionList)
        assert [choices.get_option_at_index(i).value for i in range(choices.option_count)] == [
            "1@10", "1@30", "1@50",
        ]  # fmt: skip
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert "at least one variant" in fault(app, "variants")
        choices.select("1@30")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        assert reader.jobs()[0].spec["variants"] == ["1@30"]


async def test_prompts_come_from_the_area_or_from_a_file(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\n\na dog\n")
    async with opened(scene.paths) as (app, pilot):
        for answer, value in (("prompts", "a fox\na hen"), ("prompt_file", str(file))):
            await pilot.press("n")
            app.screen.query_one("#kind", Select).value = "generate"
            await pilot.pause()
            widget = app.screen.query_one(f"#answer-{answer}")
            if isinstance(widget, TextArea):
                widget.text = value
            else:
                app.screen.query_one(f"#answer-{answer}", Input).value = value
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        latest, before = reader.jobs()[:2]
    assert latest.spec["prompts"] == ["a cat", "a dog"]
    assert before.spec["prompts"] == ["a fox", "a hen"]


async def test_escape_leaves_without_queueing(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n", "escape")
        assert isinstance(app.screen, QueueScreen)
        assert len(app.snapshot.jobs) == 1


def test_empty_answers_leave_the_defaults() -> None:
    data = form.spec_data("prune", {"model": "demo", "sparsity": "0.3", "steps": "", "seed": "4"})
    assert data == {"kind": "prune", "model": "demo", "sparsity": "0.3", "seed": 4}


@pytest.mark.parametrize(
    ("kind", "key", "value", "words"),
    [
        ("prune", "damping", "2", "less than or equal to 1"),
        ("generate", "size", "33", "multiple of 8"),
        ("generate", "count", "0", "greater than or equal to 1"),
        ("generate", "prompts", "a fox", ""),
        ("prune", "seed", "12", ""),
    ],
)
def test_each_field_is_judged_alone(kind: str, key: str, value: str, words: str) -> None:
    said = form.fault(kind, key, value)
    assert (words in said) if words else said == ""
    assert key not in said
