"""The systemd unit, and the worker as systemd treats it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from obstui.cli import main
from obstui.config import Paths
from obstui.worker import install, launch
from obstui.worker.gpu import Device

CPU = Device("cpu", "A 100 % processor\n[Service]\nExecStart=evil")


def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    home = tmp_path / 'a "b" $c %h'
    text = install.unit(Paths(home, home / "jobs.db"), CPU)
    assert text.count("\nExecStart=") == 1
    assert "A 100 %% processor [Service]" in text.splitlines()[1]
    assert "KillMode=mixed\nTimeoutStopSec=180\n" in text
    file = tmp_path / "obstui-worker-cpu.service"
    file.write_text(text)
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(file)], capture_output=True, text=True
    )
    complaints = [line for line in done.stderr.splitlines() if file.name in line]
    assert complaints == []


def systemctl(folder: Path, code: int) -> None:
    """A program in systemctl's place that keeps what it was told."""
    folder.mkdir(exist_ok=True)
    program = folder / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/told\necho no bus >&2\nexit {code}\n')
    program.chmod(0o755)


def test_install_writes_and_enables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(install, "lingers", lambda: False)
    paths = Paths(tmp_path, tmp_path / "jobs.db")
    systemctl(tmp_path / "bin", 0)
    path, hint = install.install(paths, CPU)
    assert path.read_text() == install.unit(paths, CPU)
    assert "enable-linger" in (hint or "")
    told = (tmp_path / "bin" / "told").read_text().splitlines()
    assert told == ["--user daemon-reload", f"--user enable --now {path.name}"]
    systemctl(tmp_path / "bin", 1)
    with pytest.raises(install.CannotInstall, match=r"no bus.*obstui worker start"):
        install.install(paths, CPU)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.CannotInstall, match="no systemctl"):
        install.install(paths, CPU)


def test_the_worker_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("OBSTUI_HOME", str(home))
    monkeypatch.setenv("OBSTUI_CONFIG", str(tmp_path / "none"))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["worker", *arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, out, _ = run("install", "--device", "cpu", "--print")
    assert code == 0
    assert f"OBSTUI_HOME={home}" in out
    assert not home.exists()
    assert run("drain")[2] == "No worker is running.\n"
    assert run("when-empty", "off")[0] == 0
    code, _, said = run("when-empty", "command", "--", "touch", "x")
    assert (code, "touch x" in said) == (0, True)
    assert run("when-empty", "command")[0] == 2
    assert run("when-empty", "off")[2] == "It is called off.\n"
    assert run("start", "--device", "GPU-none")[0] == 3


def test_a_worker_reads_the_settings_that_its_starter_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's environment is an allow-list: unless it is told, the place is lost."""
    monkeypatch.delenv("OBSTUI_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = tmp_path / "config" / "obstui" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("volume = 11\n")
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")
    with pytest.raises(launch.WorkerError, match="no setting volume"):
        launch.start(paths, "cpu")
    assert f"OBSTUI_CONFIG={file}" in install.unit(paths, CPU)
