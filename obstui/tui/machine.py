"""What the top of the screen says about the machine: its devices, its disk, when it will be done.

Everything is read in the follower's thread, and rounded so that it differs only when a person would
see the difference.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from obstui.telemetry import Reading, published
from obstui.tui.acts import LIVE

if TYPE_CHECKING:
    from pathlib import Path

    from obstui.config import Paths
    from obstui.finish import Finish
    from obstui.store import Reader, WorkerView

GIB = 1 << 30
LITTLE_DISK = 10 * GIB

FINISH_EVERY = 10.0
FINISH_JOBS = 500
"""Seconds between two estimates of the queue's end, and the longest queue that gets one: its plays
cost time in proportion, and nobody plans an evening by what 500 jobs will take."""

_FAR, _FAR_STEP = 1800.0, 300.0
"""Seconds from which on the queue's end is told in such steps."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`devices`: the newest reading of each device that has one. `disk_free` in bytes."""

    devices: Mapping[str, Reading] = field(default_factory=dict)
    finish: Finish | None = None
    disk_free: int | None = None


class MachineWatch:
    """Remembers what need not be read each time."""

    def __init__(self, paths: Paths, clock: Callable[[], float]) -> None:
        self._paths, self._clock = paths, clock
        self._finish: Finish | None = None
        self._finish_at = -FINISH_EVERY

    def look(
        self, workers: Sequence[WorkerView], reader: Reader, counts: Mapping[str, int]
    ) -> Machine:
        """After the store has changed. Raises StoreError."""
        now = time.monotonic()
        jobs = sum(counts.get(state, 0) for state in ("queued", *LIVE))
        if not 0 < jobs <= FINISH_JOBS or not any(worker.alive for worker in workers):
            self._finish = None
        elif now - self._finish_at >= FINISH_EVERY:
            from obstui.report import finish_of

            self._finish_at = now
            self._finish = _calm(finish_of(reader, self._clock()), self._clock())
        return self.glance(Machine(finish=self._finish), workers)

    def glance(self, machine: Machine, workers: Sequence[WorkerView]) -> Machine:
        """What changes without the store."""
        now, devices = self._clock(), {}
        for worker in workers:
            if worker.alive and (reading := published(self._paths.telemetry(worker.device), now)):
                devices[worker.device] = _rounded(reading)
        free = free_bytes(self._paths.home)
        unit = GIB if free is not None and free >= LITTLE_DISK else GIB // 10
        return dataclasses.replace(
            machine, devices=devices, disk_free=None if free is None else free // unit * unit
        )


def free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _rounded(reading: Reading) -> Reading:
    """Without the digits that nobody is shown."""
    return dataclasses.replace(
        reading,
        free=reading.free // (GIB // 10) * (GIB // 10),
        power=None if reading.power is None else float(round(reading.power)),
    )


def _calm(finish: Finish, now: float) -> Finish:
    """To the next whole minute, or five where it is far off: a time that is over would be no
    forecast."""
    if finish.p50 is None or finish.p90 is None:
        return finish
    step = _FAR_STEP if finish.p50 - now > _FAR else 60.0
    early, late = (math.ceil(at / step) * step for at in (finish.p50, finish.p90))
    return dataclasses.replace(finish, p50=early, p90=late)


def process_name(pid: int) -> str:
    """What a process of this machine is called; its number alone where nobody may know."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return file.read(64).strip() or str(pid)
    except OSError:
        return str(pid)


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
