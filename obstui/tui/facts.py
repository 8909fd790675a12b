"""What the events of one attempt add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from obstui.estimate import PhaseRun
from obstui.text import one_line

if TYPE_CHECKING:
    from obstui.store import EventView


@dataclass(frozen=True, slots=True)
class Target:
    """One target in forward order; the last four are None until it is solved."""

    name: str
    kind: str
    stage: str
    block: int
    units: int
    kept: dict[str, int] | None = None
    error: dict[str, float] | None = None
    seconds: float | None = None
    samples_per_dim: float | None = None

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
    notes: tuple[str, ...] = ()
    last_event: int = 0

    @property
    def levels(self) -> tuple[str, ...]:
        """The sparsities that solved targets report, as text, ascending."""
        found = {level for t in self.targets for level in t.error or ()}
        return tuple(sorted(found, key=float))

    @property
    def resumed_from(self) -> int:
        """Units of the newest phase that were finished before this attempt."""
        return self.phases[-1].done if self.phases else 0


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
    _notes: list[str] = field(default_factory=list)

    def add(self, events: Iterable[EventView]) -> None:
        for event in events:
            self.last_event = max(self.last_event, event.id)
            self._add(event)

    def _add(self, event: EventView) -> None:
        p = event.payload
        match event.kind:
            case "phase":
                self._phases.append(
                    PhaseRun(str(p["name"]), int(p["total"]), int(p.get("done") or 0), event.at)
                )
            case "targets_found":
                self._found = list(p["targets"])
            case "target_solved":
                # Packages after the first are solved for every sparsity by itself.
                known = self._solved.get(p["name"], {})
                merged = {key: {**known.get(key, {}), **p[key]} for key in ("kept", "error")}
                self._solved[p["name"]] = {**p, **merged}
            case "image_saved":
                self._images[p["path"]] = p
            case "model_measured":
                self._models[p["model"]] = p
            case "note":
                self._notes.append(one_line(p["text"], limit=500))

    def facts(self) -> JobFacts:
        return JobFacts(
            job_id=self.job_id,
            attempt=self.attempt,
            phases=tuple(self._phases),
            targets=tuple(self._target(t) for t in self._found),
            images=tuple(self._images.values()),
            models=tuple(self._models.values()),
            notes=tuple(self._notes),
            last_event=self.last_event,
        )

    def _target(self, found: dict[str, Any]) -> Target:
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
        )
