"""What every test shares."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Keep what the imports made (torch, diffusers: half a million objects) out of every collection
    to come: they took a fifth of the tests' time."""
    gc.collect()
    gc.freeze()
