"""The morning report: what happened since somebody last looked, and what is still to come."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obstui.config import Paths
from obstui.finish import Finish, queue_finish
from obstui.measured import reseed_of
from obstui.store import LIVE, JobView, Reader
from obstui.store.stops import QUEUE
from obstui.store.views import STATES

SEEN = "report_seen"
"""The setting that holds when a report was last read."""
FIRST_LOOK = 24 * 3600.0
"""How far back (seconds) the first report of all goes at least."""

GOOD_SSIM, GOOD_ATTRIBUTES = 0.95, 0.02
"""A size is good enough when its pictures keep so much structural similarity with the dense model's
or, where the judge can tell, lose no more than this share of the attributes; but never when they
are further from the dense model's than its own are under another seed."""


@dataclass(frozen=True, slots=True)
class Best:
    """The smallest model of a comparison that is good enough; `good` is False where none is, and
    the nearest is named instead. `pictures` of it were held against the dense model's."""

    job_id: int
    base: str
    model: str
    params: int
    dense_params: int
    quality: str
    good: bool
    pictures: int


def lost_words(number: int) -> str:
    """ "2 attempts were lost and taken up again"."""
    return f"{number} attempt{' was' if number == 1 else 's were'} lost and taken up again"


@dataclass(frozen=True, slots=True)
class Report:
    """`device_seconds`: how long attempts ran on each device; `disk_bytes`: what the jobs that
    ended have left on disk, `all_bytes` what the whole state folder takes (None for a store that
    lies elsewhere). `lost` counts the attempts that were lost and taken up again."""

    since: float
    now: float
    succeeded: tuple[JobView, ...] = ()
    failed: tuple[JobView, ...] = ()
    other: tuple[JobView, ...] = ()
    best: tuple[Best, ...] = ()
    device_seconds: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    disk_bytes: int = 0
    all_bytes: int | None = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    stops: tuple[str, ...] = ()


def collect(
    reader: Reader,
    paths: Paths,
    *,
    since: float,
    now: float,
    measure: Callable[[Path], int] | None = None,
) -> Report:
    """`measure` tells the bytes below a folder (`tree_bytes`). Raises StoreError."""
    measure = measure or tree_bytes
    ended = reader.jobs(ended_since=since, limit=100_000, newest_first=False)
    done = reader.jobs(states=("succeeded",), limit=1_000_000)
    there = {str(made["id"]) for job in done for made in (job.result or {}).get("variants") or ()}
    return Report(
        since=since,
        now=now,
        succeeded=tuple(job for job in ended if job.state == "succeeded"),
        failed=tuple(job for job in ended if job.state in ("failed", "quarantined")),
        other=tuple(job for job in ended if job.state in ("cancelled", "skipped")),
        best=best_sizes((job for job in ended if job.state == "succeeded"), there),
        device_seconds=reader.device_seconds(since, now),
        lost=reader.lost_attempts(since),
        disk_bytes=sum(measure(paths.job(job.ulid)) for job in ended),
        all_bytes=measure(paths.home) if paths.owns(paths.db) else None,
        counts=reader.counts(),
        stops=tuple(
            f"{'the queue' if stop.scope == QUEUE else stop.scope}: {stop.reason}"
            for stop in reader.stops()
        ),
    )


def last_seen(reader: Reader, now: float) -> float | None:
    """When a report was last read; None if none ever was. Raises StoreError."""
    seen = reader.setting(SEEN)
    return seen if isinstance(seen, (int, float)) and 0 < seen <= now else None


def first_look(reader: Reader, now: float) -> float:
    """Where the first report of all begins: so that nothing is missed, with the first job where
    that is more than a day ago. Raises StoreError."""
    oldest = reader.jobs(limit=1, newest_first=False)
    return min([now - FIRST_LOOK, *(job.created_at for job in oldest)])


def finish_of(reader: Reader, now: float) -> Finish:
    """When the queue will be done; nobody can tell while it is paused. Raises StoreError."""
    live, queued = reader.jobs(states=LIVE), reader.in_order()
    if any(stop.scope == QUEUE for stop in reader.stops()):
        return Finish(0, waiting=len(live) + len(queued))
    unfinished = {job.id for job in [*live, *queued]} | {
        job.id for job in reader.jobs(states=("held", "paused"), limit=100_000)
    }
    needs = {
        child: [parent for parent in parents if parent in unfinished]
        for child, parents in reader.all_needs().items()
    }
    alive = sum(worker.alive for worker in reader.workers())
    return queue_finish(
        live, queued, needs, reader.past_runs(), now=now, devices=max(1, alive, len(live))
    )


def best_sizes(jobs: Iterable[JobView], there: Container[str]) -> tuple[Best, ...]:
    """One for each base: by the comparison of most pictures, which tells most surely. `there` are
    the ids of variants that nobody has deleted."""
    found: dict[str, Best] = {}
    for best in filter(None, (best_size(job, there) for job in jobs)):
        known = found.setdefault(best.base, best)
        found[best.base] = max(
            known, best, key=lambda one: (one.pictures, one.good, -one.params, one.job_id)
        )
    return tuple(found.values())


def best_size(job: JobView, there: Container[str]) -> Best | None:
    """What a comparison says about size and quality; None if it measured no variant that is there
    still."""
    from obstui.specs import parse_variant_id

    models: list[dict[str, Any]] = (job.result or {}).get("models") or []
    dense = next((m for m in models if not m.get("sparsity")), None)
    pruned = [
        m for m in models
        if m.get("sparsity") and (m["model"] in there or parse_variant_id(m["model"]) is None)
    ]  # fmt: skip
    if dense is None or not pruned:
        return None

    reseed = reseed_of(job.result)
    another_seed = {"ssim": reseed.ssim, "psnr": reseed.psnr} if reseed else {}

    def loss(model: dict[str, Any]) -> float:
        """How far beyond good enough: at most 0 is good."""
        for key, least in another_seed.items():
            if least is not None and (own := model.get(key)) is not None and own < least:
                return 1.0 + least - float(own)
        if model.get("attributes") is not None and dense.get("attributes") is not None:
            return float(dense["attributes"] - model["attributes"] - GOOD_ATTRIBUTES)
        return float(GOOD_SSIM - (model.get("ssim") or 0.0))

    good = [m for m in pruned if loss(m) <= 1e-9]
    chosen = min(good, key=lambda m: m["params"]) if good else min(pruned, key=loss)
    return Best(
        job_id=job.id,
        base=str(job.spec.get("model", "")),
        model=str(chosen["model"]),
        params=int(chosen["params"]),
        dense_params=int(dense["params"]),
        quality=_quality(chosen, dense),
        good=bool(good),
        pictures=int(chosen.get("pictures") or 0),
    )


def _quality(model: dict[str, Any], dense: dict[str, Any]) -> str:
    parts = []
    if model.get("attributes") is not None:
        parts.append(f"attributes {model['attributes']:.0%}, dense {dense['attributes'] or 0:.0%}")
    if model.get("ssim") is not None:
        parts.append(f"SSIM {model['ssim']:.3f}")
    return "; ".join(parts) or "not measured"


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, as long as they are there; links are not followed."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue
    return total


def shares(jobs: Iterable[JobView]) -> dict[str, int]:
    """How many jobs of each kind."""
    found: dict[str, int] = {}
    for job in jobs:
        found[job.kind] = found.get(job.kind, 0) + 1
    return found
