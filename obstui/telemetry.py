"""How a device is doing, as its worker last read it: a small file for whoever looks on.

The worker asks the driver anyway, to guard its job; a dashboard that asked too would wait for a
driver that hangs. The file lies outside the store so that a new temperature wakes nobody up.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STALE_AFTER = 15.0
_LIMIT = 64 << 10


@dataclass(frozen=True, slots=True)
class Reading:
    """Memory in bytes, temperature in degrees Celsius, utilisation in percent, power in watts
    (None: the device does not tell). `users` are the processes that compute on the device: pid,
    bytes."""

    free: int
    total: int
    temperature: int | None
    users: tuple[tuple[int, int], ...]
    utilisation: int | None = None
    power: float | None = None

    @classmethod
    def of(cls, said: dict[str, object]) -> Reading:
        """From JSON. Raises ValueError, KeyError, TypeError."""
        temperature, utilisation = said["temperature"], said.get("utilisation")
        power = said.get("power")
        users: list[tuple[int, int]] = said["users"]  # type: ignore[assignment]
        return cls(
            free=int(said["free"]),  # type: ignore[call-overload]
            total=int(said["total"]),  # type: ignore[call-overload]
            temperature=None if temperature is None else int(str(temperature)),
            users=tuple((int(pid), int(used)) for pid, used in users),
            utilisation=None if utilisation is None else int(str(utilisation)),
            power=None if power is None else float(str(power)),
        )


def publish(path: Path, reading: Reading) -> None:
    """Let others see a reading. A full disk costs them the sight, not the worker its job."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        with os.fdopen(handle, "w") as file:
            json.dump({"at": time.time(), **asdict(reading)}, file)
        os.replace(name, path)


def published(path: Path, now: float) -> Reading | None:
    """The reading at `path`, unless there is none younger than `STALE_AFTER` seconds."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_LIMIT))
        return Reading.of(said) if abs(now - float(said["at"])) <= STALE_AFTER else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
