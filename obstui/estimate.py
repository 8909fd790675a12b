"""How long a job still takes, said only as far as it is known.

The rate of the phase under way comes from its own progress; phases still to come are priced from
earlier jobs of the same kind and model. What nobody has measured stays unknown: the answer is then
"at least" the known part, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import Any

MIN_ELAPSED = 3.0
"""Seconds of a phase before its own rate is believed: the first units carry the warm-up."""

MIN_UNITS = 2

_GROWING = frozenset({"calibrate", "generate", "time"})


@dataclass(frozen=True, slots=True)
class PhaseRun:
    """One phase of one attempt; `done` of `total` units were finished when it began `at`."""

    name: str
    total: int
    done: int
    at: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds left. `at_least`: some phase to come has no known price. None: nothing is known."""

    seconds: float | None
    at_least: bool = False


UNKNOWN = Estimate(None)


def kin(phase: str) -> str:
    """What a phase does, without whose turn it is: "generate" for "generate 1@30". Phases that do
    the same have units of about the same price."""
    return phase.partition(" ")[0]


def grows(phase: str) -> bool:
    """Whether the person chooses how many units a phase has, of forward passes or pictures."""
    return kin(phase) in _GROWING


def fraction_done(progress: Mapping[str, Any]) -> float | None:
    """Of the phase under way and those in a row with it that do the same, so that a comparison's
    progress does not begin anew with every model; None where it has no size."""
    total = progress.get("total")
    if not total:
        return None
    passed, same = progress.get("passed") or 0, kin(str(progress.get("phase") or ""))
    row = takewhile(lambda each: kin(each[0]) == same, progress.get("following") or ())
    whole: int = passed + total + sum(units for _, units in row)
    done: int = passed + (progress.get("done") or 0)
    return done / whole


def phase_runs(events: Iterable[tuple[float, Mapping[str, Any]]]) -> list[PhaseRun]:
    """From the (time, payload) of `phase` events, oldest first."""
    return [
        PhaseRun(str(p.get("name", "")), int(p.get("total") or 0), int(p.get("done") or 0), at)
        for at, p in events
    ]


def unit_seconds(runs: Sequence[PhaseRun], finished_at: float) -> dict[str, float]:
    """Seconds per unit of each kind of phase of one finished attempt."""
    ends = [run.at for run in runs[1:]] + [finished_at]
    costs: dict[str, list[float]] = {}
    for run, end in zip(runs, ends, strict=True):
        units = run.total - run.done
        if units > 0 and end > run.at:
            costs.setdefault(kin(run.name), []).append((end - run.at) / units)
    return {name: median(values) for name, values in costs.items()}


def parted(
    phases: Sequence[tuple[float, Mapping[str, Any]]], began: float, ended: float
) -> tuple[float, float] | None:
    """The seconds of one finished attempt beside its calibration or painting, and those that all of
    that would have taken; None if it was all taken over from elsewhere. From the (time, payload) of
    its `phase` events, oldest first."""
    growing = whole = 0.0
    units = own = 0
    ends = [at for at, _ in phases[1:]] + [ended]
    for (at, phase), end in zip(phases, ends, strict=True):
        if grows(str(phase.get("name", ""))):
            total, done = int(phase.get("total") or 0), int(phase.get("done") or 0)
            units += total
            own += total - done
            growing += end - at
            whole += (end - at) * total / (total - done) if done < total else 0.0
    return (ended - began - growing, whole) if own or not units else None


def ready(phases: Sequence[tuple[float, Mapping[str, Any]]], began: float) -> float:
    """Seconds from the beginning of an attempt until its model was loaded, 0 if nothing tells."""
    (_, first), *later = phases or [(began, {})]
    return later[0][0] - began if later and kin(str(first.get("name", ""))) == "load" else 0.0


def typical(histories: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median price of each phase over several finished jobs."""
    costs: dict[str, list[float]] = {}
    for history in histories:
        for name, seconds in history.items():
            costs.setdefault(name, []).append(seconds)
    return {name: median(values) for name, values in costs.items()}


def remaining(
    progress: Mapping[str, Any] | None,
    now: float,
    *,
    history: Mapping[str, float] | None = None,
) -> Estimate:
    """What is left of a job. `progress` is the store's; `history` prices units by what their phase
    does (`kin`)."""
    if not progress:
        return UNKNOWN
    prices = dict(history or {})
    if (own := pace(progress, now)) is not None:
        prices[kin(str(progress.get("phase")))] = own
    current = _current(progress, now, prices)
    if current is None:
        return UNKNOWN
    total, at_least = current, False
    for name, units in progress.get("following") or ():
        if not units:
            continue
        if (price := prices.get(kin(name))) is not None:
            total += price * units
        else:
            at_least = True
    return Estimate(total, at_least)


def pace(progress: Mapping[str, Any], now: float) -> float | None:
    """Seconds a unit that the phase under way takes in this attempt; None while it is too young."""
    fresh, elapsed = _so_far(progress, now)
    return elapsed / fresh if fresh >= MIN_UNITS and elapsed >= MIN_ELAPSED else None


def _so_far(progress: Mapping[str, Any], now: float) -> tuple[int, float]:
    """Units and seconds of this attempt in the phase under way."""
    started = progress.get("phase_started_at")
    elapsed = now - float(started) if started is not None else 0.0
    return int(progress.get("done") or 0) - int(progress.get("resumed_from") or 0), elapsed


def _current(progress: Mapping[str, Any], now: float, prices: Mapping[str, float]) -> float | None:
    """Seconds left of the phase under way, None if nothing tells."""
    done, total = int(progress.get("done") or 0), int(progress.get("total") or 0)
    left = total - done
    if left <= 0:
        return 0.0 if total else None
    if (own := pace(progress, now)) is not None:
        return own * left
    fresh, elapsed = _so_far(progress, now)
    price = prices.get(kin(str(progress.get("phase"))))
    if price is None:
        return None
    # A unit that overruns its price is not late by a negative time: past twice the price we no
    # longer know this job's pace.
    spent = elapsed - price * fresh
    if spent > 2 * price and spent > MIN_ELAPSED:
        return None
    return price * left - min(max(spent, 0.0), price)
