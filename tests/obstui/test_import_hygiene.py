"""What starts fast and survives a CUDA crash never imports the engine: seen in new processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "core")


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "code",
    [
        "import obstui.cli.demo, obstui.cli.jobs, obstui.cli.queueing, obstui.cli.worker",
        "import obstui.cli.doctor, obstui.cli.gc, obstui.cli.report, obstui.cli.submit",
        "import obstui.cli.models, obstui.models",
        "import obstui.tui.app, obstui.tui",
        "import obstui.worker.launch, obstui.worker.loop, obstui.worker.supervise",
        "import obstui.store, obstui.specs, obstui.config",
    ],
)
def test_no_engine_outside_the_child(code: str) -> None:
    assert not modules_after(code).intersection(HEAVY)


def test_the_store_and_the_worker_know_no_screens() -> None:
    code = "import obstui.store, obstui.worker.launch, obstui.worker.loop"
    assert "textual" not in modules_after(code)


def test_help_imports_neither_the_store_nor_textual() -> None:
    code = "from obstui.cli import cli\ncli.main(['--help'], standalone_mode=False)"
    assert not modules_after(code).intersection({*HEAVY, "sqlmodel", "pydantic", "textual"})


def test_the_first_frame_waits_for_neither_the_store_nor_the_specs() -> None:
    """They cost half as much again as all of Textual, and the follower's thread reads them in."""
    code = "import obstui.tui.app"
    assert not modules_after(code).intersection({"sqlmodel", "sqlalchemy", "pydantic", "PIL"})


def test_the_engine_stands_alone() -> None:
    code = "import core.prune, core.generate, core.evaluate"
    assert not modules_after(code).intersection({"obstui", "textual", "sqlmodel"})
