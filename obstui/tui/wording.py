"""What the dashboard says about a job: short facts and whole sentences, always plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from obstui.text import one_line
from obstui.tui import formats

if TYPE_CHECKING:
    from obstui.store import JobView

_NEXT_STEP = {
    "oom_gpu": "Queue it with a smaller size or fewer prompts.",
    "oom_host": "Close other programs, or ask for less.",
    "disk_full": "Free some room on the disk first.",
    "bad_input": "The job itself is at fault: queue a mended one.",
    "worker_lost": "The worker died; a new attempt goes on from the last checkpoint.",
    "segfault": "The job crashed; a new attempt goes on from the last checkpoint.",
    "dep_failed": "A job that it builds on failed: try that one again first.",
}


def spec_facts(job: JobView) -> str:
    """What was asked for, on one line."""
    spec = job.spec
    parts = [one_line(spec.get("model", "")).rstrip("/").rsplit("/", 1)[-1]]
    if job.kind == "prune":
        levels = ", ".join(f"{float(s) * 100:g}" for s in spec.get("sparsity") or ())
        parts += [f"{levels} %", str(spec.get("method"))]
    if spec.get("variant"):
        parts.append(str(spec["variant"]))
    if spec.get("variants"):
        parts.append("against " + ", ".join(str(v) for v in spec["variants"]))
    prompts = spec.get("prompts") or ()
    amount = len(prompts) or spec.get("num_prompts")
    parts.append("1 prompt" if amount == 1 else f"{amount} prompts")
    parts += [f"{key} {spec[key]}" for key in ("steps", "seed") if spec.get(key) is not None]
    return one_line(" · ".join(part for part in parts if part), limit=300)


def state_words(job: JobView) -> str:
    """The state, with the wish that the worker has yet to carry out."""
    if job.live and job.state == "running" and job.desired in ("pause", "cancel"):
        return "pausing" if job.desired == "pause" else "cancelling"
    return job.state


def outcome(job: JobView) -> str:
    """What came of a job, or why it does not run, in a few words."""
    if job.state in ("failed", "quarantined", "skipped"):
        return one_line(job.error or job.reason or job.state, limit=300)
    if job.state == "succeeded":
        return _result_words(job.kind, job.result or {})
    if job.state == "cancelled":
        return ""
    if job.blocked:
        return one_line(job.blocked, limit=300)
    if job.state == "paused" and job.progress:
        return one_line(f"in {phase_words(job.progress)}", limit=80)
    return ""


def _result_words(kind: str, result: Mapping[str, Any]) -> str:
    if kind == "prune":
        variants = result.get("variants") or ()
        return _amount(len(variants), "variant")
    if kind == "generate":
        return _amount(len(result.get("images") or ()), "picture")
    if kind == "compare":
        models = result.get("models") or ()
        worst = min((m["ssim"] for m in models if m.get("ssim") is not None), default=None)
        words = _amount(len(models), "model")
        return words if worst is None else f"{words}, SSIM ≥ {worst:.2f}"
    return ""


def _amount(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def phase_words(progress: Mapping[str, Any]) -> str:
    """ "solve 43 of 210 targets"."""
    name = one_line(progress.get("phase") or "starting", limit=24)
    total = progress.get("total")
    if not total:
        return name
    unit = one_line(progress.get("unit") or "", limit=16)
    return f"{name} {progress.get('done') or 0} of {total} {unit}".rstrip()


def next_step(job: JobView, *, readonly: bool) -> str:
    """What to do about a job that ended badly."""
    advice = _NEXT_STEP.get(job.reason or "", "")
    if readonly:
        return advice
    keys = "Press r to try again, Enter for its log."
    return f"{advice} {keys}".strip()


def waiting_words(job: JobView, ahead: int, *, worker_alive: bool) -> str:
    """Why a job that waits is waiting."""
    if job.blocked:
        words = one_line(job.blocked, limit=300)
        return f"{words[:1].upper()}{words[1:]}."
    if job.state == "paused":
        return "Paused: it goes on from its last checkpoint when resumed (key p)."
    if job.state == "held":
        return "Held: it starts when resumed (key p)."
    if not worker_alive:
        return "No worker is running: it waits."
    return f"{_amount(ahead, 'job')} ahead of it." if ahead else "Next in line."


def took(job: JobView) -> str:
    """The time from start to end, "" where there is none."""
    if job.started_at is None or job.finished_at is None:
        return ""
    return formats.brief(job.finished_at - job.started_at)
