"""What every test shares."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Keep what the imports made (torch, diffusers: half a million objects) out of every collection
    to come, and collect seldom: they took a third of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
