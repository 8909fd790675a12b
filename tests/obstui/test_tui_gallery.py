"""The gallery and the comparison of two pictures, on real stores with real files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from obstui.config import Paths
from obstui.store import ImageFilter, ImageView, Reader
from obstui.tui import images
from obstui.tui.clipboard import FILE
from obstui.tui.images import Display
from obstui.tui.pairs import PairsReading, paired
from obstui.tui.screens.ab import ABScreen
from obstui.tui.screens.gallery import BadFilter, GalleryScreen, parse_filter
from obstui.tui.screens.job import JobScreen
from obstui.tui.screens.keys import key_lines
from obstui.tui.screens.picture import PictureScreen
from obstui.tui.snapshot import workers_done
from obstui.tui.widgets.full_picture import FullPicture
from obstui.tui.widgets.picture_grid import PictureGrid, plan
from obstui.tui.widgets.still import Still
from tests.obstui import tui_pictures, tui_store
from tests.obstui.tui_pilot import opened, until

FOX, OWL = "a fox in the snow", "an owl [bold]at night[/]"


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    """Job 1 pruned, job 2 compared 3 prompts by 4 models, jobs 3 and 4 painted the same 2 prompts
    with 3 seeds, dense and by a variant."""
    scene = tui_store.Scene(paths.home)
    prune = tui_store.prune_finished(scene)
    tui_store.compare_finished(scene, prune)
    tui_pictures.generated(scene, [FOX, OWL], range(3))
    tui_pictures.generated(scene, [FOX, OWL], range(3), variant="1@30", shift=0.4)
    yield scene
    scene.close()


def shown(app: object, selector: str) -> str:
    return app.screen.query_one(selector, Still).text  # type: ignore[attr-defined]


def drawn(app: object) -> str:
    grid = app.screen.query_one(PictureGrid)  # type: ignore[attr-defined]
    return "\n".join(grid.render_line(y).text for y in range(grid.size.height))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ImageFilter()),
        ("  Fox  snow ", ImageFilter(words=("Fox", "snow"))),
        ("job:12 seed:3 model:12@30 fox", ImageFilter(("fox",), 12, "12@30", 3)),
        ("job: model:", ImageFilter()),
        ("ratio 16:9", ImageFilter(words=("ratio", "16:9"))),
    ],
)
def test_what_a_filter_says(text: str, wanted: ImageFilter) -> None:
    assert parse_filter(text) == wanted


@pytest.mark.parametrize("text", ["job:x", "seed:-1", "job:99999999999999999999", "seed:²"])
def test_a_filter_that_means_nothing(text: str) -> None:
    with pytest.raises(BadFilter, match="wants a number"):
        parse_filter(text)


@pytest.mark.parametrize(
    ("size", "columns", "rows"),
    [((78, 18), 4, 2), ((158, 43), 7, 4), ((58, 14), 4, 2), ((3, 1), 1, 1)],
)
def test_the_grid_fills_its_place(size: tuple[int, int], columns: int, rows: int) -> None:
    made = plan(*size)
    assert (made.columns, made.rows) == (columns, rows)
    assert made.rows * made.height <= max(2, size[1])
    assert made.columns * made.width <= size[0]


async def test_the_newest_pictures_come_first_and_keys_choose_among_them(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, GalleryScreen))
        await until(pilot, lambda: "▀" in drawn(app))
        assert shown(app, "#count") == "1 of 24"
        assert shown(app, "#prompt") == FOX
        assert shown(app, "#picture-facts").startswith("job 4  demo, 1@30  seed 0")
        await pilot.press("right", "l", "j")
        assert shown(app, "#count") == "7 of 24"
        assert shown(app, "#picture-facts").startswith("job 3  demo, dense  seed 0")
        await pilot.press("G")
        assert shown(app, "#count") == "24 of 24"
        await pilot.press("pageup", "home", "left")
        assert shown(app, "#count") == "1 of 24"


async def test_markup_in_prompts_is_text(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await pilot.press("right", "right", "right")
        assert shown(app, "#prompt") == OWL


async def test_a_filter_narrows_as_it_is_typed_and_escape_forgets_it(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count") == "1 of 24")
        await pilot.press("slash", *"owl seed:2")
        await until(pilot, lambda: shown(app, "#count") == "1 of 2")
        await pilot.press("enter", "right")
        assert shown(app, "#count") == "2 of 2"
        await pilot.press("slash", *" job:q")
        await until(pilot, lambda: "wants a number" in shown(app, "#count"))
        await pilot.press("escape", "escape")
        await until(pilot, lambda: shown(app, "#count").endswith("of 24"))
        app.screen.query_one("#filter", Input).value = "nowhere"
        await until(pilot, lambda: shown(app, "#nothing") == "No picture passes the filter.")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: not isinstance(app.screen, GalleryScreen))


async def test_only_what_is_seen_is_read(
    scene: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = images.render

    def render(wanted: images.Wanted) -> object:
        read.append(wanted.path)
        return real(wanted)

    monkeypatch.setattr(images, "render", render)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: drawn(app).count("▀") > 500)
        await workers_done(app)
        seen = [p.thumbnail for p in app.screen.query_one(PictureGrid).pictures[:8]]
        assert sorted(read) == sorted(seen)


async def test_the_chosen_picture_stays_when_new_ones_come(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count") == "1 of 24")
        await pilot.press("right")
        tui_pictures.generated(scene, ["new"], range(2))
        await until(pilot, lambda: shown(app, "#count") == "4 of 26")
        assert shown(app, "#picture-facts").startswith("job 4  demo, 1@30  seed 1")


async def test_the_gallery_is_found_as_it_was_left(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count") == "1 of 24")
        await pilot.press("slash", *"owl", "enter")
        await until(pilot, lambda: shown(app, "#count") == "1 of 6")
        await pilot.press("right", "right")
        left = shown(app, "#count"), shown(app, "#picture-facts")
        await pilot.press("1", "2")  # there and back
        await until(pilot, lambda: (shown(app, "#count"), shown(app, "#picture-facts")) == left)
    async with opened(scene.paths) as (app, pilot):  # and the next day
        await until(pilot, lambda: isinstance(app.screen, GalleryScreen))
        await until(pilot, lambda: (shown(app, "#count"), shown(app, "#picture-facts")) == left)
        await pilot.press("escape", "escape")
        await until(pilot, lambda: not isinstance(app.screen, GalleryScreen))
        assert app.remembered.get("place", "") == "queue"


async def test_more_are_read_when_the_end_is_near(
    scene: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obstui.tui.screens.gallery.PAGE", 10)
    monkeypatch.setattr("obstui.tui.screens.gallery._NEAR_END", 2)
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count") == "1 of 10+")
        screen = app.screen
        assert isinstance(screen, GalleryScreen)
        app.screen.query_one(PictureGrid).choose(9)
        for _ in range(3):  # steps that come before the answer
            screen._show_facts()
        assert screen._limit == 20
        app.screen.query_one(PictureGrid).choose(0)
        await until(pilot, lambda: shown(app, "#count") == "1 of 20+")
        await pilot.press("G")
        await until(pilot, lambda: shown(app, "#count") == "20 of 24")


async def test_a_full_picture_tells_how_it_was_made_and_what_it_costs(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await pilot.press("right", "enter")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        await until(pilot, lambda: "Sampler: Euler" in shown(app, "#made"))
        assert "Negative prompt: blurry, text" in shown(app, "#made")
        await until(pilot, lambda: "half-blocks, " in shown(app, "#path"))
        assert "KiB" in shown(app, "#path")
        await pilot.press("right")
        await until(pilot, lambda: "seed 2" in shown(app, "#caption"))
        await pilot.press("y")
        assert app.clipboard.endswith("0000-seed2.png")
        await until(pilot, lambda: shown(app, "#path").startswith("The path copied"))
        assert (scene.paths.home / FILE).read_text() == app.clipboard
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, ABScreen))
        await until(pilot, lambda: "seed 2" in shown(app, "#ab-caption"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, GalleryScreen))
        assert shown(app, "#count") == "3 of 24"


async def test_from_a_full_picture_every_place_is_one_key_away(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        for key, place in (("2", "gallery"), ("4", "models")):
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, PictureScreen))
            listed = {name for line in key_lines(app.screen) for name in line.keys}
            assert {*"123456"} <= listed
            assert "/" not in listed
            await pilot.press(key)
            await until(pilot, lambda place=place: getattr(app.screen, "place", "") == place)
            await until(pilot, lambda: app.up_to_date)


async def test_without_pixels_wanted_pictures_are_off(scene: tui_store.Scene) -> None:
    async with opened(scene.paths, pictures=Display(modes=("off", "half", "ascii"))) as (
        app,
        pilot,
    ):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await workers_done(app)
        assert "▀" not in drawn(app)
        await pilot.press("i")
        await until(pilot, lambda: "▀" in drawn(app))


async def test_the_pictures_job_is_opened(scene: tui_store.Scene) -> None:
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and app.screen.job_id == 4)


# -- A/B -------------------------------------------------------------------------------------


async def test_a_variant_is_flipped_against_the_dense_picture_of_another_job(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths, size=(100, 30)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await pilot.press("right", "c")
        await until(pilot, lambda: isinstance(app.screen, ABScreen))
        await until(pilot, lambda: "2 of 6  seed 1" in shown(app, "#ab-caption"))
        picture = app.screen.query_one(FullPicture)
        assert "A dense" in shown(app, "#ab-models")
        assert "▸B 1@30" in shown(app, "#ab-models")
        await until(pilot, lambda: "PSNR" in shown(app, "#ab-facts"))
        variant = picture.path
        await pilot.press("space")
        assert "▸A dense" in shown(app, "#ab-models")
        dense = picture.path
        assert Path(dense).name == Path(variant).name
        assert dense != variant
        await pilot.press("d")
        await until(pilot, lambda: "heat" in shown(app, "#ab-facts"))
        assert picture._against == variant
        await pilot.press("down")
        await until(pilot, lambda: "3 of 6  seed 2" in shown(app, "#ab-caption"))
        await pilot.press("s")
        assert app.screen.has_class("-side")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, GalleryScreen))


@pytest.mark.parametrize("width", [60, 80, 160])
async def test_side_by_side_no_measure_is_cut(scene: tui_store.Scene, width: int) -> None:
    async with opened(scene.paths, size=(width, 24)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await pilot.press("slash", *"job:2 square", "enter")
        await until(pilot, lambda: shown(app, "#count") == "1 of 4")
        await pilot.press("c", "s")
        await until(pilot, lambda: "PSNR" in shown(app, "#ab-line"))
        await pilot.pause()
        rows = [strip.text for strip in app.screen._compositor.render_strips(app.size)]
        screen = "\n".join(rows[3:])  # below the prompt
        assert "…" not in screen
        assert "s side" in screen
        assert "d difference" in screen
        assert "mean 5.3 of 255" in screen
        if width >= 80:
            assert re.search("time +~?−", screen)
        else:
            assert "all pictures" not in screen


async def test_a_comparison_steps_through_its_models_with_their_measures(
    scene: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obstui.tui.pairs.unsure", lambda result, key: {"1@10", "1@30"})
    async with opened(scene.paths, size=(100, 30)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await pilot.press("slash", *"job:2 square", "enter")
        await until(pilot, lambda: shown(app, "#count") == "1 of 4")
        await pilot.press("c")
        await until(pilot, lambda: "all pictures" in shown(app, "#ab-facts"))
        assert "▸B 1@10" in shown(app, "#ab-models"), "a dense picture is shown against a variant"
        assert "2 of 3" in shown(app, "#ab-caption")
        assert "29.2 dB" in shown(app, "#ab-facts")
        assert shown(app, "#ab-facts").count("SSIM") == 2, "of this pair, and of all"
        await pilot.press("right")
        await until(pilot, lambda: "25.2 dB" in shown(app, "#ab-facts"))
        assert "▸B 1@30" in shown(app, "#ab-models")
        await pilot.press("a")
        assert "▸A 1@10" in shown(app, "#ab-models")
        _, _, against = shown(app, "#ab-facts").partition("against dense")
        assert [line.split(maxsplit=1) for line in against.strip().splitlines()[:7]] == [
            ["PSNR", "29.2 → 25.2 dB"],
            ["SSIM", "0.960 → 0.900"],
            ["latents", "1.0e-02 → 9.0e-02"],
            ["attributes", "94 → 86 %"],
            ["parameters", "−5.5 % → −16.5 %"],
            ["time", "~−5 % → ~−15 %"],
            ["~", "within noise"],
        ]
        facts = app.screen.query_one("#ab-facts", Still)
        assert max(map(len, facts.text.splitlines())) <= facts.content_size.width


async def test_a_job_opens_the_marked_picture_against_the_dense_one(
    scene: tui_store.Scene,
) -> None:
    async with opened(scene.paths, watch=2, size=(120, 40)) as (app, pilot):
        await pilot.press("enter")
        await until(pilot, lambda: "1 of 3" in shown(app, "#job-caption"))
        await pilot.press("down", "right", "right", "b")
        await until(pilot, lambda: isinstance(app.screen, ABScreen))
        await until(pilot, lambda: "2 of 3" in shown(app, "#ab-caption"))
        assert "▸B 1@30" in shown(app, "#ab-models")


def test_pictures_of_one_prompt_and_seed_stand_in_one_row() -> None:
    def image(job: int, model: str, seed: int) -> ImageView:
        return ImageView(job, "demo", model, "p", seed, f"/{job}/{model}/{seed}", "")

    made = paired([image(5, "1@30", 0), image(5, "1@30", 1), image(3, "dense", 1),
                   image(2, "dense", 1)], {})  # fmt: skip
    assert made.models == ("dense", "1@30")
    assert [row.seed for row in made.rows] == [0, 1]
    assert made.rows[0].paths == {"1@30": "/5/1@30/0"}
    assert made.rows[1].paths == {"1@30": "/5/1@30/1", "dense": "/3/dense/1"}


def test_pairs_follow_a_live_job_and_are_not_read_anew_for_nothing(scene: tui_store.Scene) -> None:
    job = scene.queue("generate", prompts=["a boat"])
    claim = scene.start()
    reading = PairsReading(job.id, "demo")

    def paint(seed: int) -> None:
        image = {"path": f"/tmp/{seed}.png", "model": "dense", "prompt": "a boat", "seed": seed}
        scene.store.append(claim, [("image_saved", image)])

    with Reader.open(scene.paths) as reader:
        paint(0)
        first = reading(reader)
        assert [row.seed for row in first.rows] == [0]
        scene.store.progress(claim, {"phase": "generate", "done": 1, "total": 2})
        assert reading(reader) is first
        paint(1)
        assert [row.seed for row in reading(reader).rows] == [0, 1]
        images = [{"path": f"/tmp/{seed}.png", "model": "dense", "prompt": "a boat", "seed": seed}
                  for seed in range(3)]  # fmt: skip
        scene.finish(claim, "succeeded", result={"images": images})
        assert [row.seed for row in reading(reader).rows] == [0, 1, 2]


async def test_the_picture_made_most_alike_is_taken_and_what_differs_is_said(
    paths: Paths,
) -> None:
    scene = tui_store.Scene(paths.home)
    prune = tui_store.prune_finished(scene)
    generated = tui_pictures.generated
    alike = generated(scene, ["a fox"], range(1), steps=20)
    generated(scene, ["a fox"], range(1), steps=12, negative="text")
    generated(scene, ["a fox"], range(1), steps=20, size=128)
    own = generated(scene, ["a fox"], range(1), steps=20, size=64, variant=f"{prune}@30")
    other = generated(scene, ["a fox"], range(1), steps=50, size=64, scheduler="unipc",
                      variant=f"{prune}@10")  # fmt: skip
    scene.close()
    with Reader.open(paths) as reader:
        found = PairsReading(own, "demo")(reader)
        assert found.models == ("dense", f"{prune}@30", f"{prune}@10")
        [row] = found.rows
        [dense] = reader.images(ImageFilter(job=alike), limit=9)
        assert row.paths["dense"] == dense.path, "alike; the size that was left open may be"
        assert row.unlike("dense", f"{prune}@30") == {}
        assert set(row.unlike("dense", f"{prune}@10")) == {"steps", "scheduler"}
        far = PairsReading(other, "demo")(reader).rows[0]
        assert far.made["dense"].steps == 20, "one difference fewer than the other"
    async with opened(paths, size=(120, 40)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count") == "1 of 5")
        await pilot.press("c")
        await until(pilot, lambda: "steps      20 | 50" in shown(app, "#ab-facts"))
        assert "scheduler  own | unipc" in shown(app, "#ab-facts")
        await pilot.press("right")
        await until(pilot, lambda: "made unlike" not in shown(app, "#ab-facts"))


async def test_a_comparison_tells_what_another_seed_does(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    prune = tui_store.prune_finished(scene)
    tui_store.compare_finished(scene, prune, reseed={
        "pictures": 2, "psnr": 11.3, "ssim": 0.31, "latent_distance": 1.4})  # fmt: skip
    scene.close()
    async with opened(paths, size=(120, 40)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await pilot.press("c")
        await until(pilot, lambda: "all pictures" in shown(app, "#ab-facts"))
        _, _, after = shown(app, "#ab-facts").partition("all pictures")
        measures = [line.split() for line in after.splitlines()[:4]]
        assert measures == [
            ["reseed"],
            ["PSNR", "29.2", "dB", "11.3", "dB"],
            ["SSIM", "0.960", "0.310"],
            ["latents", "1.0e-02", "1.4e+00"],
        ]


async def test_without_a_partner_the_other_model_that_painted_it_is_chosen(
    scene: tui_store.Scene,
) -> None:
    tui_pictures.generated(scene, ["a boat"], range(1), variant="1@10")
    tui_pictures.generated(scene, ["a boat"], range(1), variant="1@30")
    async with opened(scene.paths) as (app, pilot):
        await pilot.press("2", "slash", *"boat", "enter", "c")
        await until(pilot, lambda: isinstance(app.screen, ABScreen))
        await until(pilot, lambda: "boat" in shown(app, "#ab-caption"))
        assert "no picture" not in shown(app, "#ab-models")


@pytest.mark.parametrize("mode", ["half", "ascii"])
async def test_pictures_without_colours(
    scene: tui_store.Scene, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    display = Display(modes=(mode, "off"))
    async with opened(scene.paths, pictures=display) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: shown(app, "#count"))
        await until(pilot, lambda: any(c in drawn(app) for c in ("▀", "#", "@", "*")))
        app.export_screenshot()
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PictureScreen))
        app.export_screenshot()
