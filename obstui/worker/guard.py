"""Whether the machine is fit for the next job, and whether the running one should make room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstui.config import Paths, Settings
from obstui.errors import Problem
from obstui.telemetry import Reading
from obstui.text import one_line

GIB = 1 << 30
_MEMORY_MARGIN = 1.05
_DISK_MARGIN = 1.2


@dataclass(frozen=True, slots=True)
class Limits:
    """`foreign` is how much of the device's memory (bytes) another process may take before a job
    makes room for it; `hot` is where work stops until the device is `cooled` degrees cooler;
    `disk` is what must stay free (bytes) besides what the job is forecast to write."""

    foreign: int = GIB
    hot: int = 87
    cooled: int = 10
    disk: int = 256 << 20

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that people have set."""
        return cls(
            foreign=int(settings.foreign_gib * GIB),
            hot=int(settings.hot),
            disk=int(settings.min_disk_gib * GIB),
        )


class Guard:
    """Judges readings of one device. `read` gives the newest, or None where nobody can tell."""

    def __init__(
        self, paths: Paths, read: Callable[[], Reading | None], limits: Limits | None = None
    ) -> None:
        self._paths = paths
        self.read = read
        self._limits = limits or Limits()
        self._hot = False

    def closed(self) -> tuple[str, str] | None:
        """Why no job can start on the device now, as reason and sentence; None if one can."""
        free = _disk_free(self._paths.home)
        if free is not None and free < self._limits.disk:
            return "disk_full", f"only {_size(free)} are free on the disk of {self._paths.home}"
        return self.in_the_way(None)

    def in_the_way(self, child: int | None) -> tuple[str, str] | None:
        """Why the job that `child` runs should make room now, as reason and sentence."""
        reading = self.read()
        if reading is None:
            return None
        if (heat := reading.temperature) is not None:
            self._hot = heat >= self._limits.hot - (self._limits.cooled if self._hot else 0)
            if self._hot:
                return "thermal", f"the device is too hot ({heat} °C)"
        for pid, used in reading.users:
            if used >= self._limits.foreign and _foreign(pid, child):
                who = f"{_name(pid)}, pid {pid}"
                return "foreign_gpu", f"another program uses the device ({who}: {_size(used)})"
        return None

    def room_for(self, spec: dict[str, Any]) -> tuple[str, str] | None:
        """Why there is no room for a job now although there may be later, as reason and sentence.

        A job that no amount of waiting would make fit is let through: the engine says what to
        change.
        """
        from obstui import plan, specs

        try:
            job = specs.parse(spec)
            forecast = plan.make(job)
        except (Problem, ValueError):
            return None
        need = int(sum(forecast.disk.values()) * _DISK_MARGIN) + self._limits.disk
        free = _disk_free(self._paths.home)
        if free is not None and free < need:
            return "disk_full", (
                f"The job will write about {_size(need)}, and only {_size(free)} are free on the "
                f"disk of {self._paths.home}."
            )
        reading = self.read()
        if reading and not _fits(plan, job, reading.free) and _fits(plan, job, reading.total):
            return "gpu_busy", (
                f"Only {_size(reading.free)} of the device's {_size(reading.total)} are free: "
                "too little for this job."
            )
        return None


def _fits(plan: Any, job: Any, memory: int) -> bool:
    try:
        plan.make(job, memory / GIB / _MEMORY_MARGIN)
    except Problem:
        return False
    return True


def _foreign(pid: int, child: int | None) -> bool:
    """Whether a process is none of the child's session. One that cannot be seen (the driver names
    pids of another namespace) is not judged: it may well be the child itself."""
    try:
        return os.getsid(pid) != child
    except OSError:
        return False


def _name(pid: int) -> str:
    try:
        return one_line(Path(f"/proc/{pid}/comm").read_text(), limit=40)
    except OSError:
        return "a process"


def _disk_free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size >> 20} MiB"
