"""The places of the dashboard, each a screen that its key shows from any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.screen import Screen


@dataclass(frozen=True, slots=True)
class Place:
    """`factory` makes the screen, importing it only then; None is the queue, which is always
    there beneath the others."""

    name: str
    key: str
    label: str
    tooltip: str
    factory: Callable[[], Screen[Any]] | None = None


PLACES: tuple[Place, ...] = (
    Place("queue", "1", "Queue", "All jobs: what runs, what waits, what is over"),
)
