"""The paths in what jobs recorded: absolute when they were written, and a state folder may be
copied or moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from obstui.config import Paths

FILES = ("path", "thumbnail")
"""The keys of what a result's manifest guards."""
_PLACES = (*FILES, "folder", "preview")


def map_paths(value: Any, change: Callable[[str], str], keys: Sequence[str] = FILES) -> Any:
    """A copy of `value` with every path in it changed."""
    if isinstance(value, dict):
        return {
            key: change(item)
            if key in keys and isinstance(item, str)
            else map_paths(item, change, keys)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [map_paths(item, change, keys) for item in value]
    return value


def at_home(paths: Paths, ulid: str, value: Any) -> Any:
    """What a job recorded, with the paths of its own files below the state folder of now: a copied
    state folder never reads, nor deletes, the files of the one that it was copied from."""
    folder = f"/jobs/{ulid}/"
    here = f"{paths.home}{folder}"

    def settled(path: str) -> str:
        # A picture inside the store begins otherwise.
        _, own, rest = path.partition(folder) if path.startswith("/") else (path, "", "")
        return here + rest if own else path

    return map_paths(value, settled, _PLACES)
