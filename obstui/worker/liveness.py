"""Who lives: the kernel's lock on a device, and the identity of a process.

A worker lives as long as its device's lock is held. The lock is inherited by the child, so a device
is free only when the child is gone too. The kernel lets go of it when the last holder dies: no
clock, no lease. What is written in the lock file is a message for people and for careful kills.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from obstui.store.reader import held


@dataclass(frozen=True, slots=True)
class Process:
    """A process no other can be mistaken for: a pid comes again, these three together do not."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has `pid` now; None if there is none, or only its zombie."""
        ticks = start_ticks(pid)
        return None if ticks is None else cls(pid, ticks, boot_id())

    @property
    def alive(self) -> bool:
        return self.boot_id == boot_id() and start_ticks(self.pid) == self.start_ticks

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process; False if it is gone. Raises PermissionError."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # Looked at after the handle was taken: what we looked at is what gets the signal.
            if not self.alive:
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def kill_group(self) -> bool:
        """SIGKILL the process group that this process leads; False if it is gone."""
        if not self.alive or os.getpgid(self.pid) != self.pid:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return True


def sweep(mark: str, keep: int | None = None) -> list[int]:
    """SIGKILL every process that has `mark` (NAME=VALUE) in its environment, and is not in the
    session of `keep`; their pids. It finds the helpers of a dead child that left its process group.
    """
    swept = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found = mark.encode() in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        process = Process.of(int(folder.name)) if found else None
        if process and process.pid != os.getpid() and not _in_session(process.pid, keep):
            with contextlib.suppress(PermissionError):
                process.send(signal.SIGKILL)
                swept.append(process.pid)
    return swept


def _in_session(pid: int, leader: int | None) -> bool:
    try:
        return leader is not None and os.getsid(pid) == leader
    except ProcessLookupError:
        return True


@cache
def boot_id() -> str:
    """Names this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None if there is no such process, or only its
    zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name stands in parentheses and may hold both spaces and parentheses.
    fields = stat[stat.rfind(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@dataclass(frozen=True, slots=True)
class Holder:
    """The message in a lock file: who took the device, the child it started last, and whether it
    takes no more jobs."""

    worker: str
    db: str
    device: str
    process: Process
    child: Process | None = None
    leaving: bool = False

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """The message in `path`; None if there is none that can be read."""
        try:
            data = json.loads(path.read_bytes())
            child = data.pop("child")
            return cls(
                process=Process(**data.pop("process")),
                child=Process(**child) if child else None,
                **data,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


class DeviceLock:
    """The exclusive right to a device, from `take` until `release` or the death of all holders."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = -1

    def take(self) -> bool:
        """Try to get the lock; False if another holds it. Raises OSError (an unusable folder)."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self.fd = fd
        return True

    def sign(self, holder: Holder) -> None:
        """Write the message. In place: a renamed file would be another lock."""
        text = json.dumps(asdict(holder)).encode()
        os.pwrite(self.fd, text, 0)
        os.ftruncate(self.fd, len(text))

    def release(self) -> None:
        """Let go. The file stays: a removed one could be locked by two."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def holders(locks: Path) -> Iterator[tuple[Path, Holder | None]]:
    """Every lock in the folder that is held, with its message."""
    for path in sorted(locks.glob("*.lock")):
        if held(path):
            yield path, Holder.read(path)
