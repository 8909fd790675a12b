"""When the whole queue will be done, from what earlier jobs took on this machine.

Every waiting job takes as long per unit of work as some earlier job of its kind and model; the
queue is played through many times with other draws, its dependencies, windows and places kept.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obstui.estimate import grows, kin, pace, remaining
from obstui.store.views import JobView, PastRun
from obstui.windows import closes_at, opens_at

_TRIALS, _TRIALS_OF_A_LONG_QUEUE, _LONG = 100, 30, 200
_SPREAD = 0.15
"""Standard deviation of log(time) on top of the draws: one earlier job does not make two alike."""

Price = tuple[float, float]
"""Seconds whatever there is to do, and for each unit of work."""

_OF_THE_SOLVER = frozenset({"name", "sparsity", "damping", "allocate", "budget", "held_out"})

Prices = Mapping[tuple[Any, ...], Sequence[Price]]
"""By what jobs are comparable with."""


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


def finds_calibrated(specs: Iterable[Mapping[str, Any]]) -> Iterator[bool]:
    """For each of the jobs, in their order, whether one before it leaves it its calibration."""
    left: set[str] = set()
    for spec in specs:
        shared = calibration(spec)
        yield shared in left
        if shared is not None:
            left.add(shared)


def prices(history: Iterable[PastRun]) -> Prices:
    """What earlier jobs tell."""
    found: dict[tuple[Any, ...], list[Price]] = {}
    for run in history:
        price = run.price(work(run.spec))
        for key in _keys(run.spec):
            found.setdefault(key, []).append(price)
    return found


def _samples(spec: Mapping[str, Any], known: Prices) -> Sequence[Price]:
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
    asked = _asked(jobs, prices(history))
    unknown = len(jobs) - len(asked)
    if not asked:
        return Finish(len(jobs), unknown, waiting)
    draw = random.Random(0)  # the same question gets the same answer
    trials = _TRIALS if len(jobs) <= _LONG else _TRIALS_OF_A_LONG_QUEUE
    ends = sorted(
        _play(live, runnable, needs, _drawn(asked, draw), now, devices) for _ in range(trials)
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


def _asked(jobs: Sequence[JobView], known: Prices) -> dict[int, tuple[Sequence[Price], float]]:
    """By job, the live ones first, what the like took, and its work. What nobody has measured is
    left out."""
    found = zip(jobs, finds_calibrated(job.spec for job in jobs), strict=True)
    return {
        job.id: (samples, 0.0 if calibrated else work(job.spec))
        for job, calibrated in found
        if (samples := _samples(job.spec, known))
    }


def _drawn(
    asked: Mapping[int, tuple[Sequence[Price], float]], draw: random.Random
) -> Mapping[int, tuple[float, float]]:
    """The seconds of the jobs in one play: whatever there is to do, and of their work."""
    drawn: dict[int, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for job_id, (samples, units) in asked.items():
        steady, rate = draw.choice(samples)
        spread = draw.lognormvariate(0, _SPREAD)
        drawn[job_id] = steady * spread, units * rate * spread
    return drawn


def _play(
    live: Sequence[JobView],
    queued: Sequence[JobView],
    needs: Mapping[int, Sequence[int]],
    drawn: Mapping[int, tuple[float, float]],
    now: float,
    devices: int,
) -> float:
    """The end of one play: every device takes the first job that can start."""
    ended: dict[int, float] = {}
    for job in live:
        ended[job.id] = _run(job.window, now, _left(job, *drawn[job.id], now))
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


def _left(job: JobView, steady: float, growing: float, now: float) -> float:
    """Seconds that a live job still takes, in a play in which it takes so many in all. How long its
    forward passes take it tells itself, once some are done."""
    progress = job.progress or {}
    following = [str(name) for name, *_ in progress.get("following") or ()]
    phase = str(progress.get("phase", ""))
    rate = pace(progress, now) if grows(phase) else None
    prices = dict.fromkeys(map(kin, filter(grows, following)), rate) if rate is not None else {}
    own = remaining(progress, now, history=prices)
    ahead = not progress or any(map(grows, [phase, *following]))
    if rate is None and (ahead or not growing):
        return max(own.seconds or 0.0, steady + growing - (job.seconds(now) or 0.0))
    return (own.seconds or 0.0) + (steady if own.at_least or own.seconds is None else 0.0)


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
