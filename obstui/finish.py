"""When the whole queue will be done, from what earlier jobs took on this machine.

Every waiting job takes as long per unit of work as some earlier job of its kind and model; the
queue is played through many times with other draws, its dependencies, windows and places kept.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obstui.estimate import remaining
from obstui.store.views import JobView, PastRun
from obstui.windows import closes_at, opens_at

_TRIALS, _TRIALS_OF_A_LONG_QUEUE, _LONG = 100, 30, 200
_SPREAD = 0.15
"""Standard deviation of log(time) on top of the draws: one earlier job does not make two alike."""

Drawn = dict[int, tuple[float, float]]
"""By job: seconds whatever there is to do, and of its forward passes."""

_OF_THE_SOLVER = frozenset({"name", "sparsity", "damping", "allocate", "budget", "held_out"})

Prices = Mapping[tuple[Any, ...], Sequence[tuple[float, float]]]
"""Seconds whatever there is to do, and for each unit of work, by what jobs are comparable with."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Times since the epoch by which half, and nine tenths, of the plays were over; None if nothing
    is known. `unknown` of the `jobs` have no history, so that the times are "at least"; `waiting`
    others wait for a person or for a job that does."""

    jobs: int
    unknown: int = 0
    waiting: int = 0
    p50: float | None = None
    p90: float | None = None


def _keys(spec: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What makes two jobs comparable, the closest first."""
    kind, model = spec.get("kind"), spec.get("model")
    # Steps of the model's own number cannot be compared with steps that were counted.
    alike = (kind, model, spec.get("steps") is None)
    return [(*alike, spec.get("size"), spec.get("method")), alike]


def work(spec: Mapping[str, Any]) -> float:
    """How much there is to do, in denoising steps; only ratios between like jobs matter."""
    steps = spec.get("steps") or 1
    prompts = len(spec.get("prompts") or ()) or 1
    if spec.get("kind") in ("prune", "compare"):
        prompts = spec.get("num_prompts") or prompts
    models = len(spec.get("variants") or ()) + 1
    pictures = prompts * spec.get("count", 1) * (spec.get("repeats") or 1)
    return float(steps * pictures * models)


def calibration(spec: Mapping[str, Any]) -> str | None:
    """Tells the prunes that gather the same Hessians, which the first of them leaves for the
    others; None for a job that leaves none."""
    if spec.get("kind") != "prune" or spec.get("method") != "obs" or spec.get("packages") != 1:
        return None
    return json.dumps({key: value for key, value in spec.items() if key not in _OF_THE_SOLVER})


def prices(history: Iterable[PastRun]) -> Prices:
    """What earlier jobs tell."""
    found: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for run in history:
        if (price := run.price(work(run.spec))) is not None:
            for key in _keys(run.spec):
                found.setdefault(key, []).append(price)
    return found


def _samples(spec: Mapping[str, Any], known: Prices) -> Sequence[tuple[float, float]]:
    return next((known[key] for key in _keys(spec) if key in known), ())


def queue_finish(
    live: Sequence[JobView],
    queued: Sequence[JobView],
    needs: Mapping[int, Sequence[int]],
    history: Iterable[PastRun],
    *,
    now: float,
    devices: int = 1,
) -> Finish:
    """When all of it will be done. `queued` in the order in which they will start; `needs` tells
    which unfinished jobs a job waits for."""
    runnable = _runnable(live, queued, needs)
    jobs = [*live, *runnable]
    waiting = len(queued) - len(runnable)
    known = prices(history)
    unknown = sum(not _samples(job.spec, known) for job in jobs)
    if not jobs or unknown == len(jobs):
        return Finish(len(jobs), unknown, waiting)
    draw = random.Random(0)  # the same question gets the same answer
    trials = _TRIALS if len(jobs) <= _LONG else _TRIALS_OF_A_LONG_QUEUE
    ends = sorted(
        _play(live, runnable, needs, _drawn(jobs, known, draw), now, devices) for _ in range(trials)
    )
    return Finish(len(jobs), unknown, waiting, ends[trials // 2], ends[trials * 9 // 10])


def _runnable(
    live: Sequence[JobView], queued: Sequence[JobView], needs: Mapping[int, Sequence[int]]
) -> list[JobView]:
    """The queued jobs that need nothing but what runs or is itself runnable."""
    reachable = {job.id for job in live}
    left = list(queued)
    while more := [job for job in left if reachable.issuperset(needs.get(job.id, ()))]:
        reachable.update(job.id for job in more)
        left = [job for job in left if job.id not in reachable]
    return [job for job in queued if job.id in reachable]


def _drawn(jobs: Sequence[JobView], known: Prices, draw: random.Random) -> Drawn:
    """What the jobs take in one play, the live ones first. Who comes after another with the same
    calibration finds it on the disk."""
    drawn: Drawn = {}
    calibrated: set[str] = set()
    for job in jobs:
        drawn[job.id] = 0.0, 0.0
        if samples := _samples(job.spec, known):
            steady, rate = draw.choice(samples)
            spread = draw.lognormvariate(0, _SPREAD)
            shared = calibration(job.spec)
            again = shared is not None and shared in calibrated
            calibrated |= {shared} if shared is not None else set()
            drawn[job.id] = steady * spread, 0.0 if again else rate * work(job.spec) * spread
    return drawn


def _play(
    live: Sequence[JobView],
    queued: Sequence[JobView],
    needs: Mapping[int, Sequence[int]],
    drawn: Drawn,
    now: float,
    devices: int,
) -> float:
    """The end of one play: every device takes the first job that can start."""
    ended: dict[int, float] = {}
    for job in live:
        steady, growing = drawn[job.id]
        own = remaining(job.progress, now)
        if own.seconds is None:
            left = max(0.0, steady + growing - (now - (job.started_at or now)))
        else:
            left = own.seconds + (steady if own.at_least else 0.0)
        ended[job.id] = _run(job.window, now, left)
    free = sorted([ended[job.id] for job in live] + [now] * (devices - len(live)))[-devices:]
    free = free or [now]
    heapq.heapify(free)
    waiting = list(queued)
    while waiting:
        at = heapq.heappop(free)
        ready: list[tuple[float, int]] = []
        for n, job in enumerate(waiting):
            when = _ready(job, needs, ended)
            if when is not None:
                ready.append((when, n))
                if when <= at:
                    break
        when, n = min(ready)
        at, job = max(at, when), waiting.pop(n)
        ended[job.id] = _run(job.window, at, sum(drawn[job.id]))
        heapq.heappush(free, ended[job.id])
    return max(ended.values(), default=now)


def _ready(
    job: JobView, needs: Mapping[int, Sequence[int]], ended: Mapping[int, float]
) -> float | None:
    """When the jobs it needs will be over; None while one of them has not started in this play."""
    times = [ended.get(parent) for parent in needs.get(job.id, ())]
    known = [when for when in times if when is not None]
    return max(known, default=0.0) if len(known) == len(times) else None


def _run(window: str | None, at: float, seconds: float) -> float:
    """When a job that starts at `at` ends: outside its window it stands still."""
    if window is None:
        return at + seconds
    while True:
        at = opens_at(window, at)
        closes = closes_at(window, at)
        if at + seconds <= closes:
            return at + seconds
        seconds -= closes - at
        at = closes
