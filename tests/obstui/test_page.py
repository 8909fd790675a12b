"""The page that shares a sweep: whole, safe to open, and right in a real browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from obstui import charts, page
from obstui.charts import Dot, Level, axis, scatter
from obstui.conditions import conditions
from obstui.config import Paths
from obstui.store import Reader
from tests.obstui import tui_models, tui_store
from tests.obstui.test_cli import Run, obstui

__all__ = ["obstui"]

EXAMPLE = Path(__file__).parents[2] / "jobs.db.example"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def scene(tmp_path: Path) -> tui_store.Scene:
    scene = tui_store.Scene(tmp_path / "home")
    prune = tui_store.prune_finished(scene)
    tui_store.compare_finished(scene, prune, reseed={
        "pictures": 4, "psnr": 11.3, "ssim": 0.31, "latent_distance": 1.4})  # fmt: skip
    tui_models.timed(scene, prune)
    scene.close()
    return scene


def rendered(scene: tui_store.Scene) -> str:
    with Reader.open(scene.paths) as reader:
        jobs = page.jobs_of(reader, sweep=None, ids=())
        return page.render(reader, jobs, title="A <b>night</b>", now=tui_store.NOW)


def test_the_page_holds_tables_charts_and_pictures(scene: tui_store.Scene) -> None:
    tags = Tags(rendered(scene))
    words = " ".join(tags.words)
    for expected in ("dense", "1@10", "1@30", "1@50", "PSNR (dB)", "Layers", "A <b>night</b>"):
        assert expected in words
    kinds = [tag for tag, _ in tags.found]
    assert kinds.count("svg") >= 2
    pictures = [attrs["src"] or "" for tag, attrs in tags.found if tag == "img"]
    with Reader.open(scene.paths) as reader:
        [compare] = [job for job in reader.jobs() if job.kind == "compare"]
    assert len(pictures) == len((compare.result or {})["images"])
    for source in pictures:
        octets = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(octets)) as picture:
            assert max(picture.size) <= page.PICTURE_SIDE


def test_another_seed_is_the_scale(scene: tui_store.Scene) -> None:
    tags = Tags(rendered(scene))
    assert len(levels(tags)) == 4, "latent distance, PSNR, SSIM, and one by time"
    words = " ".join(" ".join(tags.words).split())
    assert "PSNR (dB) 11.3 , SSIM 0.310 , latent distance 1.4e+00 (mean of 4 pairs)" in words


def levels(tags: Tags, *, upright: bool = False) -> list[dict[str, str | None]]:
    """The lines that dots are compared with: from side to side, or from top to bottom."""
    lines = [attrs for tag, attrs in tags.found if tag == "line" and attrs["class"] == "level"]
    return [line for line in lines if (line["x1"] == line["x2"]) == upright]


def test_what_the_dense_model_costs_is_in_every_chart(scene: tui_store.Scene) -> None:
    tags = Tags(rendered(scene))
    assert len(levels(tags, upright=True)) == [tag for tag, _ in tags.found].count("svg")
    chart = str(scatter([Dot(1, 1, "a", 0, True), Dot(2, 3, "b", 1, False)], "x", "y",
                        limit=Level(4, "dense")))  # fmt: skip
    [line] = levels(Tags(chart), upright=True)
    assert ">dense</text>" in chart
    places = re.findall(r'cx="([\d.]*)"', chart)
    assert float(places[0]) < float(line["x1"] or 0) <= charts.WIDTH, "the axis reaches it"


def test_figures_come_with_their_conditions(scene: tui_store.Scene) -> None:
    with Reader.open(scene.paths) as reader:
        [compare] = [job for job in reader.jobs() if job.kind == "compare"]
    day = time.strftime("%d %B %Y", time.localtime(compare.finished_at))
    words = " ".join(" ".join(Tags(rendered(scene)).words).split())
    told = (
        "3 prompts with 1 seed each, 30 steps, guidance 2, the model's own scheduler, "
        f"64 x 64, on cpu, {day}."
    )
    assert words.count(told) == 2, "below the table, and where the pictures are"
    assert "Job 1 (prune): calibrated on 48 prompts, noise error on 8 others, on" in words


def test_a_bench_tells_its_device_and_precision(scene: tui_store.Scene) -> None:
    found = {"device": "NVIDIA H100, \x1b[31m", "dtype": "float16", "size": 512, "steps": 20,
             "guidance": 5.0}  # fmt: skip
    with Reader.open(scene.paths) as reader:
        [job] = [job for job in reader.jobs() if job.kind == "compare"]
    spec = {"kind": "bench", "model": "demo", "repeats": 5, "warm_up": 1}
    bench = replace(job, kind="bench", result={"latency": [found]}, finished_at=None, spec=spec)
    assert conditions(bench, {}) == (
        "median of 5 pictures after 1 to warm up, 20 steps, guidance 5, the model's own "
        "scheduler, 512 x 512, float16, on NVIDIA H100,"
    )
    gone = replace(job, result={"images": [{"path": "/no/such.png", "prompt": "a", "seed": 1}]})
    assert conditions(gone, {str(job.device): "a card"}).startswith(
        "1 prompt with 1 seed, 30 steps"
    )
    assert f"{job.device} (a card)" in conditions(gone, {str(job.device): "a card"})


def test_what_is_not_usual_is_told(scene: tui_store.Scene) -> None:
    with Reader.open(scene.paths) as reader:
        prune, compare = (
            next(job for job in reader.jobs() if job.kind == kind) for kind in ("prune", "compare")
        )
    own = {**prune.spec, "steps": 10, "damping": 0.05, "prompts": ["a", "b"], "seed": 3}
    assert conditions(replace(prune, spec=own, finished_at=None, device=None), {}) == (
        "calibrated on 2 own prompts, noise error on 8 others, damping 0.05, steps 10, seed 3"
    )
    own = {**compare.spec, "negative": "blurry, <b>\x1b[0m", "seed": 7}
    told = conditions(replace(compare, spec=own), {})
    assert "negative prompt “blurry, <b>”, seeds from 7, on" in told


def test_the_mark_goes_by_what_the_dashboard_shows_first(tmp_path: Path) -> None:
    """Not by the noise error of the prune's own check, where comparisons have more to say."""
    scene = tui_store.Scene(tmp_path / "home")
    made = [{"id": f"1@{level}", "sparsity": level / 100, "path": "/x", "method": "obs",
             "params": 100 - level, "noise_error": noise}
            for level, noise in ((20, 0.1), (25, 0.2))]  # fmt: skip
    tui_models.measured(scene, "prune", {"variants": made})
    models = [{"model": f"1@{level}", "sparsity": level / 100, "params": 100 - level, "psnr": psnr}
              for level, psnr in ((20, 41.0), (25, 42.0))]  # fmt: skip
    tui_models.measured(scene, "compare", {"models": models}, variants=["1@20", "1@25"])
    scene.close()
    tags = Tags(rendered(scene))
    words = " ".join(" ".join(tags.words).split())
    assert "1@25 ■" in words
    assert "1@20 ■" not in words
    assert "as few parameters and as good a figure for PSNR (dB)" in words


def test_the_page_loads_nothing_and_runs_nothing(scene: tui_store.Scene) -> None:
    text = rendered(scene)
    tags = Tags(text)
    assert not {"script", "link", "iframe", "b"} & {tag for tag, _ in tags.found}
    sources = [v for _, attrs in tags.found for k, v in attrs.items() if k in ("src", "href")]
    assert all((source or "").startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import|https?://", text)


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    scene = tui_store.Scene(tmp_path / "home")
    scene.queue("prune", name="<script>alert(1)</script>\x1b[31m")
    scene.finish(scene.start(), "succeeded", result={"variants": []})
    scene.close()
    text = rendered(scene)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text


def test_a_shared_page_does_not_tell_where_a_model_lies(tmp_path: Path) -> None:
    scene = tui_store.Scene(tmp_path / "home")
    scene.queue("prune", model="/home/somebody/models/my-sdxl", sparsity=(0.3,))
    made = {"id": "1@30", "sparsity": 0.3, "path": "/x", "params": 4, "dense_params": 5}
    scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    scene.close()
    assert "<h2>my-sdxl</h2>" in rendered(scene)
    assert "/home/somebody" not in rendered(scene)


def test_deleted_pictures_are_said_to_be_gone(scene: tui_store.Scene) -> None:
    for picture in scene.paths.home.rglob("*.png"):
        picture.unlink()
    words = " ".join(Tags(rendered(scene)).words)
    assert "deleted" in words


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_shows_it(scene: tui_store.Scene, tmp_path: Path) -> None:
    file, shot = tmp_path / "page.html", tmp_path / "page.png"
    page.write(file, rendered(scene))
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/c",
         f"--screenshot={shot}", "--window-size=1200,1600", file.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert shot.exists(), done.stderr
    with Image.open(shot) as picture:
        colours = picture.convert("RGB").getcolors(1 << 24) or []
    assert len(colours) > 200  # an empty or unstyled page has a handful
    assert "Refused to" not in done.stderr


MEASURE = """<script>
const wide = [...document.querySelectorAll("body > .wide")].filter(
  e => e.scrollWidth > e.clientWidth);
const out = [...document.querySelectorAll("img")].filter(
  e => e.getBoundingClientRect().right > innerWidth);
const small = [...document.querySelectorAll("svg text")].filter(
  e => e.getBoundingClientRect().height < 11 && !e.closest("tspan") && e.textContent.length > 2);
const meets = (a, b) =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const hidden = [...document.querySelectorAll("svg .tick")].filter(
  e => [...e.closest("svg").querySelectorAll(".axis")].some(
    title => meets(e.getBoundingClientRect(), title.getBoundingClientRect())));
document.title = [wide.length, out.length, small.length, hidden.length].join(" ");
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "cut"), [(1200, 0), (400, 1)])
def test_everything_is_seen_on_wide_and_narrow_screens(
    tmp_path: Path, width: int, cut: int
) -> None:
    """Of the example, with a table of 13 columns and rows of seven pictures: on a phone the table
    can be pushed, and that is all that is not on the screen."""
    with Reader.open(Paths(EXAMPLE.parent, EXAMPLE)) as reader:
        rendered = page.render(reader, page.jobs_of(reader, sweep=None, ids=()), title="", now=0.0)
    text = re.sub(r"<meta http-equiv=[^>]*>", "", rendered) + MEASURE
    dots = [Dot(x, 2e-5 * x, f"1@{x}", 0, True) for x in (1, 2, 3)]  # the marks with most digits
    charts = '<div class="charts">'
    text = text.replace(charts, f"{charts}{scatter(dots, 'parameters (M)', 'noise error')}", 1)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/c",
         f"--window-size={width},1600", "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r"<title>(\d+) (\d+) (\d+) (\d+)</title>", done.stdout)
    assert found, done.stderr
    tables, pictures, letters, marks = map(int, found.groups())
    assert (tables, pictures, letters, marks) == (cut, 0, 0, 0)


def test_the_command(obstui: Run, tmp_path: Path) -> None:
    scene = tui_store.Scene(tmp_path / "home")
    prune = tui_store.prune_finished(scene)
    scene.close()
    target = tmp_path / "a b.html"
    done = obstui("report", "--html", str(target), "--job", str(prune))
    assert done.code == 0, done.err
    assert "1@30" in target.read_text(encoding="utf-8")
    assert "Wrote" in done.err
    assert not done.out
    assert obstui("report", "--html", str(target), "--job", "99").code == 3
    assert obstui("report", "--html", str(target), "--sweep", "9").code == 3
    assert obstui("report", "--sweep", "9").code == 2
    lost = obstui("report", "--html", str(tmp_path / "no" / "x.html"))
    assert lost.code == 2
    assert "Traceback" not in lost.err


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
@example([5e-324])
@example([5e-324, 1.0])
def test_an_axis_holds_its_values(values: list[float]) -> None:
    found = axis(values)
    assert found.marks[0] == found.low
    assert all(-1e-9 <= found.place(value) <= 1 + 1e-9 for value in values)
    assert 2 <= len(found.marks) <= 14


def test_an_axis_over_decades_is_logarithmic() -> None:
    found = axis([1.1e-5, 3e-2])
    assert found.log
    assert found.place(1e-3) == pytest.approx((-3 + 5) / 4)


def test_no_axis_runs_past_what_can_be() -> None:
    assert axis([97.2, 100.0], most=100.0).high == 100.0
    assert axis([97.2, 100.0], most=100.0).marks[-1] == 100.0
    assert axis([97.2, 100.0]).high > 100.0
    dots = [Dot(1, 97.2, "a", 0, True), Dot(2, 100, "b", 0, False)]
    assert ">100<" in str(scatter(dots, "x", "y", most=100.0))
    assert ">101<" not in str(scatter(dots, "x", "y", most=100.0))


def test_no_axis_begins_below_zero_where_no_value_is() -> None:
    assert axis([1e-4, 1.9e-3]).low == 0.0
    assert axis([0.0]).low == 0.0
    assert axis([-1.0, 2.0]).low < -1.0


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=9))
def test_every_dot_has_its_name(places: list[tuple[int, int]]) -> None:
    dots = [Dot(x, y, f"{n}@30", 0, False) for n, (x, y) in enumerate(places)]
    chart = str(scatter(dots, "x", "y"))
    named = re.findall(r'class="name" x="[^"]*" y="[^"]*" text-anchor="\w+">([^<]*)<', chart)
    assert sorted(named) == sorted(dot.name for dot in dots)


def test_names_avoid_each_other_while_there_is_room() -> None:
    taken: list[charts.Box] = []
    for n in range(6):
        assert charts._name(Dot(0, 0, f"{n}@30", 0, False), 200, 150, taken)
    assert not any(charts._meet(one, other) for n, one in enumerate(taken) for other in taken[:n])


def test_a_name_does_not_lie_on_a_level() -> None:
    dots = [Dot(1, 5, "a", 0, True), Dot(2, 9, "b", 0, False)]
    chart = str(scatter(dots, "x", "y", level=Level(5, "dense")))
    [line] = levels(Tags(chart))
    [(y, _)] = re.findall(r'class="name" x="[^"]*" y="([^"]*)" text-anchor="\w+">(a)<', chart)
    assert abs(float(y) - 3.5 - float(line["y1"] or 0)) > 6


def test_a_table_that_goes_on_shows_it(scene: tui_store.Scene) -> None:
    [rule] = re.findall(r"\.wide \{[^}]*\}", rendered(scene))
    assert "local" in rule
    assert "scroll" in rule


def test_a_chart_joins_the_best_only() -> None:
    dots = [Dot(1, 1, "a", 0, True), Dot(2, 3, "b", 1, False), Dot(3, 2, "<c>", 0, True)]
    chart = str(scatter(dots, "x", "y"))
    [line] = re.findall(r'class="front" points="([^"]*)"', chart)
    assert len(line.split()) == 2
    assert "&lt;c&gt;" in chart
    assert "<c>" not in chart
