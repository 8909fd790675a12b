"""What the dashboard tells the terminal around it: the window's title, and that a job has ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from obstui.text import one_line
from obstui.tui import wording

if TYPE_CHECKING:
    from obstui.store import JobView
    from obstui.tui.follow import Snapshot

KEEP_TITLE = "\x1b[22;2t"
"""Puts the window's title on the terminal's stack (where it has one)."""

RESTORE_TITLE = "\x1b]2;\x07\x1b[23;2t"


def title(snapshot: Snapshot) -> str:
    """The sequence that names the window after the queue: "obstui: 2 running, 1 failed"."""
    counts = snapshot.counts
    live = sum(counts.get(s, 0) for s in ("starting", "running", "pausing", "cancelling"))
    amounts = (
        (live, "running"),
        (counts.get("queued", 0), "waiting"),
        (counts.get("failed", 0) + counts.get("quarantined", 0), "failed"),
    )  # fmt: skip
    words = ", ".join(f"{amount:,} {word}" for amount, word in amounts if amount)
    return f"\x1b]2;obstui: {words or 'idle'}\x07"


def ended(before: Snapshot, after: Snapshot) -> list[JobView]:
    """The jobs that were at work in one snapshot and are over in the next."""
    live = {job.id for job in before.jobs if job.live}
    return [job for job in after.jobs if job.id in live and job.finished]


def call(how: str, snapshot: Snapshot, jobs: list[JobView]) -> str:
    """The sequence that tells a person who looks elsewhere; `how` is the setting `attention`."""
    if how == "bell":
        return "\x07"
    job = jobs[0]
    words = f"job {job.id} {wording.state_words(job)}: {snapshot.title(job)}"
    if len(jobs) > 1:
        words = f"{len(jobs)} jobs have ended, the first: {words}"
    said = one_line(words, limit=120).replace(";", ",")
    sequence = {"osc9": f"\x1b]9;{said}\x07", "osc777": f"\x1b]777;notify;obstui;{said}\x07"}[how]
    if "TMUX" in os.environ:  # it eats what it does not know, unless told to pass it through
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return sequence
