"""The page that shares a sweep: whole, safe to open, and right in a real browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from obstui import page
from obstui.charts import Dot, axis, scatter
from obstui.store import Reader
from tests.obstui import tui_store
from tests.obstui.test_cli import Run, obstui

__all__ = ["obstui"]

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
    tui_store.compare_finished(scene, tui_store.prune_finished(scene), reseed={
        "pictures": 4, "psnr": 11.3, "ssim": 0.31, "latent_distance": 1.4})  # fmt: skip
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
    classes = [attrs.get("class") for tag, attrs in tags.found if tag == "line"]
    assert classes.count("level") == 4, "latent distance, PSNR, SSIM, and one by time"
    words = " ".join(" ".join(tags.words).split())
    assert "latent distance 1.4e+00 , PSNR (dB) 11.3 , SSIM 0.310 (mean of 4 pairs)" in words


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
def test_an_axis_holds_its_values(values: list[float]) -> None:
    found = axis(values)
    assert found.marks[0] == found.low
    assert all(-1e-9 <= found.place(value) <= 1 + 1e-9 for value in values)
    assert 2 <= len(found.marks) <= 14


def test_an_axis_over_decades_is_logarithmic() -> None:
    found = axis([1.1e-5, 3e-2])
    assert found.log
    assert found.place(1e-3) == pytest.approx((-3 + 5) / 4)


def test_a_chart_joins_the_best_only() -> None:
    dots = [Dot(1, 1, "a", 0, True), Dot(2, 3, "b", 1, False), Dot(3, 2, "<c>", 0, True)]
    chart = str(scatter(dots, "x", "y"))
    [line] = re.findall(r'class="front" points="([^"]*)"', chart)
    assert len(line.split()) == 2
    assert "&lt;c&gt;" in chart
    assert "<c>" not in chart
