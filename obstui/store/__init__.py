"""The queue in SQLite: `Store` writes, `Reader` reads; neither hands out a row or a session."""

from obstui.store.connection import BATCH
from obstui.store.errors import NotFound, Refused, StoreError
from obstui.store.images import ImageFilter, ImageView
from obstui.store.queue import Store
from obstui.store.reader import Reader
from obstui.store.views import (
    LIVE,
    STATES,
    TERMINAL,
    WAITING,
    AttemptView,
    Claim,
    EventView,
    JobView,
    Notice,
    PastRun,
    StopView,
    SweepView,
    WorkerView,
)

__all__ = [
    "BATCH",
    "LIVE",
    "STATES",
    "TERMINAL",
    "WAITING",
    "AttemptView",
    "Claim",
    "EventView",
    "ImageFilter",
    "ImageView",
    "JobView",
    "NotFound",
    "Notice",
    "PastRun",
    "Reader",
    "Refused",
    "StopView",
    "Store",
    "StoreError",
    "SweepView",
    "WorkerView",
]
