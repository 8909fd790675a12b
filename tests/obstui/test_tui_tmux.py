"""An evening in a real tmux: queue a prune by the form's keys, watch a real worker do it, lose the
terminal, and find the work done."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

import obstui
from obstui.config import Paths
from obstui.store import JobView, Reader
from obstui.tui.widgets.layer_map import HEIGHTS

T = TypeVar("T")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

PATIENCE = 90.0
"""Seconds that anything may take before the test gives up: this machine may be busy."""


class Tmux:
    """A server of its own with one window, so that no other tmux of this machine is touched."""

    def __init__(self, folder: Path, paths: Paths) -> None:
        self._socket = str(folder / "socket")
        env = {"OBSTUI_HOME": str(paths.home), "OBSTUI_DB": str(paths.db), "LANG": "C.UTF-8",
               "PYTHONPATH": str(Path(obstui.__file__).parents[1])}  # fmt: skip
        setting = [f"{name}={value}" for name, value in env.items()]
        program = shlex.join(["exec", "env", *setting, sys.executable, "-m", "obstui"])
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", program)
        self.dashboard = psutil.Process(int(self.tmux("display-message", "-p", "#{pane_pid}")))

    def tmux(self, *words: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != "TMUX"}
        done = subprocess.run(
            ["tmux", "-u", "-S", self._socket, *words],
            env=clean, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return done.stdout

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def shows(self, *words: str) -> str:
        """The screen, once it has all these words."""
        return until(lambda: screen if all(w in (screen := self.screen) for w in words) else None,
                     lambda: f"{words} in\n{self.screen}")  # fmt: skip

    @property
    def help(self) -> str:
        """What the form says about the question that has the focus."""
        lines = self.screen.splitlines()
        return next((above for above, line in itertools.pairwise(lines)
                     if "Queue the job (" in line), "")  # fmt: skip

    def answer(self, label: str, text: str, *, help_words: str) -> None:
        """Go on to the question that explains itself so, and answer it: what stood there
        is marked when one arrives, and replaced."""
        while help_words not in (before := self.help):
            self.press("Tab")
            until(lambda before=before: self.help != before, lambda: f"a field\n{self.screen}")
        self.type(text)
        until(lambda: re.search(rf"{label} +{re.escape(text)} ", self.screen),
              lambda: f"{label}: {text} in\n{self.screen}")  # fmt: skip

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)
        if self.dashboard.is_running():
            self.dashboard.kill()


def until(condition: Callable[[], T | None], what: Callable[[], str]) -> T:
    """The first truth that the condition tells."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited in vain for {what()}"
        time.sleep(0.05)
    return value


@pytest.fixture
def tmux(paths: Paths, tmp_path: Path) -> Iterator[Tmux]:
    opened = Tmux(tmp_path, paths)
    yield opened
    opened.close()
    stop = [sys.executable, "-m", "obstui", "worker", "stop", "--now"]
    env = os.environ | {"OBSTUI_HOME": str(paths.home), "OBSTUI_DB": str(paths.db)}
    subprocess.run(stop, env=env, capture_output=True, check=True, timeout=PATIENCE)


def job(paths: Paths, number: int) -> JobView | None:
    with Reader.open(paths) as reader:
        return reader.job(number)


def test_an_evening_in_tmux(tmux: Tmux, paths: Paths) -> None:
    tmux.shows("The queue is empty")
    tmux.press("n")
    tmux.shows("New job")
    tmux.answer("sparsity", "0.3", help_words="Shares")
    tmux.answer("prompts used", "16", help_words="How many of")
    tmux.answer("steps", "4", help_words="Denoising")
    tmux.press("C-s")
    tmux.shows("demo to 30 %", "running")

    tmux.press("Enter")
    until(lambda: re.search(r"[a-z]+ [0-9]+ of [0-9]+ [a-z]+ ", tmux.screen),
          lambda: f"a phase in\n{tmux.screen}")  # fmt: skip
    screen = tmux.shows("succeeded", "51 of 51 solved")
    for kind in ("attn1", "attn2", "ff"):
        (row,) = (line for line in screen.splitlines() if line.startswith(f" {kind} "))
        assert len(set(row) & set(HEIGHTS)) > 1, row
    tmux.press("Escape")
    tmux.shows("n New job", "✓ succeeded", "1 variant")
    first = job(paths, 1)
    assert first is not None
    assert (first.spec["num_prompts"], first.spec["steps"]) == (16, 4), "the form's own answers"

    tmux.press("d")
    tmux.shows("Like job 1")
    tmux.press("C-s")
    tmux.shows("Queued as job 2", "running")
    began = time.monotonic()
    tmux.tmux("kill-server")
    tmux.dashboard.wait(timeout=PATIENCE)
    assert time.monotonic() - began < 3, "the dashboard outlived its terminal"
    second = job(paths, 2)
    assert second is not None
    assert second.live, "the worker went with the terminal"
    until(lambda: (done := job(paths, 2)) and done.finished, lambda: f"job 2: {job(paths, 2)}")
    over = job(paths, 2)
    assert over is not None
    assert (over.state, over.attempt) == ("succeeded", 1), "done in one go, by the same worker"
