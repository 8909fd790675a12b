"""obstui snapshot: a picture without a terminal, and nothing changed by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from obstui.cli import main
from obstui.config import Paths
from tests.obstui import tui_store


@pytest.fixture
def busy(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[tui_store.Scene]:
    monkeypatch.setenv("OBSTUI_HOME", str(paths.home))
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


def obstui(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(str(end.value.code))


@pytest.mark.parametrize(
    ("screen", "shows"), [("queue", "Pause/resume"), ("workers", "silent for"), ("5", "Overview")]
)
def test_a_screen_is_drawn(busy: tui_store.Scene, tmp_path: Path, screen: str, shows: str) -> None:
    file = tmp_path / "picture.svg"
    before = {path: path.read_bytes() for path in busy.paths.home.rglob("*.json")}
    assert obstui("snapshot", screen, "--svg", file, "--size", "100x30", "--theme", "light") == 0
    text = file.read_text()
    ElementTree.fromstring(text)
    assert shows in text.replace("\xa0", " ").replace("&#160;", " ")
    assert {path: path.read_bytes() for path in busy.paths.home.rglob("*.json")} == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nowhere",), 3, "name one of queue"),
        (("99",), 3, "There is no job 99"),
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
