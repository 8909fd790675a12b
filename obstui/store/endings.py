"""How attempts end that do not succeed, and why, in words."""

from __future__ import annotations

from obstui.store.views import AttemptView

AFTER = {
    "worker_lost": "a lost worker",
    "child_lost": "a lost process",
    "host_reboot": "a restart of the computer",
    "gpu_busy": "another program used the device",
    "gpu_lost": "the device was lost",
    "disk_full": "the disk was full",
    "oom_gpu": "the device's memory ran out",
    "oom_host": "the computer's memory ran out",
    "segfault": "a crash",
    "signal": "its process was killed",
    "exit_code": "a failure",
    "timeout": "it took too long",
}
"""After what a job starts again, by the reason that its attempt ended for."""

STOPPED = {
    "user": "by hand",
    "drain": "its worker was stopped",
    "window": "its time window closed",
    "queue_paused": "the queue was paused",
    "thermal": "the device was too hot",
    "foreign_gpu": "another program used the device",
    "gpu_busy": "another program used the device",
}
"""Why an attempt was asked to end: it saved its work and goes on later."""

INTERRUPTED = "interrupted"
"""The state of an attempt that ended before its job did."""


def how(attempt: AttemptView) -> str | None:
    """ "failed", "lost" (nobody asked it to end) or "stopped"; None for an attempt that runs, that
    succeeded or that a person ended."""
    if attempt.state == INTERRUPTED:
        return "stopped" if attempt.reason in STOPPED else "lost"
    return "failed" if attempt.state == "failed" else None


def why(attempt: AttemptView) -> str:
    """The sentence that was recorded, else the words for the reason."""
    reason = attempt.reason or "nobody knows why"
    return attempt.error or (AFTER | STOPPED).get(reason, reason)
