"""What commands print: data on stdout, words on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from obstui.errors import Problem
from obstui.specs import BadSpec, parse
from obstui.store import endings
from obstui.store.views import AttemptView, JobView
from obstui.text import GLYPHS, one_line, plain

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")


class CannotWrite(Problem):
    """A file that was asked for cannot be written."""

    exit_code = 2

    def __init__(self, file: Path, err: OSError) -> None:
        super().__init__(
            f"Cannot write {one_line(file, limit=200)} ({err.strerror or err}): name a file in a "
            "folder that is there and that you may write to."
        )


def say(text: str) -> None:
    """A sentence for the person, on stderr."""
    click.echo(plain(text), err=True)


def ask(question: str, *, otherwise: str) -> None:
    """Have a person agree; at a no say how things are `otherwise`. Raises Exit then."""
    if not click.confirm(question, err=True):
        say(otherwise)
        raise click.exceptions.Exit(1)


def emit(value: Any) -> None:
    """JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


NO_JOBS = "No jobs yet: obstui demo shows the whole thing, obstui prune queues one."


def as_dict(job: JobView) -> dict[str, Any]:
    """A job with the keys that other tools rely on."""
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "desired": job.desired,
        "reason": job.reason,
        "error": job.error,
        "blocked": job.blocked,
        "name": job.name,
        "title": title(job),
        "priority": job.priority,
        "attempt": job.attempt,
        "device": job.device,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "progress": None if job.finished else job.progress,
        "result": job.result,
        "spec": job.spec,
        "ulid": job.ulid,
        "window": job.window,
        "max_runtime": job.max_runtime,
        "sweep_id": job.sweep_id,
    }


def title(job: JobView) -> str:
    """The job's own name, else what its spec says."""
    if job.name:
        return one_line(job.name)
    try:
        return parse(job.spec).title
    except BadSpec:
        return job.kind


def state(job: JobView) -> str:
    """Glyph and word."""
    return f"{GLYPHS.get(job.state, '?')} {job.state}"


def progress(job: JobView) -> str:
    """ "calibrate 12/48", or nothing."""
    if not job.live or not job.progress:
        return ""
    now = job.progress
    return f"{one_line(now.get('phase', ''))} {now.get('done', 0)}/{now.get('total', 0)}"


def standstill(job: JobView) -> str:
    """Why a job does not go on by itself, and what lets it; nothing for one that does."""
    if job.state in ("held", "paused"):
        return f"until obstui resume {job.id}"
    return job.blocked or ""


def duration(seconds: float) -> str:
    """95 -> "1m 35s"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def took(job: JobView) -> str:
    """How long the job has run so far, or ran."""
    seconds = job.seconds(time.time())
    return "" if seconds is None else duration(seconds)


def ending(attempt: AttemptView, *, told: str | None = None) -> str:
    """How long an attempt that did not end well took, and why, if that was not already `told`."""
    took = duration((attempt.finished_at or attempt.started_at) - attempt.started_at)
    why = endings.why(attempt)
    return f"attempt {attempt.number} on {attempt.device} after {took}" + (
        "" if why == told else f": {why}"
    )


def count(number: int) -> str:
    """1912067844 -> "1.912 B"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3f} {unit}"
    return str(number)


def size(octets: float) -> str:
    """Bytes in binary units: 25165824 -> "24.0 MiB"."""
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.0f} B" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.2f} GiB"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> str:
    """Columns padded to their widest cell; `right` names the columns flush right by their heads.

    Cells are measured as the terminal shows them: wide characters count two.
    """
    from rich.cells import cell_len

    lines = [list(head), *[[one_line(cell) for cell in row] for row in rows]]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(head))]
    flush_right = [name in right.split(",") for name in head]

    def pad(cell: str, i: int) -> str:
        space = " " * (widths[i] - cell_len(cell))
        return space + cell if flush_right[i] else cell + space

    return "\n".join("  ".join(pad(c, i) for i, c in enumerate(line)).rstrip() for line in lines)
