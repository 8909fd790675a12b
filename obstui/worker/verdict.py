"""How an attempt ended: the job's next state, the reason, and one sentence for the person."""

from __future__ import annotations

import re
import signal
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from obstui.text import one_line

CHILD_LOST = "child_lost"
DRAIN = "drain"
STUCK = "stuck_in_driver"
DEVICE_STUCK = "a job's process is stuck in the device's driver: restart the computer"
GIVEN_BACK = ("window", "queue_paused", "foreign_gpu", "thermal")
"""Why a job is checkpointed and put back, with nothing held against it: it goes on later."""

OUT_OF_MEMORY = ("oom_gpu", "oom_host")
_RETRY_AFTER = 60.0
_USE_LESS = {
    "prune": "prune with more --packages or a smaller --size",
    "generate": "use a smaller --size",
    "compare": "use a smaller --size",
    "bench": "use a smaller --size",
}

_CRASHES = {
    signal.SIGSEGV: ("segfault", "The job's process crashed (segmentation fault)"),
    signal.SIGBUS: ("segfault", "The job's process crashed (bus error)"),
    signal.SIGILL: ("segfault", "The job's process crashed (illegal instruction)"),
    signal.SIGABRT: ("signal", "The job's process aborted itself"),
}
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_TAIL_BYTES = 16 << 10
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")


@dataclass(frozen=True, slots=True)
class Verdict:
    state: str
    reason: str | None = None
    error: str | None = None
    result: dict[str, Any] | None = None
    exit_code: int | None = None
    not_before: float | None = None

    @property
    def signature(self) -> str | None:
        """What failures of one cause have in common; None for one that is the job's own doing."""
        if self.state != "failed" or self.reason in ("bad_input", "timeout"):
            return None
        # Numbers differ from run to run: addresses, sizes, seeds.
        return f"{self.reason}: {_NUMBER.sub('#', self.error or '')}"[:200]


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when an attempt is over.

    `said` is the child's last word ("done", "failed" or "stopped" message), `exit_code` that of the
    child if it has ended, `result` what a valid manifest of this attempt holds. `asked` is why the
    child was asked to stop: "cancel", "pause", "worker", "timeout", one of GIVEN_BACK, or None.
    `stuck`: the child did not die of SIGKILL; `starved`: the kernel killed processes for want of
    memory meanwhile; `tried`: the attempt before this one ran out of memory, too; `slept`: the
    computer was suspended during the attempt.
    """

    said: dict[str, Any] | None
    exit_code: int | None
    result: dict[str, Any] | None
    asked: str | None
    log: Path
    stuck: bool = False
    starved: bool = False
    tried: bool = False
    slept: bool = False


def judge(end: Ending, kind: str = "generate") -> Verdict:
    """The verdict on a job of that kind. A finished result wins over all; then the wish to stop;
    then the crash."""
    verdict = _judge(end)
    if end.slept and verdict.signature:
        # Drivers seldom survive a suspend in the middle of a computation.
        error = f"The computer slept during the run, which then failed: {verdict.error}"
        return replace(verdict, state="queued", reason="gpu_lost", error=error)
    if verdict.reason == "disk_full" and verdict.state == "failed":
        # The machine is at fault: what was finished is kept, and goes on when there is room.
        return replace(verdict, state="queued", not_before=time.time() + _RETRY_AFTER)
    if verdict.reason not in OUT_OF_MEMORY:
        return verdict
    if not end.tried:
        # Another program may have held the memory, and may let go of it.
        return replace(verdict, state="queued", not_before=time.time() + _RETRY_AFTER)
    mend = f"{_USE_LESS.get(kind, 'make it smaller')}, or end other programs that hold memory"
    return replace(
        verdict, state="failed", error=f"{(verdict.error or '').rstrip('.')}: twice; {mend}."
    )


def _judge(end: Ending) -> Verdict:
    code = end.exit_code
    if end.result is not None:
        return Verdict("succeeded", result=end.result, exit_code=0)
    if end.stuck:
        error = (
            "The job's process cannot be killed: a call into the device's driver holds it. "
            "The device takes no more jobs: restart the computer."
        )
        return Verdict("failed", STUCK, error)
    if end.asked == "cancel":
        return Verdict("cancelled", "user", exit_code=code)
    said = end.said or {}
    if said.get("type") == "failed":
        reason = one_line(said.get("reason") or "error", limit=40)
        error = one_line(said.get("error") or "The job failed without a word.", limit=500)
        return Verdict("failed", reason, error, exit_code=code)
    if end.asked == "pause":
        return Verdict("paused", "user", exit_code=code)
    if end.asked == "timeout":
        error = (
            "It ran for longer than its max runtime allows; what it finished is kept: "
            "retry it with a longer one."
        )
        return Verdict("failed", "timeout", error, exit_code=code)
    if end.asked == "hang":
        error = "The job's process gave no sign of life for too long and was ended."
        return Verdict("failed", "hang", error, exit_code=code)
    if end.asked in GIVEN_BACK:
        return Verdict("queued", end.asked, exit_code=code)
    if end.asked == "worker":
        return Verdict("queued", DRAIN, exit_code=code)
    if said.get("type") == "stopped":
        # Someone else's SIGTERM: no verdict on the job itself.
        return Verdict("queued", CHILD_LOST, "The job's process was stopped.", exit_code=code)
    if said.get("type") == "done":
        error = "The job said it was done, but its result is not on disk: see its log."
        return Verdict("failed", "exit_code", error, exit_code=code)
    return _judge_death(code, end.log, starved=end.starved)


def _judge_death(code: int | None, log: Path, *, starved: bool) -> Verdict:
    """A child that ended without a last word that counts."""
    if code == -signal.SIGKILL and starved:
        error = "The computer's memory is full: the kernel killed the job's process"
        return Verdict("failed", "oom_host", error, exit_code=code)
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
