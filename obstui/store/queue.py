"""The store as its writers see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from obstui.config import Paths
from obstui.store.connection import prepare, writer_engine
from obstui.store.enqueue import Enqueueing
from obstui.store.ownership import Ownership
from obstui.store.requests import Requests
from obstui.store.stops import Stops
from obstui.store.upkeep import Upkeep


class Store(Enqueueing, Requests, Ownership, Stops, Upkeep):
    """One connection that writes: what people ask (`Enqueueing`, `Requests`), what workers do
    (`Ownership`), what holds everything up (`Stops`), and the housekeeping (`Upkeep`)."""

    @classmethod
    def open(cls, paths: Paths, *, clock: Callable[[], float] = time.time) -> Self:
        """Open the store; make it if there is none. Raises StoreError, the file unchanged."""
        prepare(paths)
        store = cls(paths, writer_engine(paths.db), clock)
        with store._write():
            pass  # a store that cannot be locked or written says so now
        return store
