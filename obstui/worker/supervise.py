"""One child process: spawn it, give it orders, read what it says, stop it, reap it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obstui.worker import python
from obstui.worker.liveness import Process
from obstui.worker.protocol import Lines, run_line

CHILD_COMMAND = tuple(python.module("obstui.worker.child"))
_READ_AT_ONCE = 64 << 10
_READS_A_TURN = 64
_EVENTS_HELD = 1 << 20


class Child:
    """A child in a session of its own. It is told what to do on the orders pipe, which is also its
    life line: when the worker dies, however it dies, the pipe ends and the child kills its group.

    `mark` (NAME=VALUE) is in its environment and in its helpers', to find those that stray.
    `job_key` says what the child holds warm: the worker hands it only jobs with the same key.
    Raises OSError from the constructor if no process can be started.
    """

    def __init__(
        self, command: Sequence[str], device: str, lock_fd: int, folder: Path, mark: str
    ) -> None:
        orders_read, self._orders = os.pipe()
        self.events, events_write = os.pipe()
        os.set_blocking(self.events, False)
        with contextlib.suppress(OSError):
            # Minutes of progress: the child goes on while the store makes the worker wait.
            fcntl.fcntl(self.events, fcntl.F_SETPIPE_SZ, _EVENTS_HELD)
        os.set_blocking(self._orders, False)
        try:
            self._process = subprocess.Popen(
                [*command, str(orders_read), str(events_write)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=python.environment(device) | dict([mark.split("=", 1)]),
                pass_fds=(orders_read, events_write, lock_fd),
                start_new_session=True,
                umask=0o077,
            )
        except OSError:
            os.close(self.events)
            os.close(self._orders)
            raise
        finally:
            os.close(orders_read)
            os.close(events_write)
        self._lines = Lines()
        self.silent = False
        self._closed = False
        self.job_key: str | None = None
        self.idle_since = 0.0
        # Not yet waited for: even if it has died already, its pid is still its own.
        found = Process.of(self.pid)
        self.identity = found or Process(self.pid, 0, "")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def garbage(self) -> int:
        """Lines so far that were no messages."""
        return self._lines.garbage

    def order(self, path: Path) -> None:
        """Order the run that the order file describes. A child that is gone, or too stuck to read
        an order, shows in `exited` or in its silence."""
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(self._orders, run_line(path))

    def read(self) -> list[dict[str, Any]]:
        """The messages that have come. Bounded, so that a flood cannot keep the worker from all
        else; sets `silent` when the child has closed its end."""
        messages: list[dict[str, Any]] = []
        for _ in range(_READS_A_TURN):
            if self.silent:
                break
            try:
                data = os.read(self.events, _READ_AT_ONCE)
            except BlockingIOError:
                break
            self.silent = not data
            messages += self._lines.feed(data)
        return messages

    @property
    def exited(self) -> bool:
        """Whether the child has ended. It stays a zombie until `close`, so its pid, which names its
        group, cannot become another's."""
        if self._process.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def terminate(self) -> None:
        """Ask the child, not its helpers, to stop at the next boundary."""
        if not self.exited:
            os.kill(self.pid, signal.SIGTERM)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the child and its helpers."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def close(self, patience: float = 30.0) -> int | None:
        """Kill what is left of the group, reap the child; its exit code, -N for signal N. After
        this nothing more can be read.

        None if it does not die within `patience` seconds, because a call into a driver holds it:
        it keeps the device's lock for as long as that lasts.
        """
        if not self._closed:
            self._closed = True
            self.signal_group(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
            os.close(self.events)
            os.close(self._orders)
            self.silent = True
        return self._process.poll()
