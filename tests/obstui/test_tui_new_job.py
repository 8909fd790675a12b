"""The form: what it asks, what it refuses and where it says so, what it queues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key
from textual.widgets import Footer, Input, Select, SelectionList, TextArea

from obstui import matrix, specs
from obstui.config import Paths
from obstui.options import job_options
from obstui.store import Reader, Store
from obstui.tui import form, wording
from obstui.tui.screens.confirm import Confirm
from obstui.tui.screens.keys import KeysScreen
from obstui.tui.screens.new_job import NewJobScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.widgets.plan_panel import Forecast, Together, work_out
from obstui.tui.widgets.question import Question, variant_choices
from obstui.tui.widgets.still import Still
from tests.obstui import tui_store
from tests.obstui.test_plan import paint
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    yield scene
    scene.close()


def fault(app: object, key: str) -> str:
    return "".join(still.text for still in app.screen.query(f"#ask-{key} .fault"))  # type: ignore[attr-defined]


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
        app.screen.query_one("#answer-sparsity", Input).value = "0.95"
        await until(pilot, lambda: "0.95" in fault(app, "sparsity"))
        app.screen.query_one("#answer-steps", Input).value = "many"
        await until(pilot, lambda: "whole number" in fault(app, "steps"))
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert isinstance(app.screen, NewJobScreen)
        assert app.focused is app.screen.query_one("#answer-sparsity")
        app.screen.query_one("#answer-sparsity", Input).value = "0.3"
        await until(pilot, lambda: fault(app, "sparsity") == "")
        assert app.snapshot.jobs == before


async def test_a_model_that_is_not_there_is_named_under_its_field(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-model", Input).value = "/no/such/folder"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "No model /no/such/folder" in fault(app, "model"))


async def test_every_answer_that_is_wrong_is_named_at_once(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        for send in ("", "ctrl+s"):
            await pilot.press("n")
            app.screen.query_one("#answer-model", Input).value = "/no/such/folder"
            app.screen.query_one("#answer-prompt_file", Input).value = "/no/such/file"
            if send:
                await pilot.press(send)
            await until(pilot, lambda: "Cannot read" in fault(app, "prompt_file"))
            assert "No model /no/such/folder" in fault(app, "model")
            if send:
                assert app.focused is app.screen.query_one("#answer-model")
            await until(pilot, lambda: "see model and prompt file." in shown(app, "#summary"))
            app.screen.dismiss()
            await until(pilot, lambda: isinstance(app.screen, QueueScreen))


async def test_what_an_import_names_is_looked_for(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#kind", Select).value = "import"
        app.screen.query_one("#answer-file", Input).value = "/no/unet.pth"
        app.screen.query_one("#answer-base", Input).value = "/no/such/folder"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "There is no file /no/unet.pth" in fault(app, "file"))
        assert "No model /no/such/folder" in fault(app, "base")


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


def shown(app: object, name: str) -> str:
    return app.screen.query_one(name, Still).text  # type: ignore[attr-defined]


async def test_the_plan_follows_what_is_written(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(160, 50)) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: "30 %" in shown(app, "#plan-lines"))
        before = shown(app, "#plan-lines")
        assert all(word in before for word in ("Memory", "calibrate", "solve", "variants", "8.2 M"))
        assert "like an earlier job" in before
        app.screen.query_one("#answer-sparsity", Input).value = "0.45"
        await until(pilot, lambda: "45 %" in shown(app, "#plan-lines"))
        assert "30 %" not in shown(app, "#plan-lines")
        app.screen.query_one("#answer-model", Input).value = str(scene.paths.home)
        await until(pilot, lambda: shown(app, "#summary").startswith("No plan"))
        assert "45 %" not in shown(app, "#plan-lines")


async def test_fields_that_contradict_each_other_are_named_under_one(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n", "ctrl+o")
        app.screen.query_one("#answer-budget", Select).value = "flops"
        await until(pilot, lambda: "give both, or neither" in fault(app, "budget"))
        app.screen.query_one("#answer-allocate", Select).value = "loss"
        await until(pilot, lambda: not fault(app, "budget"))


async def test_a_preset_fills_the_fields_and_says_what_it_is(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#preset", Select).value = "paper settings"
        await until(pilot, lambda: app.screen.query_one("#answer-steps", Input).value == "25")
        assert app.screen.query_one("#answer-num_prompts", Input).value == "100"
        assert "OBS-Diff" in shown(app, "#help")


async def test_no_preset_keeps_what_another_filled_in(scene: tui_store.Scene) -> None:
    assert len({frozenset(preset.answers) for preset in form.PRESETS}) == 1

    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        choice = app.screen.query_one("#preset", Select)
        held_out = app.screen.query_one("#answer-held_out", Input)
        damping = app.screen.query_one("#answer-damping", Input)
        damping.value = "0.02"
        choice.value = "quick look"
        await until(pilot, lambda: held_out.value == "0")
        choice.value = "five sizes"
        await until(pilot, lambda: held_out.value == "")
        choice.clear()
        await until(pilot, lambda: damping.value == "0.02")


async def test_leaving_the_dashboard_asks_before_answers_are_lost(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n", "tab", "tab", *"mine")
        app.screen.query_one("#kind").focus()
        await pilot.press("q")
        await pilot.pause()
        assert isinstance(app.screen, NewJobScreen), "in a form a letter leaves nothing"
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n", "escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm), seconds=5)
        assert app.is_running


async def test_a_job_is_queued_by_keys_only_and_held(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n", "tab", "tab", *"keys")
        assert "queue calls the job" in shown(app, "#help")
        await pilot.press("tab", "tab", "home", "shift+end", "delete", *"0.3", "ctrl+o")
        app.screen.query_one("#answer-priority").focus()
        await pilot.press("2", "tab", "down", "down", "enter", "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        job = reader.jobs()[0]
    assert (job.name, job.spec["sparsity"], job.priority, job.state) == ("keys", [0.3], 2, "held")


@pytest.mark.parametrize("preset", form.PRESETS, ids=lambda preset: preset.name)
def test_every_preset_is_a_job(preset: form.Preset) -> None:
    specs.parse(form.spec_data("prune", preset.answers))


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "prune", "sparsity": [0.1, 0.35], "packages": 3, "prompts": ["a, b", "c"]},
        {"kind": "prune", "allocate": "loss", "budget": "flops", "seed": 9, "held_out": 0},
        {"kind": "generate", "prompts": ["a fox"], "seeds": [3, 1], "scheduler": "euler",
         "guidance": 3.5, "variant": "1@30"},
        {"kind": "compare", "variants": ["1@10", "1@30"], "negative": "blur", "size": 512},
        {"kind": "bench", "variants": ["1@10"], "repeats": 3, "warm_up": 0},
        {"kind": "export", "variant": "1@10", "format": "pth", "to": "/tmp/x"},
        {"kind": "import", "file": "/tmp/unet.pth", "base": "demo"},
    ],
    ids=lambda data: data["kind"],
)  # fmt: skip
def test_a_job_can_be_asked_for_again(data: dict[str, Any]) -> None:
    spec = specs.parse(data)
    answers = form.answers_of(spec.model_dump(mode="json"))
    assert specs.parse(form.spec_data(spec.kind, answers)) == spec


async def test_a_form_begins_with_the_answers_of_an_old_job(scene: tui_store.Scene) -> None:
    tui_store.compare_finished(scene, 1)
    async with opened(scene.paths) as (app, pilot):
        app.screen.choose(2)
        await until(pilot, lambda: app.screen.selected_job.id == 2)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        choices = app.screen.query_one("#answer-variants", SelectionList)
        await until(pilot, lambda: sorted(choices.selected) == ["1@10", "1@30", "1@50"])
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        again, first = reader.job(3), reader.job(2)
    assert again.spec == first.spec


def test_imported_variants_are_offered_and_removed_ones_are_not(tmp_path: Path) -> None:
    scene = tui_store.Scene(tmp_path)
    scene.queue("prune", sparsity=[0.1, 0.3])
    left = {"id": "1@30", "sparsity": 0.3, "path": str(tmp_path)}
    scene.finish(scene.start(), "succeeded", result={"variants": [left]})
    for base in ("demo", None):
        scene.queue("import", file="/unet.pth", base=base)
        made = {"id": "0@20", "sparsity": 0.2, "path": str(tmp_path)}
        scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    scene.queue("import", file="/unet.pth", base="demo")
    with Reader.open(scene.paths) as reader:
        offers = form.offers(reader.jobs())
    assert [(offer.id, offer.model) for offer in offers] == [
        ("3@20", ""), ("2@20", "demo"), ("1@30", "demo"),
    ]  # fmt: skip
    assert "20 % of demo by import" in offers[1].words
    assert len(list(variant_choices(offers, ["demo"]))) == 3
    assert [choice.value for choice in variant_choices(offers, ["owner/sdxl"])] == ["3@20"]
    scene.close()


async def test_several_values_queue_a_sweep_of_all_combinations(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(160, 50)) as (app, pilot):
        await pilot.press("n")
        for key, value in (("seed", "0, 1, 2"), ("damping", "0.01, 0.05"), ("sparsity", "0.1,0.3"),
                           ("name", "night")):  # fmt: skip
            app.screen.query_one(f"#answer-{key}", Input).value = value
        await until(pilot, lambda: "Queues 6 jobs" in shown(app, "#plan-lines"))
        await until(pilot, lambda: shown(app, "#summary").startswith("Queues 6 jobs"))
        app.screen.query_one("#answer-seed").focus()
        await pilot.pause()
        assert "Commas: one job each." in shown(app, "#help")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        new = [job for job in reader.jobs() if job.id > 1]
        sweeps = reader.sweeps()
    assert [(sweep.name, sweep.counts) for sweep in sweeps] == [("night", {"queued": 6})]
    assert {(job.spec["seed"], job.spec["damping"]) for job in new} == {
        (seed, damping) for seed in (0, 1, 2) for damping in (0.01, 0.05)
    }
    assert {tuple(job.spec["sparsity"]) for job in new} == {(0.1, 0.3)}
    assert new[-1].name == "night damping=0.01, seed=0"


def planned(scene: tui_store.Scene, answers: dict[str, str]) -> Forecast:
    return work_out(scene.paths, form.asked("prune", answers).jobs)


def test_a_sweeps_plan_adds_up_its_jobs(scene: tui_store.Scene) -> None:
    one = planned(scene, {"num_prompts": "48", "sparsity": "0.1"})
    answers = {"num_prompts": "48, 96", "sparsity": "0.1", "seed": "1,2,3", "size": ""}
    two = planned(scene, {"num_prompts": "96", "sparsity": "0.1"})
    found = planned(scene, answers)
    assert one.together is None
    assert one.time is not None
    assert one.time.steady > 0
    assert found.together is not None
    assert found.together.jobs == 6
    hours = 6 * one.time.steady + 3 * (1 + 2) * one.time.growing
    assert found.together.seconds == pytest.approx(hours)
    assert found.together.disk == pytest.approx(3 * (one.disk + two.disk))
    many = {"num_prompts": ",".join(str(n) for n in range(48, 100)), "sparsity": "0.1"}
    assert planned(scene, many).together == Together(52, None, None)


def test_a_sweep_of_one_calibration_counts_it_once(scene: tui_store.Scene) -> None:
    one = planned(scene, {"num_prompts": "48", "sparsity": "0.1"})
    found = planned(scene, {"num_prompts": "48", "sparsity": "0.1", "damping": "0.01,0.05"})
    assert one.time is not None
    assert found.together is not None
    assert found.together.seconds == pytest.approx(2 * one.time.steady + one.time.growing)
    assert found.together.disk == 2 * one.disk - one.plan.shared_disk


def test_a_sweep_of_pictures_loads_their_model_once(scene: tui_store.Scene) -> None:
    for loading in (10, 1):
        paint(scene, "generate", 11, loading, 2)
    answers = {"prompts": "x", "steps": "8", "guidance": "1,2,3", "seed": "1"}
    found = work_out(scene.paths, form.asked("generate", answers).jobs)
    assert found.together is not None
    assert found.together.seconds == pytest.approx(10 + 1 + 1 + 3 * 2)


async def test_too_many_combinations_are_refused_with_their_number(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        for key in ("seed", "steps"):
            value = ",".join(str(n) for n in range(10, 60))
            app.screen.query_one(f"#answer-{key}", Input).value = value
        await until(pilot, lambda: "2,500 jobs: 2,000 are the most" in shown(app, "#summary"))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "2,000 are the most" in shown(app, "#fault"))
    with Reader.open(scene.paths) as reader:
        assert len(reader.jobs()) == 1


def test_each_value_of_several_is_judged() -> None:
    assert form.fault("prune", "damping", "0.1, 7").startswith("7: Must be less than")
    assert form.fault("prune", "seed", "1, 2, 3") == ""
    assert form.fault("prune", "seed", "1, x") == "x: Write a whole number."
    assert form.fault("generate", "negative", "blurry, cropped") == ""


@pytest.mark.parametrize("model", ["demo", "/models/a, b", '/models/"c", d', 'owner/"x'])
def test_a_name_with_a_comma_is_one_value(model: str) -> None:
    data = form.spec_data("prune", {"model": form.joined([model]), "seed": "7,"})
    assert (data["model"], data["seed"]) == (model, 7)
    both = {"model": form.joined([model, "second"])}
    assert form.several("prune", both) == {"model": [model, "second"]}


def test_the_prompt_file_is_read_for_the_job_that_wants_most(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"prompt {n}" for n in range(30)))
    answers = {"prompt_file": str(file), "num_prompts": "4, 9, 6"}
    jobs = form.jobs_data("compare", {**answers, "variants": ["1@10"]})
    assert [(len(job["prompts"]), job["num_prompts"]) for job in jobs] == [(9, 4), (9, 9), (9, 6)]


@pytest.mark.parametrize("kind", ["prune", "compare"])
@pytest.mark.parametrize("number", ["24", "2, 24, 50", ""])
async def test_no_job_uses_more_prompts_than_there_are(
    scene: tui_store.Scene, tmp_path: Path, kind: str, number: str
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na dog\na fox\n")
    answers = {"num_prompts": number, "variants": ["1@10"]}
    for given, words in (
        ({"prompt_file": str(file)}, "The prompt file holds only 3 prompts"),
        ({"prompts": "a cat\na dog\na fox"}, "You wrote only 3 prompts"),
    ):
        asked = form.asked(kind, {**answers, **given})
        used = [job.model_dump()["num_prompts"] for job in asked.jobs]
        assert used == ([2, 3] if "," in number else [3])
        assert asked.remark.startswith(words if number else "")
        assert bool(asked.remark) == bool(number)
    data = asked.jobs[-1].model_dump(mode="json")
    again = form.answers_of(data) | {"prompts": "a\nb\nc\nd"}
    assert form.asked(kind, again).jobs[0].model_dump()["num_prompts"] == 4


async def test_the_plan_says_that_prompts_are_missing_and_time_too(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na dog\na fox\n")
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        for key, value in (("prompt_file", str(file)), ("num_prompts", "24"),
                           ("max_runtime", "1s")):  # fmt: skip
            app.screen.query_one(f"#answer-{key}", Input).value = value
        await until(pilot, lambda: "holds only 3 prompts, not 24." in shown(app, "#summary"))
        assert "but may run at most 1 s: it would fail." in shown(app, "#summary")
        assert "it would fail" in shown(app, "#plan-lines")
        assert app.screen.query_one("#summary").size.height == 3
        app.screen.query_one("#answer-max_runtime", Input).value = "8h"
        await until(pilot, lambda: "would fail" not in shown(app, "#summary"))


NIGHT = {"priority": 3, "held": True, "window": "23:00-07:00", "after": "1", "max_runtime": "90m"}


async def chosen(app: Any, pilot: Any, job_id: int, key: str) -> None:
    """Go to a job of the queue and open its form."""
    app.screen.choose(job_id)
    await until(pilot, lambda: app.screen.selected_job and app.screen.selected_job.id == job_id)
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, NewJobScreen))


async def test_a_duplicate_may_run_when_the_first_may_and_is_not_held(
    scene: tui_store.Scene,
) -> None:
    spec = specs.parse({"kind": "generate", "prompts": ["a fox"], "seed": 5})
    scene.store.enqueue(spec, options=job_options(NIGHT))
    async with opened(scene.paths) as (app, pilot):
        await chosen(app, pilot, 2, "d")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        first, again = reader.job(2), reader.job(3)
        assert first is not None
        assert again is not None
        assert (again.spec, reader.needs(3)) == (first.spec, [1])
    assert (again.priority, again.window, again.max_runtime) == (3, "23:00-07:00", 5400)
    assert (first.state, again.state) == ("held", "queued")


async def test_an_edited_job_stays_where_it_is(scene: tui_store.Scene) -> None:
    first = scene.queue("prune", sparsity=[0.2, 0.4])
    scene.queue("compare", variants=[f"{first.id}@20"])
    async with opened(scene.paths) as (app, pilot):
        await chosen(app, pilot, first.id, "E")
        assert app.screen.query_one("#kind", Select).disabled
        for seeds, words in (("1, 2", "stays one job"), ("9", "")):
            app.screen.query_one("#answer-seed", Input).value = seeds
            app.screen.query_one("#answer-sparsity", Input).value = "0.2"
            await pilot.press("ctrl+s")
            if words:
                await until(pilot, lambda words=words: words in shown(app, "#fault"))
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        assert [job.id for job in reader.in_order()] == [2, 3]
        job = reader.job(first.id)
    assert job is not None
    assert (job.spec["seed"], job.spec["sparsity"], job.ulid) == (9, [0.2], first.ulid)


@pytest.mark.parametrize(("terms", "hidden"), [("state:failed", True), ("kind:prune", False)])
async def test_a_new_job_that_the_filter_hides_is_told(
    scene: tui_store.Scene, terms: str, hidden: bool
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await chosen(app, pilot, 1, "d")
        home = app.screen_stack[0]
        assert isinstance(home, QueueScreen)
        home._read_filter(terms)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        [words] = [n.message for n in app._notifications if n.message.startswith("Queued as job 2")]
        assert ("The queue's filter hides it" in words) is hidden


@pytest.mark.parametrize(
    ("name", "typed", "damping", "after"),
    [
        ("", None, "0.5", "prune damping=0.5"),
        ("night", None, "0.5", "night damping=0.5"),
        ("", "mine", "0.5", "mine"),
        ("", None, "", ""),
    ],
)
async def test_a_name_that_a_sweep_gave_follows_the_answers(
    scene: tui_store.Scene, name: str, typed: str | None, damping: str, after: str
) -> None:
    [data] = matrix.combinations({"kind": "prune", "name": name}, {"damping": [0.2]})
    job = scene.store.enqueue(specs.parse(data))
    async with opened(scene.paths) as (app, pilot):
        for key in "Ed":
            await chosen(app, pilot, job.id, key)
            assert app.screen.query_one("#answer-name", Input).value == (name if key == "E" else
                                                                         typed or name)  # fmt: skip
            if typed is not None:
                app.screen.query_one("#answer-name", Input).value = typed
            app.screen.query_one("#answer-damping", Input).value = damping
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        names = [found.spec["name"] for found in reader.jobs() if found.id >= job.id]
    assert names == [after, after]


async def test_an_edit_that_others_count_against_is_refused_in_the_form(
    scene: tui_store.Scene,
) -> None:
    first = scene.queue("prune", sparsity=[0.2, 0.4])
    scene.queue("compare", variants=[f"{first.id}@20"])
    async with opened(scene.paths) as (app, pilot):
        await chosen(app, pilot, first.id, "E")
        app.screen.query_one("#answer-sparsity", Input).value = "0.4"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Job 3 waits for job 2" in shown(app, "#fault"))
        assert "2@40" in shown(app, "#fault")
    with Reader.open(scene.paths) as reader:
        job = reader.job(first.id)
    assert job is not None
    assert job.spec == first.spec


async def test_only_what_has_not_begun_can_be_edited(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("E")
        await pilot.pause()
        assert isinstance(app.screen, QueueScreen)


async def test_the_form_begins_with_the_newest_model_where_nobody_used_the_demo(
    paths: Paths,
) -> None:
    scene = tui_store.Scene(paths.home)
    newest = ""
    for model in ("owner/first", "/models/a, b", "demo"):
        async with opened(scene.paths) as (app, pilot):
            await pilot.press("n")
            answer = app.screen.query_one("#answer-model", Input).value
            assert form.parts(answer) == [newest or "demo"]
        scene.queue("prune", model=model)
        newest = model
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        assert app.screen.query_one("#answer-model", Input).value == "demo"
    scene.close()


async def test_at_60_columns_the_footer_and_the_help_are_whole(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, size=(60, 20)) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-guidance").focus()
        await pilot.pause()
        footer = app.screen.query_one(Footer)
        assert footer.max_scroll_x == 0
        assert all(key.region.right <= 60 for key in footer.query("FooterKey"))
        assert app.screen.query_one("#help").region.height == 2


async def test_marked_variants_of_another_model_stay_marked(scene: tui_store.Scene) -> None:
    first = scene.queue("prune", model="owner/sdxl", sparsity=[0.2, 0.4])
    variants = [f"{first.id}@20", f"{first.id}@40"]
    scene.queue("compare", model="owner/sdxl", variants=variants)
    async with opened(scene.paths) as (app, pilot):
        await chosen(app, pilot, 3, "d")
        choices = app.screen.query_one("#answer-variants", SelectionList)
        await pilot.pause()
        await until(pilot, lambda: sorted(choices.selected) == variants, 10)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        again = reader.job(4)
    assert again is not None
    assert again.spec["variants"] == variants


async def test_pictures_need_a_prompt_and_the_form_says_where_from(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        area = app.screen.query_one("#answer-prompts", TextArea)
        await until(pilot, lambda: "the bundled prompts" in str(area.placeholder))
        app.screen.query_one("#kind", Select).value = "generate"
        await until(pilot, lambda: "the file below" in str(area.placeholder))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: fault(app, "prompts") != "")
        assert fault(app, "prompts") == "Write at least one, or name a file of them below."
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))


async def test_escape_leaves_the_plan_first_and_asks_before_answers_are_lost(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        await pilot.press("ctrl+g", "escape")
        assert isinstance(app.screen, NewJobScreen)
        app.screen.query_one("#answer-name", Input).value = "night"
        await pilot.press("escape")
        assert isinstance(app.screen, Confirm)
        await pilot.press("enter")  # the safe answer has the focus
        assert app.screen.query_one("#answer-name", Input).value == "night"
        await pilot.press("escape", "y")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))


async def test_keys_move_the_plan_that_covers_the_form(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n", "tab", "ctrl+g")
        plan = app.screen.query_one("#plan")
        await until(pilot, lambda: plan.max_scroll_y > 0)
        for key, there in (("down", 1), ("j", 2), ("end", None), ("home", 0), ("G", None),
                           ("g", 0), ("pagedown", None)):  # fmt: skip
            await pilot.press(key)
            wanted = plan.max_scroll_y if there is None else there
            await until(pilot, lambda wanted=wanted: plan.scroll_y == wanted, 5)
        for _ in range(4):
            await pilot.press("tab", "down")
            assert app.focused in (plan, *app.screen.query("Button"))
            assert not any(select.expanded for select in app.screen.query(Select))
        await pilot.press("ctrl+g", "x")
        await until(pilot, lambda: isinstance(app.focused, (Input, TextArea, Select)))
        await pilot.press("shift+tab")
        assert app.focused is not plan


async def test_back_from_the_plan_the_keys_go_on_in_the_same_field(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n", "tab", "tab", "a", "ctrl+g")
        await pilot.pause()
        await pilot.press("ctrl+g")
        await pilot.pause()
        await pilot.press("Z")
        assert app.screen.query_one("#answer-name", Input).value == "aZ"
        assert not app.has_class("-comfortable")


async def test_space_marks_the_first_row_and_marks_are_told_without_colour(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#kind", Select).value = "compare"
        choices = app.screen.query_one("#answer-variants", SelectionList)
        await until(pilot, lambda: choices.display and choices.option_count == 3)
        choices.focus()
        await pilot.pause()
        for key, character in (("space", " "), ("down", None), ("down", None), ("space", " ")):
            app.post_message(Key(key, character))
        await until(pilot, lambda: len(choices.selected) == 2)
        assert list(choices.selected) == ["1@10", "1@50"]
        rows = [choices.render_line(y).text[:7] for y in range(3)]
        assert ["X" in row for row in rows] == [True, False, True]
        assert app.screen.query_one("#ask-variants", Question).label == "variants 2"


async def test_a_model_that_is_nowhere_has_no_plan_and_is_named_while_it_is_written(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-model", Input).value = "0.5x"
        await until(pilot, lambda: "No model 0.5x" in fault(app, "model"))
        assert shown(app, "#summary") == "No plan yet: see model."
        app.screen.query_one("#answer-model", Input).value = "owner/name"
        await until(pilot, lambda: shown(app, "#summary").startswith("Plan, if it is SDXL: "))
        assert fault(app, "model") == ""


async def test_a_file_that_is_no_model_is_named_in_no_more_lines_than_it_takes(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"no header" * 500)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-model", Input).value = str(file)
        await until(pilot, lambda: "cut short or damaged" in fault(app, "model"))
        said = app.screen.query_one("#ask-model .fault").region
        assert app.screen.query_one("#ask-sparsity").region.y == said.bottom
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.focused is app.screen.query_one("#answer-model"))


async def test_what_stands_in_an_empty_field_is_this_kinds_default(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        answer = app.screen.query_one("#answer-num_prompts", Input)
        assert answer.placeholder == "100"
        app.screen.query_one("#kind", Select).value = "compare"
        await until(pilot, lambda: answer.placeholder == "8")


@pytest.mark.parametrize(("asked", "unfolded"), [({}, False), ({"max_runtime": "1s"}, True)])
async def test_a_job_like_one_with_options_shows_them(
    paths: Paths, asked: dict[str, Any], unfolded: bool
) -> None:
    with Store.open(paths.ensure()) as store:
        store.enqueue(specs.PruneSpec(), options=job_options(asked))
    async with opened(paths) as (app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        await until(
            pilot, lambda: app.screen.query_one("#answer-num_prompts", Input).value == "100"
        )
        assert app.screen.has_class("-all") is unfolded


def test_what_ran_out_of_time_is_not_just_tried_again(scene: tui_store.Scene) -> None:
    scene.queue("prune")
    scene.finish(scene.start(), "failed", reason="timeout")
    with Reader.open(scene.paths) as reader:
        words = wording.next_step(reader.jobs()[0], readonly=False)
    assert words == (
        "It needs more time. Press d to queue it with changes, L in its screen for the log."
    )
    with Reader.open(scene.paths) as reader:
        assert wording.next_step(reader.jobs()[0], readonly=True) == "It needs more time."


async def test_keys_that_come_in_one_go_reach_the_field_they_were_meant_for(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        await pilot.pause()
        for key, character in [("tab", None)] * 4 + [("0", "0"), ("full_stop", "."), ("4", "4")]:
            app.post_message(Key(key, character))
        await until(pilot, lambda: app.screen.query_one("#answer-sparsity", Input).value == "0.4")


async def test_variants_of_jobs_queued_meanwhile_are_offered(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#kind", Select).value = "compare"
        await until(pilot, lambda: app.screen.kind == "compare")
        choices = app.screen.query_one("#answer-variants", SelectionList)
        before = choices.option_count
        scene.queue("prune", name="later", sparsity=[0.25])
        await until(pilot, lambda: any(job.name == "later" for job in app.snapshot.jobs))
        choices.focus()
        await until(pilot, lambda: choices.option_count == before + 1)
        words = str(choices.get_option_at_index(0).prompt)
        assert "later" in words


async def test_a_chosen_variant_stays_chosen_when_it_is_listed_no_more(
    scene: tui_store.Scene,
) -> None:
    """Else the form would come to mean the dense model."""
    later = scene.queue("prune", name="later", sparsity=[0.25])
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        app.screen.query_one("#kind", Select).value = "compare"
        await until(pilot, lambda: app.screen.kind == "compare")
        one = app.screen.query_one("#answer-variant", Select)
        several = app.screen.query_one("#answer-variants", SelectionList)
        one.value = name = f"{later.id}@25"
        several.select(name)
        scene.store.cancel(later.id)
        await until(pilot, lambda: app.snapshot.job(later.id).state == "cancelled")
        several.focus()
        await until(pilot, lambda: "not listed" in str(several.get_option_at_index(
            several.option_count - 1).prompt))  # fmt: skip
        assert (one.value, several.selected) == (name, [name])
        await pilot.press("ctrl+s")
        refused = app.screen.query_one("#fault", Still)
        await until(pilot, lambda: "will not be made" in refused.text)
        assert len(app.snapshot.jobs) == 2, "it was refused"


async def test_a_filled_form_is_not_lost_below_something_else(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        app.screen.query_one("#answer-sparsity", Input).value = "0.4"
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        depth = len(app.screen_stack)
        await pilot.press("ctrl+q")
        await pilot.pause()
        assert len(app.screen_stack) == depth, "it is asked once"
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        assert app.is_running
