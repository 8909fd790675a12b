"""A systemd user unit for the worker: it comes up with the computer and again after a crash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import obstui
from obstui.config import Paths
from obstui.errors import Problem
from obstui.worker.gpu import Device
from obstui.worker.launch import places

_NAME = "obstui-worker"
_ANSWER_WITHIN = 20.0


class CannotInstall(Problem):
    """The unit cannot be written or enabled; the message says what to do instead."""

    exit_code = 4


def unit(paths: Paths, device: Device) -> str:
    """The unit's text.

    KillMode=mixed: systemd asks the worker alone, which lets its job reach a checkpoint and puts it
    back in the queue; the stop may take the longest grace (120 s of a prune), last words, and the
    end of the child.
    """
    root = Path(obstui.__file__).parents[1]
    env = [f"{name}={place}" for name, place in places(paths).items()]
    if "site-packages" not in root.parts:
        env.append(f"PYTHONPATH={root}")
    settings = "\n".join(f"Environment={_quoted(word)}" for word in env)
    command = [sys.executable, "-P", "-m", "obstui.worker", "--device", device.id]
    return f"""[Unit]
Description=obstui worker on {_plain(device.name)}
Documentation=man:systemd.service(5)
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=simple
ExecStart={" ".join(_quoted(word).replace("$", "$$") for word in command)}
{settings}
Restart=on-failure
RestartSec=10
KillMode=mixed
TimeoutStopSec=180
OOMPolicy=continue
ManagedOOMPreference=avoid
UMask=0077

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """A word as systemd reads it back."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word}"'


def _plain(text: str) -> str:
    return " ".join(text.replace("%", "%%").split())


def unit_path(device: Device) -> Path:
    """Where systemd looks for it; one unit for each device."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "systemd" / "user" / f"{_NAME}-{device.id}.service"


def install(paths: Paths, device: Device) -> tuple[Path, str | None]:
    """Write the unit and enable it; its path, and a hint when the worker would end at logout.

    Raises CannotInstall.
    """
    path = unit_path(device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(unit(paths, device))
    except OSError as err:
        raise CannotInstall(f"Cannot write {path}: {err.strerror}.") from None
    if not shutil.which("systemctl"):
        raise CannotInstall(
            f"The unit is in {path}, but there is no systemctl here to enable it: "
            "obstui worker start serves as well, until the computer restarts."
        )
    for arguments in (["daemon-reload"], ["enable", "--now", path.name]):
        _systemctl(arguments, path)
    if lingers():
        return path, None
    return path, "it ends when you log out: run loginctl enable-linger to keep it"


def _systemctl(arguments: list[str], path: Path) -> None:
    command = ["systemctl", "--user", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_WITHIN)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise CannotInstall(f"The unit is in {path}, but systemd does not answer: {err}.") from None
    if done.returncode:
        why = _plain(done.stderr) or f"exit code {done.returncode}"
        raise CannotInstall(
            f"The unit is in {path}, but {' '.join(command)} failed ({why}): "
            "obstui worker start serves as well, until the computer restarts."
        )


def lingers() -> bool:
    """Whether the user's processes outlive a logout."""
    return Path("/var/lib/systemd/linger", _user()).exists()


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
