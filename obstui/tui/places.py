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


def _gallery() -> Screen[Any]:
    from obstui.tui.screens.gallery import GalleryScreen

    return GalleryScreen()


def _sweeps() -> Screen[Any]:
    from obstui.tui.screens.sweeps import SweepsScreen

    return SweepsScreen()


def _models() -> Screen[Any]:
    from obstui.tui.screens.models import ModelsScreen

    return ModelsScreen()


def _workers() -> Screen[Any]:
    from obstui.tui.screens.workers import WorkersScreen

    return WorkersScreen()


def _report() -> Screen[Any]:
    from obstui.tui.screens.report import ReportScreen

    return ReportScreen()


PLACES: tuple[Place, ...] = (
    Place("queue", "1", "Queue", "All jobs: what runs, what waits, what is over"),
    Place("gallery", "2", "Gallery", "The pictures of all jobs, the newest first", _gallery),
    Place("sweeps", "3", "Sweeps", "Every measured model: quality against size and speed", _sweeps),
    Place("models", "4", "Models", "Dense models and variants: lineage, size, use", _models),
    Place("workers", "5", "Workers", "Workers and GPUs: what each does, what holds it", _workers),
    Place("report", "6", "Report", "While you were away: finished, failed, what is left", _report),
)
