"""What the dashboard says about a job: short facts and whole sentences, always plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from obstui.spread import unsure
from obstui.text import one_line, short_model
from obstui.tui import formats

if TYPE_CHECKING:
    from obstui.store import JobView, SweepView

_NEXT_STEP = {
    "oom_gpu": "It needs a smaller size or fewer prompts.",
    "oom_host": "Close other programs, or ask for less.",
    "disk_full": "Free some room on the disk first.",
    "bad_input": "The job itself is at fault.",
    "worker_lost": "The worker died; a new attempt goes on from the last checkpoint.",
    "segfault": "The job crashed; a new attempt goes on from the last checkpoint.",
    "timeout": "It needs more time.",
    "dep_failed": "A job that it builds on failed: try that one again first.",
}
_FOLDER = re.compile(r"^s(\d+(?:\.\d+)?)\b")
_WAITS_FOR = "waits for "
_NOT_NUMBERS = re.compile(r"^jobs? | \(\w+\)")
_FAILS_AGAIN = ("oom_gpu", "bad_input", "timeout")
"""As it is."""


def spec_facts(job: JobView) -> str:
    """What was asked for, on one line."""
    spec = job.spec
    parts = [model_brief(job)]
    if job.kind == "prune":
        levels = ", ".join(f"{float(s) * 100:g}" for s in spec.get("sparsity") or ())
        parts += [f"{levels} %", str(spec.get("method"))]
    if spec.get("variant"):
        parts.append(str(spec["variant"]))
    if spec.get("variants"):
        parts.append("against " + ", ".join(str(v) for v in spec["variants"]))
    prompts = spec.get("prompts") or ()
    amount = len(prompts) or spec.get("num_prompts")
    if amount:
        parts.append("1 prompt" if amount == 1 else f"{amount} prompts")
    parts += [f"as {spec['format']}"] if spec.get("format") else []
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
        try:
            return _result_words(job.kind, job.result or {})
        except (LookupError, TypeError, ValueError, AttributeError):
            return "its result cannot be read"  # of another version: the other jobs are shown
    if job.state == "cancelled":
        return ""
    if job.blocked:
        return one_line(job.blocked, limit=300)
    if job.state == "paused" and job.progress:
        return one_line(f"in {phase_words(job.progress)}", limit=80)
    return ""


def outcome_brief(job: JobView) -> str:
    """`outcome` where there is little room for it."""
    words = outcome(job)
    if job.kind == "compare" and job.state == "succeeded":
        return words.rpartition(", ")[2]
    if job.state == "paused" and job.progress and not job.blocked:
        return one_line(job.progress.get("phase") or words, limit=24)
    return words


def waits_brief(words: str) -> str:
    """ "waits for 7, 8" of "waits for jobs 7 (running), 8 (queued)"."""
    if not words.startswith(_WAITS_FOR):
        return words
    return _WAITS_FOR + _NOT_NUMBERS.sub("", words.removeprefix(_WAITS_FOR))


def blocked_brief(job: JobView, now: float) -> str:
    """What a queued job waits for, shorter than its sentence where that can be."""
    from obstui.windows import is_open, opens_at

    if job.blocked and job.window is not None and not is_open(job.window, now):
        return f"starts {formats.time_of_day(opens_at(job.window, now))}"
    return one_line(job.blocked or "", limit=300)


def sweep_brief(sweep: SweepView | None) -> str:
    """ "3 · 4/9": the sweep, and how many of its jobs are over."""
    if sweep is None:
        return ""
    over = sum(sweep.counts.get(state, 0) for state in _OVER)
    return f"{sweep.id} · {over}/{sum(sweep.counts.values())}"


def sweep_words(sweep: SweepView) -> str:
    """ "sweep 3, 4 of 9 jobs done, 1 failed"."""
    total, counts = sum(sweep.counts.values()), sweep.counts
    name = one_line(sweep.name, limit=40)
    words = f"sweep {sweep.id}{f' {name}' if name else ''}: "
    words += f"{counts.get('succeeded', 0)} of {_amount(total, 'job')} done"
    failed = counts.get("failed", 0) + counts.get("quarantined", 0)
    return f"{words}, {failed} failed" if failed else words


def model_brief(job: JobView) -> str:
    return short_model(str(job.spec.get("model") or job.spec.get("file") or ""))


_OVER = ("succeeded", "failed", "cancelled", "skipped", "quarantined")


def best_result(job: JobView) -> str:
    """What of a finished job's figures one compares: the smallest variant's parameters, the
    highest similarity, the largest speed-up."""
    result = job.result or {}
    if variants := result.get("variants"):
        least = min(variants, key=lambda v: v["params"])
        change = formats.change(least["params"], least.get("dense_params") or 0)
        return f"{formats.params(int(least['params']))} {change}".rstrip()
    similar = [m["ssim"] for m in result.get("models") or () if m.get("ssim") is not None]
    if similar:
        return f"SSIM ≤ {math.ceil(max(similar) * 1000) / 1000:.3f}"
    rows = [row for row in result.get("latency") or () if row.get("step_ms")]
    if len(rows) > 1:
        best = min(rows, key=lambda row: row["step_ms"])
        about = "~" * (best["model"] in unsure(result, "step_ms"))
        return f"{about}{rows[0]['step_ms'] / best['step_ms']:.2f}x faster"
    return _result_words(job.kind, result)


def _result_words(kind: str, result: Mapping[str, Any]) -> str:
    if kind in ("prune", "import"):
        variants = result.get("variants") or ()
        return _amount(len(variants), "variant")
    if kind == "export":
        return one_line((result.get("export") or {}).get("folder", ""), limit=300)
    if kind == "bench":
        return _amount(len(result.get("latency") or ()), "model")
    if kind == "generate":
        return _amount(len(result.get("images") or ()), "picture")
    if kind == "compare":
        models = result.get("models") or ()
        worst = min((m["ssim"] for m in models if m.get("ssim") is not None), default=None)
        words = _amount(len(models), "model")
        # Down, not to the nearest: 0.9996 is not at least 1.
        return words if worst is None else f"{words}, SSIM ≥ {math.floor(worst * 1000) / 1000:.3f}"
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


def at_work_on(job: JobView) -> str:
    """What a live job is busy with. It tells which variant it has done last, by its folder's name:
    s10 on held-out prompts."""
    progress = job.progress or {}
    levels, done = job.spec.get("sparsity") or (), int(progress.get("done") or 0)
    if progress.get("phase") == "save" and done < len(levels):
        return f"writing the {100 * float(levels[done]):g} % variant"
    detail = one_line(progress.get("detail") or "", limit=200)
    return _FOLDER.sub(r"the \1 % variant", detail)


def next_step(job: JobView, *, readonly: bool) -> str:
    """What to do about a job that ended badly."""
    advice = _NEXT_STEP.get(job.reason or "", "")
    if readonly:
        return advice
    key = "d to queue it with changes" if job.reason in _FAILS_AGAIN else "r to try again"
    return f"{advice} Press {key}, L in its screen for the log.".strip()


def waiting_words(job: JobView, ahead: int, *, worker_alive: bool, readonly: bool) -> str:
    """Why a job that waits is waiting."""
    key = "" if readonly else " (key p)"
    if job.blocked:
        words = one_line(job.blocked if readonly else by_key(job.blocked), limit=300)
        return f"{words[:1].upper()}{words[1:]}."
    if job.state == "paused":
        return f"Paused: it goes on from its last checkpoint when resumed{key}."
    if job.state == "held":
        return f"Held: it starts when resumed{key}."
    if not worker_alive:
        return "No worker is running: it waits."
    return f"{_amount(ahead, 'job')} ahead of it." if ahead else "Next in line."


def by_key(stop: str) -> str:
    """What is said of a stop, with the key that lifts it in place of the command."""
    from obstui.store.stops import BY_HAND

    return stop.replace(BY_HAND, "by hand; P in the queue lets it go on")


def has_come_to(state: str) -> str:
    """ "is running", "has failed"."""
    return f"{'has' if state in ('succeeded', 'failed') else 'is'} {state}"


def took(job: JobView) -> str:
    """The time that its attempts took, "" where none is over."""
    return "" if job.live or not job.attempt else formats.brief(job.ran)
