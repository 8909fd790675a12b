"""What the dashboard looked like when it was last left: one small file in the state folder."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LIMIT = 256 * 1024
WRITE_AFTER = 0.5


class Remembered:
    """Small values by name. Every write takes in what another dashboard has written meanwhile, so
    that two of them lose no more than the same value set twice.

    Nothing here is worth an error: an unusable file is ignored (`fault` then says so), and a value
    of another type than the default's counts as absent.
    """

    def __init__(self, path: Path | None) -> None:
        """`path` None: remember nothing beyond the end."""
        self._path = path
        self._changed: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self.fault: str | None = None
        self._values = self._read()

    def get(self, key: str, default: T) -> T:
        """What was put under `key`, or `default`."""
        value = self._values.get(key)
        return value if type(value) is type(default) else default

    def put(self, key: str, value: str | int | float | bool | list[Any] | dict[str, Any]) -> None:
        """Keep a JSON value. The file is written a moment later, by another thread."""
        if self._values.get(key) == value and type(self._values.get(key)) is type(value):
            return
        with self._lock:
            self._values[key] = self._changed[key] = value
            if self._path is not None and self._timer is None:
                self._timer = threading.Timer(WRITE_AFTER, self._write)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Write what is not written yet."""
        if self._timer is not None:
            self._timer.cancel()
        self._write()

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(LIMIT))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        self.fault = f"The dashboard starts afresh: {self._path} could not be read."
        return {}

    def _write(self) -> None:
        with self._lock:
            self._timer = None
            if self._path is None or not self._changed:
                return
            merged, self._changed = {**self._read(), **self._changed}, {}
            with contextlib.suppress(OSError, ValueError):
                write_whole(self._path, json.dumps(merged, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, for its owner alone."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
