"""obstui snapshot: a picture without a terminal, and nothing changed by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from obstui.cli import main
from obstui.store import Store
from obstui.tui.snapshot import SCREENS
from tests.obstui import tui_store
from tests.obstui.cases import first_now


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tui_store.Scene]:
    """One evening for all pictures: none of them writes to it."""
    scene = tui_store.busy(tmp_path_factory.mktemp("home"))
    yield scene
    scene.close()


@pytest.fixture
def busy(scene: tui_store.Scene, monkeypatch: pytest.MonkeyPatch) -> tui_store.Scene:
    monkeypatch.setenv("OBSTUI_HOME", str(scene.paths.home))
    return scene


def obstui(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(str(end.value.code))


SHOWS = {
    "queue": "a fox in the snow",
    "gallery": "job:12 model:12@30",
    "sweeps": "PSNR (dB) against parameters",
    "models": "the bundled demo model",
    "workers": "silent for",
    "report": "Everything so far",
    "form": "a label of your own",
    "help": "Esc closes",
    "palette": "earch for commands",
    "job": "driver, spare",
    "settings": "As usual",
    "log": "following",
    "targets": "3,584",
    "layers": "33 layers",
    "picture": "Like it",
    "ab": "of pixels",
}
"""Words that are on this screen of the scene and on no other."""


def drawn(file: Path, *arguments: str) -> str:
    """The words in the picture that the command has written."""
    assert obstui("snapshot", *arguments, "--svg", file, "--size", "100x30") == 0
    text = file.read_text()
    ElementTree.fromstring(text)
    return text.replace("\xa0", " ").replace("&#160;", " ")


@pytest.mark.parametrize("screen", first_now(SCREENS))
def test_a_screen_is_drawn(busy: tui_store.Scene, tmp_path: Path, screen: str) -> None:
    before = {path: path.read_bytes() for path in busy.paths.home.rglob("*.json")}
    seen = drawn(tmp_path / "picture.svg", screen, "--theme", "light")
    assert [name for name, words in SHOWS.items() if words in seen] == [screen]
    assert {path: path.read_bytes() for path in busy.paths.home.rglob("*.json")} == before


@pytest.mark.parametrize(
    ("arguments", "shows"),
    [
        (("5",), "obs · 100 prompts"),
        (("job", "--job", "5"), "obs · 100 prompts"),
        (("settings", "--job", "7"), "a harbour at dawn"),
        (("log", "--job", "3"), "CUDA out of memory"),
        (("targets", "--job", "1"), "2,560"),
    ],
)
def test_of_the_job_that_is_named(
    busy: tui_store.Scene, tmp_path: Path, arguments: tuple[str, ...], shows: str
) -> None:
    assert shows in drawn(tmp_path / "picture.svg", *arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nowhere",), 3, "name one of queue"),
        (("99",), 3, "There is no job 99"),
        (("log", "--job", "99"), 3, "There is no job 99"),
        (("log", "--job", "8"), 3, "job 8 is without a log"),
        (("picture", "--job", "5"), 3, "job 5 is without pictures"),
        (("ab", "--job", "1"), 3, "job 1 is without a comparison's pictures"),
        (("layers", "--job", "5"), 3, "job 5 is without variants"),
        (("targets", "--job", "2"), 3, "job 2 is without targets"),
        (("5", "--job", "6"), 2, "leave --job out"),
        (("queue", "--job", "5"), 2, "leave --job out"),
        (("queue", "--size", "9x9"), 2, "no size such as 120x40"),
        (("queue", "--svg", "/nowhere/x.svg"), 2, "Cannot write"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    busy: tui_store.Scene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    file = () if "--svg" in arguments else ("--svg", tmp_path / "x.svg")
    assert obstui("snapshot", *arguments, *file) == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_picture_needs_no_network(busy: tui_store.Scene, tmp_path: Path) -> None:
    drawn(tmp_path / "picture.svg", "queue")
    picture = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "url(http" not in picture.replace('"', "").replace("'", "")
    assert "Fira Code', 'DejaVu Sans Mono'" in picture


def test_an_empty_store_has_nothing_of_a_job_to_draw(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OBSTUI_HOME", str(store.paths.home))
    for screen in (name for name, way in SCREENS.items() if way.needs):
        assert obstui("snapshot", screen, "--svg", tmp_path / "x.svg") == 3
        assert "Nothing to draw: there is no job with " in capsys.readouterr().err
    assert not (tmp_path / "x.svg").exists()
