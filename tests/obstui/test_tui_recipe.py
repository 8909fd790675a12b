"""A picture's settings back in the form: from the gallery, the full picture, A/B, or dropped."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from textual import events
from textual.widgets import Input, Select, TextArea

from core import schedulers
from core.pictures import parameters
from obstui import specs
from obstui.config import Paths
from obstui.store import Reader
from obstui.tui import form, recipe
from obstui.tui.screens.ab import ABScreen
from obstui.tui.screens.gallery import GalleryScreen
from obstui.tui.screens.new_job import NewJobScreen
from obstui.tui.screens.picture import PictureScreen
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.widgets.still import Still
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until

FACTS: dict[str, Any] = {
    "prompt": "a fox, 35 mm: \"snow\"", "negative": "blur, noise", "seed": 77, "steps": 12,
    "guidance": 3.5, "size": 64, "sampler": "DPM++ 2M Karras", "model": "demo", "variant": "1@30",
}  # fmt: skip


def painted(path: Path, **facts: Any) -> Path:
    """A picture as the engine saves it."""
    info = PngInfo()
    info.add_text("parameters", parameters(FACTS | facts))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.Scene(paths.home)
    tui_store.prune_finished(scene)
    yield scene
    scene.close()


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"negative": "", "variant": "", "sampler": "EulerDiscrete"},
        {"model": '/models/a, "b": c', "variant": "my variant, 2"},
        {"prompt": "Steps: 9, Seed: 1", "negative": "Version: other"},
    ],
)
def test_what_the_engine_writes_is_what_the_form_reads(facts: dict[str, Any]) -> None:
    wanted = FACTS | facts
    answers = recipe.answers_of(parameters(wanted))
    assert answers is not None
    spec = specs.parse(form.spec_data("generate", answers)).model_dump()
    assert spec["prompts"] == (wanted["prompt"],)
    assert spec["variant"] == (wanted["variant"] or None)
    assert spec["scheduler"] == (None if "sampler" in facts else "dpmpp_2m_karras")
    for key in ("negative", "seed", "steps", "guidance", "size", "model"):
        assert spec[key] == wanted[key], key


def test_every_scheduler_is_known_by_the_name_that_pictures_carry() -> None:
    titles = {title: name for name, (title, _, _) in schedulers._KNOWN.items()}
    assert titles == recipe._SAMPLERS


A1111 = """(a fox:1.2), <lora:snow:0.8> 35 mm,
at night
Negative prompt: blur, [noise]
more blur
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 123456, Size: 832x1216, \
Model hash: abc, Model: juggernautXL_v9, Clip skip: 2, Lora hashes: "snow: 1a, b: 2", \
Version: v1.9.4"""


def test_what_another_program_tells_is_taken_as_far_as_it_can_be() -> None:
    found = recipe.anothers(A1111)
    assert found is not None
    answers, missing = found
    spec = specs.parse(form.spec_data("generate", answers | {"model": "demo"})).model_dump()
    assert spec["prompts"] == ("(a fox:1.2), 35 mm, at night",)
    assert spec["negative"] == "blur, [noise] more blur"
    assert (spec["steps"], spec["guidance"], spec["seed"]) == (28, 6.5, 123456)
    assert (spec["scheduler"], spec["size"]) == ("dpmpp_2m_karras", None)
    assert missing == ["model juggernautXL_v9", "size 832x1216", "1 LoRA", "Clip skip"]
    assert not {"model", "variant"} & answers.keys(), "the form's own stay"


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a cat, <lora:x:1>", "a cat"),
        ("<lora:x:1>, <lora:y:0.5>, a cat", "a cat"),
        ("a cat, <lora:x:1>,\n1,000 birds", "a cat, 1,000 birds"),
        ("a cat <lora:x:1> at night", "a cat at night"),
        ("a cat, at night,", "a cat, at night,"),
    ],
)
def test_no_comma_is_left_of_a_lora(prompt: str, left: str) -> None:
    found = recipe.anothers(f"{prompt}\nNegative prompt: {prompt}\nSteps: 9")
    assert found is not None
    assert (found[0]["prompts"], found[0]["negative"]) == (left, left)


@pytest.mark.parametrize(
    ("said", "scheduler", "missing"),
    [
        ("Sampler: Euler a, Size: 512x512", "euler_a", []),
        ("Sampler: Euler, Schedule type: Normal", "euler", []),
        ("Sampler: DPM++ 2M Karras", "dpmpp_2m_karras", []),
        ("Sampler: DPM++ 2M", "dpmpp_2m", []),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m_karras", []),
        ("Sampler: dpmpp_2m, Scheduler: karras", "dpmpp_2m_karras", []),
        ("Sampler: euler_ancestral, Scheduler: normal", "euler_a", []),
        ("Sampler: Euler, Schedule type: Beta", "", ["sampler Euler Beta"]),
        ("Sampler: LCM", "", ["sampler LCM"]),
        ("", "", []),
    ],
)
def test_samplers_of_other_programs(said: str, scheduler: str, missing: list[str]) -> None:
    found = recipe.anothers(f"a fox\nSteps: 20, {said}")
    assert found is not None
    assert (found[0]["scheduler"], found[1]) == (scheduler, missing)


@pytest.mark.parametrize(
    "text",
    ["", "a fox", '{"sui_image_params": {"steps": 20}}', "a fox\nSteps: many, Seed: 1", "\n\n"],
)
def test_text_without_settings_is_not_guessed_at(text: str) -> None:
    assert recipe.anothers(text) is None


HOSTILE = (
    "a \x1b[31m[red]fox[/]\nNegative prompt: \x1b]0;x\x07\n"
    f"Steps: {'9' * 9000}, CFG scale: nan, Seed: -1, Size: 1{'0' * 50}x1{'0' * 50}, "
    'Sampler: [bold]\x1b[2J, Model: "\\ud800\\u001b[2J, ", Hires steps: 1,2,3'
)


@pytest.mark.parametrize(
    "text",
    [HOSTILE, "Steps: 1, " + "A" * 500_000, "Steps: 1, " + 'A: "' * 100_000, "Steps: 1\n" * 90_000],
    ids=["wrong", "name", "quotes", "lines"],
)
def test_hostile_settings_are_only_text(text: str) -> None:
    began = time.monotonic()
    found = recipe.anothers(text)
    assert found is not None
    answers, missing = found
    specs.parse(form.spec_data("generate", answers | {"prompts": "x"}))
    told = recipe._left_out(missing)
    assert len(told) < 500
    assert "\x1b" not in told + "".join(answers.values())
    assert time.monotonic() - began < 5, "its time must not grow with the square of its length"
    if text is HOSTILE:
        assert answers["prompts"] == "a [red]fox[/]", "words, which nothing takes for markup"
        assert {answers[key] for key in ("steps", "guidance", "seed", "size")} == {""}


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for each in (text, f"{text}\nSteps: 20, {text}, Seed: {text}, Size: {text}"):
        if (found := recipe.anothers(each)) is not None:
            specs.parse(form.spec_data("generate", found[0] | {"prompts": "x"}))


@pytest.mark.parametrize(
    ("pasted", "path"),
    [
        ("/pictures/fox.png", "/pictures/fox.png"),
        ("  '/pictures/a fox.PNG' \n", "/pictures/a fox.PNG"),
        ("/pictures/a\\ fox.png ", "/pictures/a fox.png"),
        ("/pictures/a fox.png", "/pictures/a fox.png"),
        ("file:///pictures/a%20fox.png", "/pictures/a fox.png"),
        ("~/fox.png", "~/fox.png"),
        ("a drawing of fox.png", None),
        ("/a/fox.png\n/a/hen.png", None),
        ("/pictures/fox.txt", None),
        ("it's /a/fox.png", None),
        ("", None),
    ],
)
def test_a_dropped_picture_is_told_from_other_text(pasted: str, path: str | None) -> None:
    assert recipe.dropped(pasted) == path


def test_pictures_that_tell_nothing_are_a_sentence(tmp_path: Path) -> None:
    foreign, broken, pipe = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    Image.new("RGB", (8, 8)).save(foreign)
    broken.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    os.mkfifo(pipe)
    gone = tmp_path / "d.png"
    for file, words in ((foreign, "a text named parameters would"), (broken, "cannot be read"),
                        (pipe, "There is no picture"), (gone, "There is no picture")):  # fmt: skip
        with pytest.raises(recipe.NotOurs, match=words) as caught:
            recipe.opening(str(file))
        assert str(file) in str(caught.value)


def test_a_picture_inside_the_store_tells_too(tmp_path: Path) -> None:
    raw = base64.b64encode(painted(tmp_path / "x.png").read_bytes()).decode()
    assert recipe.opening(f"data:image/png;base64,{raw}").answers["seed"] == "77"


def comparison(scene: tui_store.Scene) -> None:
    """Its pictures tell how they were made."""
    tui_store.compare_finished(scene, 1)
    with Reader.open(scene.paths) as reader:
        for image in reader.images(limit=100):
            painted(Path(image.path), prompt=image.prompt, seed=image.seed,
                    variant="" if image.model == "dense" else image.model)  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "screen"),
    [([], GalleryScreen), (["enter"], PictureScreen), (["c"], ABScreen)],
    ids=["gallery", "picture", "ab"],
)
async def test_a_picture_begins_a_job_like_it(
    scene: tui_store.Scene, keys: list[str], screen: type
) -> None:
    comparison(scene)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, GalleryScreen) and app.up_to_date)
        await pilot.press("l", "l", "l", *keys)
        await until(pilot, lambda: isinstance(app.screen, screen) and app.up_to_date)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, NewJobScreen))
        await until(pilot, lambda: app.screen.query_one("#answer-steps", Input).value == "12")
        assert app.screen.query_one("#answer-variant", Select).value == "1@10"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, screen))
    with Reader.open(scene.paths) as reader:
        job = reader.job(3)
    assert job is not None
    assert job.spec["prompts"] == [tui_store.PROMPTS[0][0]]
    assert (job.spec["variant"], job.spec["scheduler"]) == ("1@10", "dpmpp_2m_karras")


async def test_a_readonly_dashboard_opens_no_form(scene: tui_store.Scene) -> None:
    comparison(scene)
    async with opened(scene.paths, readonly=True) as (app, pilot):
        await pilot.press("2", "e")
        await pilot.pause()
        assert isinstance(app.screen, GalleryScreen)


@pytest.mark.parametrize("focus", ["answer-prompts", "answer-name", "kind"])
async def test_a_dropped_picture_fills_the_form(
    scene: tui_store.Scene, tmp_path: Path, focus: str
) -> None:
    file = painted(tmp_path / "a fox.png")
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one(f"#{focus}").focus()
        await pilot.pause()
        app.post_message(events.Paste(f"'{file}'"))
        await until(pilot, lambda: app.screen.query_one("#kind", Select).value == "generate")
        await until(pilot, lambda: app.screen.query_one("#answer-seed", Input).value == "77")
        assert app.screen.query_one("#answer-prompts", TextArea).text == FACTS["prompt"]
        assert app.screen.query_one("#answer-name", Input).value == ""
        assert app.screen.query_one("#answer-variant", Select).value == "1@30"


async def test_queueing_waits_for_the_picture_that_was_dropped_last(
    scene: tui_store.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(path: str) -> form.Opening:
        time.sleep(0.5)
        return reading(path)

    reading = recipe.opening
    monkeypatch.setattr(recipe, "opening", slowly)
    files = [painted(tmp_path / f"{seed}.png", seed=seed) for seed in (1, 2)]
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        for file in files:
            app.post_message(events.Paste(str(file)))
        app.post_message(events.Key("ctrl+s", None))
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
    with Reader.open(scene.paths) as reader:
        job = reader.jobs()[0]
    assert (job.kind, job.spec["seed"]) == ("generate", 2)


async def test_a_picture_that_cannot_fill_the_form_queues_nothing_in_its_place(
    scene: tui_store.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(path: str) -> form.Opening:
        time.sleep(0.5)
        raise recipe.NotOurs("This picture does not tell.")

    monkeypatch.setattr(recipe, "opening", slowly)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.post_message(events.Paste("/a.png"))
        app.post_message(events.Key("ctrl+s", None))
        await until(pilot, lambda: [n for n in app._notifications if "not tell" in n.message])
        await until(pilot, lambda: not [w for w in app.workers if w.group == "submit"])
        assert isinstance(app.screen, NewJobScreen)
        app.post_message(events.Key("ctrl+s", None))  # now they know
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))


async def test_what_a_picture_has_replaced_comes_back_until_something_is_written(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    files = [painted(tmp_path / f"{seed}.png", seed=seed) for seed in (1, 2)]
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        seed, prompts = (app.screen.query_one(f"#answer-{key}") for key in ("seed", "prompts"))
        prompts.text, seed.value = "a long\nprompt", "9"
        prompts.focus()
        await pilot.pause()
        for each, file in enumerate(files, 1):
            app.post_message(events.Paste(str(file)))
            await until(pilot, lambda each=each: seed.value == str(each))
        assert any("ctrl+z brings back yours" in n.message for n in app._notifications)
        await pilot.press("x")
        assert prompts.text == "x" + FACTS["prompt"]
        await pilot.press("ctrl+z")
        await until(pilot, lambda: prompts.text == FACTS["prompt"])
        await pilot.press("ctrl+z")
        await until(pilot, lambda: prompts.text == "a long\nprompt")
        assert (seed.value, app.screen.kind) == ("9", "prune")


async def test_another_programs_picture_fills_what_it_can_and_says_the_rest(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    info = PngInfo()
    info.add_text("parameters", A1111.replace("juggernautXL_v9", "[red]x[/red]"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.post_message(events.Paste(str(tmp_path / "a.png")))
        await until(pilot, lambda: app.screen.query_one("#answer-seed", Input).value == "123456")
        assert app.screen.query_one("#kind", Select).value == "generate"
        assert app.screen.query_one("#answer-model", Input).value == "demo"
        await until(pilot, lambda: bool(app._notifications))
        [note] = app._notifications
        assert "Left out: model [red]x[/red], size 832x1216, 1 LoRA" in note.message
        assert not note.markup


async def test_a_foreign_picture_and_plain_text_change_nothing_else(
    scene: tui_store.Scene, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.screen.query_one("#answer-prompts").focus()
        await pilot.pause()
        for text in (str(tmp_path / "a.png"), "a fox\na hen"):
            app.post_message(events.Paste(text))
        await until(pilot, lambda: [n for n in app._notifications if "does not tell" in n.message])
        area = app.screen.query_one("#answer-prompts", TextArea)
        await until(pilot, lambda: area.text, 10)
        assert area.text == "a fox\na hen"
        assert app.screen.query_one("#kind", Select).value == "prune"


async def test_a_variant_that_is_not_here_is_told(scene: tui_store.Scene, tmp_path: Path) -> None:
    file = painted(tmp_path / "x.png", variant="88@50")
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("n")
        app.post_message(events.Paste(str(file)))
        await until(pilot, lambda: [n for n in app._notifications if "88@50" in n.message])
        chosen = app.screen.query_one("#answer-variant", Select)
        assert chosen.value == "88@50", "it would be another job with the dense model"


async def test_a_picture_without_settings_says_so_on_its_own_screen(
    scene: tui_store.Scene,
) -> None:
    tui_store.compare_finished(scene, 1)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, GalleryScreen) and app.up_to_date)
        await pilot.press("enter", "e")
        line = app.screen.query_one("#path", Still)
        await until(pilot, lambda: "does not tell its settings" in line.text)
        assert isinstance(app.screen, PictureScreen)
