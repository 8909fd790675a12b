"""What readers of the store get: plain values, detached from any session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LIVE = ("starting", "running", "pausing", "cancelling")
"""States owned by a worker: the row names worker, device and attempt."""

WAITING = ("held", "queued", "paused")

TERMINAL = ("succeeded", "failed", "cancelled", "skipped", "quarantined")

STATES = WAITING + LIVE + TERMINAL


@dataclass(frozen=True, slots=True)
class JobView:
    """One job. Times are seconds since the epoch. `blocked` is the sentence that says why a queued
    job does not start, or a live one does not go on (None when it can). `progress` is the newest
    coalesced line of the child: phase, passed (units of the phases right before it that did the
    same), done, total, unit, detail, phase_started_at, resumed_from (units done when it began),
    following, preview (path), memory {device, now, peak, total}
    (bytes), gpu {utilisation, power, temperature} (%, W, °C; absent without NVML). `result` is set
    once the job has succeeded; its paths are absolute, those of the job's own files below the state
    folder of now. `started_at` is the newest attempt's, `ran` the seconds of all that are over."""

    id: int
    ulid: str
    kind: str
    name: str
    spec: dict[str, Any]
    state: str
    desired: str
    reason: str | None
    error: str | None
    blocked: str | None
    priority: int
    attempt: int
    device: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    version: int
    window: str | None = None
    max_runtime: float | None = None
    sweep_id: int | None = None
    ran: float = 0.0

    def seconds(self, now: float) -> float | None:
        """That its attempts have run until now; None if there was none yet."""
        if not self.attempt:
            return None
        return self.ran + (now - (self.started_at or now) if self.live else 0.0)

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def finished(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class EventView:
    """One fact in a job's history; `id` grows with time over the whole store."""

    id: int
    job_id: int
    attempt: int
    at: float
    kind: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AttemptView:
    number: int
    worker: str
    device: str
    pid: int | None
    started_at: float
    finished_at: float | None
    state: str | None
    reason: str | None
    error: str | None
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as it last described itself. `alive` says whether its lock is held right now."""

    id: str
    device: str
    device_name: str
    pid: int
    host: str
    started_at: float
    seen_at: float
    state: str
    job_id: int | None
    alive: bool


@dataclass(frozen=True, slots=True)
class StopView:
    """Nothing starts on `scope` (a device, or "*" for all), until the time `until` if it is set."""

    scope: str
    reason: str
    since: float
    until: float | None
    urgent: bool


@dataclass(frozen=True, slots=True)
class SweepView:
    """Jobs queued together: how many of them are in each state."""

    id: int
    name: str
    created_at: float
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class PastRun:
    """A job that has succeeded, and the seconds that all its attempts took together. `growing` are
    those of them that grow with its number of forward passes, as if none had been taken over from
    elsewhere, and `steady` the others; None if nothing tells them apart. `ready` are those of the
    steady ones until its model was loaded, 0 if nothing tells, and `warm` says that a process took
    it which had run a job before, and may have had the model."""

    spec: dict[str, Any]
    seconds: float
    device: str | None = None
    steady: float = 0.0
    growing: float | None = None
    ready: float = 0.0
    warm: bool = False

    def price(self, work: float) -> tuple[float, float]:
        """Seconds whatever there is to do, and for a unit of work, where this job did so many."""
        if self.growing is None:
            return 0.0, self.seconds / work
        return self.steady, self.growing / work


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the person; `payload` depends on `kind`: failed, quarantined, stop, ..."""

    id: int
    key: str
    at: float
    kind: str
    payload: dict[str, Any]
    tries: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A job taken by a worker: every later write of the attempt is fenced by these three:
    job, attempt, worker. `variants` maps each variant the spec names to its folder."""

    job_id: int
    ulid: str
    attempt: int
    worker: str
    device: str
    spec: dict[str, Any]
    variants: dict[str, str]
