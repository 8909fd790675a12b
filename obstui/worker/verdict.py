"""How an attempt ended: the job's next state, the reason, and one sentence for the person."""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstui.text import one_line

CHILD_LOST = "child_lost"
DRAIN = "drain"

_CRASHES = {
    signal.SIGSEGV: ("segfault", "The job's process crashed (segmentation fault)"),
    signal.SIGBUS: ("segfault", "The job's process crashed (bus error)"),
    signal.SIGILL: ("segfault", "The job's process crashed (illegal instruction)"),
    signal.SIGABRT: ("signal", "The job's process aborted itself"),
}
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_TAIL_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Verdict:
    state: str
    reason: str | None = None
    error: str | None = None
    result: dict[str, Any] | None = None
    exit_code: int | None = None
    not_before: float | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when an attempt is over.

    `said` is the child's last word ("done", "failed" or "stopped" message), `exit_code` that of the
    child if it has ended, `result` what a valid manifest of this attempt holds. `asked` is why the
    child was asked to stop: "cancel", "pause", "worker" or None.
    """

    said: dict[str, Any] | None
    exit_code: int | None
    result: dict[str, Any] | None
    asked: str | None
    log: Path


def judge(end: Ending) -> Verdict:
    """The verdict. A finished result wins over all; then the wish to stop; then the crash."""
    code = end.exit_code
    if end.result is not None:
        return Verdict("succeeded", result=end.result, exit_code=0)
    if end.asked == "cancel":
        return Verdict("cancelled", "user", exit_code=code)
    said = end.said or {}
    if said.get("type") == "failed":
        reason = one_line(said.get("reason") or "error", limit=40)
        error = one_line(said.get("error") or "The job failed without a word.", limit=500)
        return Verdict("failed", reason, error, exit_code=code)
    if end.asked == "pause":
        return Verdict("paused", "user", exit_code=code)
    if end.asked == "worker":
        return Verdict("queued", DRAIN, exit_code=code)
    if said.get("type") == "stopped":
        # Someone else's SIGTERM: no verdict on the job itself.
        return Verdict("queued", CHILD_LOST, "The job's process was stopped.", exit_code=code)
    if said.get("type") == "done":
        error = "The job said it was done, but its result is not on disk: see its log."
        return Verdict("failed", "exit_code", error, exit_code=code)
    return _judge_death(code, end.log)


def _judge_death(code: int | None, log: Path) -> Verdict:
    """A child that ended without a last word that counts."""
    if code is not None and -code in _FROM_OUTSIDE:
        # Someone else's doing (a person, the kernel's OOM killer): no verdict on the job itself.
        error = f"The job's process was killed ({signal.Signals(-code).name})."
        return Verdict("queued", CHILD_LOST, error, exit_code=code)
    if code is not None and code < 0:
        reason, text = _CRASHES.get(
            signal.Signals(-code), ("signal", f"The job's process died of signal {-code}")
        )
    elif code == 0:
        reason, text = "exit_code", "The job's process ended without a result"
    else:
        reason, text = "exit_code", f"The job's process ended with exit code {code}"
    last = last_line(log)
    return Verdict("failed", reason, f"{text}: {last}" if last else f"{text}.", exit_code=code)


def last_line(log: Path, *, limit: int = 200) -> str:
    """The last line of a log that says something, safe to show; "" if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            tail = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = (one_line(line, limit=limit) for line in reversed(deque(tail.splitlines(), 50)))
    return next((line for line in lines if line), "")
