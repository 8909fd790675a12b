"""What the events of one attempt add up to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from obstui.estimate import PhaseRun
from obstui.text import one_line

if TYPE_CHECKING:
    from obstui.store import EventView


MOMENTS = 200
"""At most so many steps through a job's history, phases apart: each must show something new."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory in bytes; `high` is the most since the sample before. The last three are None where
    the device does not tell, which includes every processor."""

    at: float
    device: str
    now: int
    high: int
    peak: int
    total: int
    utilisation: int | None = None
    power: int | None = None
    temperature: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One target in forward order; what follows `units` is None until it is known. `gathering`: its
    Hessian is being gathered."""

    name: str
    kind: str
    stage: str
    block: int
    units: int
    kept: dict[str, int] | None = None
    error: dict[str, float] | None = None
    seconds: float | None = None
    samples_per_dim: float | None = None
    held_out: dict[str, float] | None = None
    gathering: bool = False

    @property
    def solved(self) -> bool:
        return self.error is not None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The story of one attempt so far."""

    job_id: int
    attempt: int
    phases: tuple[PhaseRun, ...] = ()
    targets: tuple[Target, ...] = ()
    images: tuple[dict[str, Any], ...] = ()
    models: tuple[dict[str, Any], ...] = ()
    latency: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    forecast: int | None = None
    phase_done: int = 0
    last_event: int = 0
    history: tuple[EventView, ...] = field(default=(), compare=False, repr=False)

    @property
    def levels(self) -> tuple[str, ...]:
        """The sparsities that solved targets report, as text, ascending."""
        found = {level for t in self.targets for level in t.kept or ()}
        return tuple(sorted(found, key=float))

    @property
    def began(self) -> float | None:
        return self.history[0].at if self.history else None

    @property
    def ended(self) -> float | None:
        """When the last thing happened so far."""
        return self.history[-1].at if self.history else None

    def moments(self) -> tuple[float, ...]:
        """The times worth a step of a replay, ascending: every phase, and what else happened, not
        closer together than `MOMENTS` steps allow."""
        if not self.history:
            return ()
        gap = (self.history[-1].at - self.history[0].at) / MOMENTS
        found: list[float] = []
        for event in self.history:
            away = event.at - found[-1] if found else gap
            if (event.kind == "phase" and away > 0) or away > gap or not found:
                found.append(event.at)
        if self.history[-1].at > found[-1]:
            found.append(self.history[-1].at)
        return tuple(found)

    def until(self, at: float) -> JobFacts:
        """The story as it stood at a time."""
        fold = Fold(self.job_id, self.attempt)
        fold.add(self.history[: bisect_right(self.history, at, key=lambda event: event.at)])
        return fold.facts()


@dataclass(slots=True)
class Fold:
    """Adds events up, oldest first."""

    job_id: int
    attempt: int
    last_event: int = 0
    _phases: list[PhaseRun] = field(default_factory=list)
    _found: list[dict[str, Any]] = field(default_factory=list)
    _solved: dict[str, dict[str, Any]] = field(default_factory=dict)
    _images: dict[str, dict[str, Any]] = field(default_factory=dict)
    _models: dict[str, dict[str, Any]] = field(default_factory=dict)
    _latency: dict[str, dict[str, Any]] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _samples: list[Sample] = field(default_factory=list)
    _held_out: dict[str, dict[str, float]] = field(default_factory=dict)
    _round: tuple[int, int] | None = None
    _forecast: int | None = None
    _done: int = 0
    _history: list[EventView] = field(default_factory=list)
    _told: JobFacts | None = None

    def add(self, events: Iterable[EventView]) -> None:
        for event in events:
            self._told = None
            self.last_event = max(self.last_event, event.id)
            self._history.append(event)
            self._add(event)

    def _add(self, event: EventView) -> None:
        p = event.payload
        match event.kind:
            case "phase":
                self._phases.append(
                    PhaseRun(str(p["name"]), int(p["total"]), int(p.get("done") or 0), event.at)
                )
                self._done = self._phases[-1].done
            case "targets_found":
                self._found = list(p["targets"])
            case "round_begun":
                self._round = int(p["first"]), int(p["count"])
            case "checkpoint_saved":
                self._done = max(self._done, int(p["done"]))
            case "sample":
                self._samples.append(_sample(event.at, p))
                self._done = max(self._done, int(p.get("done") or 0))
            case "target_solved":
                # Packages after the first are solved for every sparsity by itself.
                known = self._solved.get(p["name"], {})
                merged = {key: {**known.get(key, {}), **p[key]} for key in ("kept", "error")}
                self._solved[p["name"]] = {**p, **merged}
                if self._phase in ("solve", "order") and not p.get("reused"):
                    self._done += 1
            case "held_out_measured":
                for name, error in p["error"].items():
                    self._held_out.setdefault(name, {})[str(p["sparsity"])] = error
            case "memory_measured":
                self._forecast = p.get("forecast")
            case "variant_saved" if self._phase == "save":
                self._done += 1
            case "image_saved":
                self._images[p["path"]] = p
            case "model_measured":
                self._models[p["model"]] = p
            case "model_timed" if not p.get("again"):
                self._latency[p["model"]] = p
            case "note":
                self._notes.append(one_line(p["text"], limit=500))

    def facts(self) -> JobFacts:
        """The same object until something is added: hundreds of targets are not told twice."""
        if self._told is None:
            self._told = self._tell()
        return self._told

    def _tell(self) -> JobFacts:
        return JobFacts(
            job_id=self.job_id,
            attempt=self.attempt,
            phases=tuple(self._phases),
            targets=tuple(self._target(t, place) for place, t in enumerate(self._found)),
            images=tuple(self._images.values()),
            models=tuple(self._models.values()),
            latency=tuple(self._latency.values()),
            notes=tuple(self._notes),
            samples=tuple(self._samples),
            forecast=self._forecast,
            phase_done=min(self._done, self._phases[-1].total) if self._phases else 0,
            last_event=self.last_event,
            history=tuple(self._history),
        )

    @property
    def _phase(self) -> str:
        return self._phases[-1].name if self._phases else ""

    def _gathers(self, place: int) -> bool:
        """Whether the calibration under way is for the target at this place. Jobs of before the
        rounds were told calibrate all at once."""
        first, count = self._round or (0, len(self._found))
        return self._phase == "calibrate" and first <= place < first + count

    def _target(self, found: dict[str, Any], place: int) -> Target:
        solved = self._solved.get(found["name"], {})
        return Target(
            name=one_line(found["name"], limit=160),
            kind=str(found["kind"]),
            stage=one_line(found["stage"], limit=12),
            block=int(found["block"]),
            units=int(found["units"]),
            kept=solved.get("kept"),
            error=solved.get("error"),
            seconds=solved.get("seconds"),
            samples_per_dim=solved.get("samples_per_dim"),
            held_out=self._held_out.get(found["name"]),
            gathering=not solved and self._gathers(place),
        )


def _sample(at: float, p: dict[str, Any]) -> Sample:
    now = int(p.get("now") or 0)
    return Sample(
        at=at,
        device=str(p.get("device") or ""),
        now=now,
        high=max(now, int(p.get("high") or 0)),
        peak=int(p.get("peak") or now),
        total=int(p.get("total") or 0),
        utilisation=p.get("utilisation"),
        power=p.get("power"),
        temperature=p.get("temperature"),
    )
