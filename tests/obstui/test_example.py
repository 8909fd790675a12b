"""The example store: whole, of the newest schema, with no other file, and nobody's paths in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from obstui import page, picture_files
from obstui.config import Paths
from obstui.measured import measured
from obstui.store import Reader
from obstui.store.connection import SCHEMA_VERSION, check
from obstui.tui import images
from obstui.tui.places import PLACES
from obstui.tui.snapshot import workers_done
from obstui.tui.widgets.still import Still
from tests.obstui.test_cli import Run, obstui
from tests.obstui.tui_pilot import opened, until

__all__ = ["obstui"]

EXAMPLE = Path(__file__).parents[2] / "jobs.db.example"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """The example alone: none of the files that its jobs wrote."""
    shutil.copy(EXAMPLE, tmp_path / "jobs.db.example")
    return Paths(tmp_path / "home", tmp_path / "jobs.db.example")


def test_it_needs_no_migration() -> None:
    assert check(EXAMPLE) == SCHEMA_VERSION, "make example makes it anew"


def test_it_holds_a_night(paths: Paths) -> None:
    with Reader.open(paths) as reader:
        jobs = reader.jobs()
        states = {job.state for job in jobs}
        kinds = {job.kind for job in jobs if job.state == "succeeded"}
        rows = measured(jobs)
        layers = reader.events(1, kinds=["target_solved"])
        shown = [image for job in jobs for image in (job.result or {}).get("images", ())]
    assert {"succeeded", "failed", "cancelled", "skipped", "held"} <= states
    assert {"prune", "compare", "generate", "bench"} <= kinds
    assert [round(row.sparsity, 2) for row in rows if row.method == "obs"] == [
        0.1, 0.15, 0.2, 0.25, 0.3,
    ]  # fmt: skip
    assert all(row.psnr is not None for row in rows if not row.dense)
    assert len(layers) == 51
    assert len(shown) > 40
    for image in shown:
        assert images.read(image["path"]).size == (64, 64)
        assert "seed" in picture_files.name_of(image["path"])
        assert "base64" not in picture_files.name_of(image["path"])


def test_its_page_shows_the_pictures() -> None:
    with Reader.open(Paths(EXAMPLE.parent, EXAMPLE)) as reader:
        text = page.render(reader, page.jobs_of(reader, sweep=None, ids=()), title="", now=0.0)
    assert text.count('<img src="data:image/jpeg') == 6 * 7
    assert "deleted" not in text


def test_it_tells_nothing_of_the_machine_it_was_made_on() -> None:
    octets = EXAMPLE.read_bytes()
    for word in (b"/tmp/", b"/work/", b"/root/", str(Path.home()).encode(), b"obstui-example"):
        assert word not in octets
    assert len(octets) < 2 << 20


async def test_every_place_is_full_without_another_file(paths: Paths) -> None:
    async with opened(paths, size=(120, 40), readonly=True) as (app, pilot):
        for place in PLACES:
            await pilot.press(place.key)
            await until(pilot, lambda: app.up_to_date)
            assert getattr(app.screen, "place", None) == place.name
        assert "1 failed" in str(app.screen.query_one("#heading", Still).content)
        await pilot.press("2")
        await until(pilot, lambda: app.up_to_date)
        await workers_done(app)
        drawn = [str(strip.text) for strip in app.screen._compositor.render_strips()]
        assert sum("▀" in line for line in drawn) > 10
        assert not any("no picture" in line for line in drawn)
        app.open_job(1)
        await until(pilot, lambda: app.up_to_date)
    assert not (paths.home / "locks").exists()


def test_show_says_where_its_pictures_are(obstui: Run, paths: Paths) -> None:
    told = obstui("--db", str(paths.db), "show", "3").out
    assert "42 pictures inside the store" in told
    assert "files" not in told
