"""doctor: what works here, and how to mend the rest."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import click

from obstui.cli import output
from obstui.cli.output import emit, json_option
from obstui.config import Paths, Settings, nearest, no_room
from obstui.errors import Problem
from obstui.store import Reader, backup
from obstui.store.connection import NETWORK_FILESYSTEMS, filesystem_type, wal_is_safe
from obstui.text import counted, one_line

LOW_DISK = 20 << 30
"""Bytes: an SDXL variant takes about 5 GB, its Hessians 7."""

_ANSWER_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `ok` is None where it could be better but nothing is broken; `mend` says
    how."""

    what: str
    ok: bool | None
    words: str
    mend: str = ""


@click.command()
@json_option
@click.pass_obj
def doctor(paths: Paths, as_json: bool) -> None:
    """Terminal, pictures, GPU, store, worker, disk: what works, how to mend the rest."""
    found = [_looked(what, look, paths) for what, look in _LOOKS.items()]
    if as_json:
        emit([asdict(finding) for finding in found])
    else:
        glyphs = {True: "✓", False: "✗", None: "!"}
        for finding in found:
            click.echo(f"{glyphs[finding.ok]} {finding.what:<9} {one_line(finding.words)}")
            if finding.mend:
                click.echo(f"{'':12}{one_line(finding.mend)}")
    if any(finding.ok is False for finding in found):
        raise click.exceptions.Exit(4)


def _looked(what: str, look: Callable[[Paths], Finding], paths: Paths) -> Finding:
    try:
        return look(paths)
    except Problem as err:
        return Finding(what, False, str(err))
    except (OSError, subprocess.SubprocessError) as err:
        return Finding(what, False, f"cannot be looked at: {err}")


def _terminal(_: Paths) -> Finding:
    if not sys.stdout.isatty():
        return Finding("terminal", None, "none: the dashboard needs one, the commands do not")
    term, width = os.environ.get("TERM", ""), shutil.get_terminal_size()
    colours = os.environ.get("COLORTERM", "")
    words = f"{one_line(term) or 'unknown'}, {width.columns}x{width.lines}"
    if width.columns < 80 or width.lines < 24:
        return Finding("terminal", None, words, "Make it at least 80x24.")
    if colours not in ("truecolor", "24bit"):
        mend = "Set COLORTERM=truecolor if yours shows 24-bit colours (inside tmux, too)."
        return Finding("terminal", None, f"{words}, 256 colours or fewer", mend)
    return Finding("terminal", True, f"{words}, 24-bit colours")


def _pictures(_: Paths) -> Finding:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        mend = "Set LANG=C.UTF-8 (or another UTF-8 locale)."
        return Finding("pictures", None, f"as letters: the output is {encoding or 'unknown'}", mend)
    if not find_spec("PIL"):
        return Finding("pictures", False, "pillow is missing", "pip install pillow")
    return Finding("pictures", True, "as half blocks in any terminal with colours")


def _gpu(_: Paths) -> Finding:
    from obstui.worker.gpu import devices

    found = devices()
    names = ", ".join(f"{one_line(device.name, limit=60)}" for device in found)
    if [device.id for device in found] == ["cpu"]:
        mend = "With an NVIDIA card: nvidia-smi must answer. SDXL on a CPU takes days."
        return Finding("gpu", None, f"none; jobs run on {names}", mend)
    return Finding("gpu", True, names)


def _store(paths: Paths) -> Finding:
    library = f"SQLite {sqlite3.sqlite_version}, " + (
        "WAL" if wal_is_safe(sqlite3.sqlite_version_info) else "rollback journal (safe here)"
    )
    kind = filesystem_type(paths.db.parent)
    if kind in NETWORK_FILESYSTEMS:
        mend = "Set OBSTUI_HOME to a local disk."
        return Finding("store", False, f"{paths.db} is on a network filesystem ({kind})", mend)
    if not paths.db.exists():
        if fault := no_room(paths.db.parent):
            mend = "Set OBSTUI_HOME (or --db) to a place that you may write to."
            return Finding("store", False, f"{paths.db} cannot be made: {fault}", mend)
        return Finding("store", True, f"none yet, it will be {paths.db}; {library}")
    began = time.monotonic()
    backup.verify(paths)
    with Reader.open(paths) as reader:
        jobs = sum(reader.counts().values())
    copies = backup.backups(paths.db)
    kept = counted(len(copies), "backup") if copies else "no backup yet (a worker makes one a day)"
    took = time.monotonic() - began
    words = f"{counted(jobs, 'job')}, {output.size(paths.db.stat().st_size)}, sound ({took:.1f} s)"
    return Finding("store", True, f"{words}, {kept}; {library}")


def _private(paths: Paths) -> Finding:
    if not paths.home.exists():
        return Finding("privacy", True, f"{paths.home} will be yours alone")
    loose = [
        path
        for path in (paths.home, paths.db, backup.folder(paths.db), paths.worker_log)
        if path.exists() and path.stat().st_mode & 0o077
    ]
    if loose:
        names = " ".join(str(path) for path in loose)
        mend = f"chmod go= {names}"
        return Finding("privacy", None, f"others may look into {names}", mend)
    return Finding("privacy", True, f"{paths.home} is yours alone")


def _worker(paths: Paths) -> Finding:
    if not paths.db.exists():
        return Finding("worker", None, "none runs", "obstui worker start")
    with Reader.open(paths) as reader:
        alive = [worker for worker in reader.workers() if worker.alive]
        stops = reader.stops()
    if not alive:
        return Finding("worker", None, "none runs: queued jobs wait", "obstui worker start")
    words = ", ".join(
        f"{one_line(w.device_name, limit=60)} (pid {w.pid}, {w.state})" for w in alive
    )
    if stops:
        first = stops[0]
        scope = "--queue" if first.scope == "*" else f"--device {first.scope}"
        words += f"; stopped: {first.reason}"
        return Finding("worker", None, words, f"obstui resume {one_line(scope)}")
    return Finding("worker", True, words)


def _disk(paths: Paths) -> Finding:
    if fault := no_room(paths.home):
        return Finding("disk", False, fault, "Set OBSTUI_HOME elsewhere.")
    there = nearest(paths.home)
    free = shutil.disk_usage(there).free
    words = f"{output.size(free)} free at {there}"
    if free < LOW_DISK:
        return Finding("disk", None, words, "obstui gc --dry-run shows what may go.")
    return Finding("disk", True, words)


def _settings(_: Paths) -> Finding:
    path = Settings.path()
    if not path.exists():
        return Finding("settings", True, f"none; {path} may hold some")
    found = Settings.load()
    default = Settings()
    names = [
        name.name
        for name in fields(found)
        if getattr(found, name.name) != getattr(default, name.name)
    ]
    return Finding("settings", True, f"{path} sets {', '.join(names) or 'nothing'}")


def _logout(_: Paths) -> Finding:
    """Whether a worker would live on after the last logout."""
    if not Path("/run/systemd/system").exists():
        return Finding("logout", True, "no systemd: a worker lives on after logout")
    if not shutil.which("loginctl"):
        return Finding("logout", None, "systemd without loginctl: cannot tell")
    user = str(os.getuid())
    answer = subprocess.run(
        ["loginctl", "show-user", user, "--property=Linger"],
        capture_output=True,
        text=True,
        timeout=_ANSWER_WITHIN,
    )
    if "Linger=yes" in answer.stdout:
        return Finding("logout", True, "lingering is on: a worker lives on after logout")
    mend = "loginctl enable-linger"
    return Finding("logout", None, "lingering is off: a worker may die at your logout", mend)


_LOOKS: dict[str, Callable[[Paths], Finding]] = {
    "terminal": _terminal,
    "pictures": _pictures,
    "gpu": _gpu,
    "settings": _settings,
    "store": _store,
    "privacy": _private,
    "worker": _worker,
    "disk": _disk,
    "logout": _logout,
}
