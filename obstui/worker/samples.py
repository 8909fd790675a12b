"""The curve of an attempt: how much memory it took and how the device was, few enough to keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

_AT_LEAST_EVERY = 5.0
_SHARE = 120
"""From ten minutes on, samples come further apart: each after another 120th of the time so far. A
night of twelve hours has about 630 of them, some 80 KB."""

_OF_MEMORY = ("device", "now", "peak", "total")
_OF_GPU = ("utilisation", "power", "temperature")


class Sampler:
    """Picks from the progress of one attempt what is worth keeping."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._due = self._began
        self._high = 0

    def take(self, progress: Mapping[str, Any]) -> dict[str, Any] | None:
        """A sample if one is due. `high` is the most memory (bytes) since the sample before."""
        memory = progress.get("memory")
        if not isinstance(memory, Mapping) or not isinstance(memory.get("now"), int):
            return None
        self._high = max(self._high, memory["now"])
        now = self._clock()
        if now < self._due:
            return None
        self._due = now + max(_AT_LEAST_EVERY, (now - self._began) / _SHARE)
        gpu = progress.get("gpu") or {}
        sample = {key: memory.get(key) for key in _OF_MEMORY}
        sample |= {key: gpu[key] for key in _OF_GPU if gpu.get(key) is not None}
        sample |= {"high": self._high, "done": progress.get("done")}
        self._high = 0
        return sample
