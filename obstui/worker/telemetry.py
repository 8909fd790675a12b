"""Asking how a device is doing, without ever waiting for its driver."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

from obstui.telemetry import Reading, publish
from obstui.worker import python

_STALE_AFTER = 10.0
_ASK_AGAIN_AFTER = 30.0
_HELD = 64 << 10


class Telemetry:
    """Watches one device through a side process that asks the driver; `read` never waits for it.

    A processor, or a GPU without NVML, has no readings. A side process that hangs in the driver is
    killed and left alone: another is started only after it has died.
    """

    def __init__(self, device: str, published: Path | None = None) -> None:
        """Readings are published at this path."""
        self._device, self._published = device, published
        self._process: subprocess.Popen[bytes] | None = None
        self._partial = b""
        self._last: Reading | None = None
        self._read_at = self._started_at = -_ASK_AGAIN_AFTER

    def read(self) -> Reading | None:
        """The newest reading; None if there is none younger than ten seconds."""
        if self._device == "cpu":
            return None
        now = time.monotonic()
        process = self._process
        if process is None or process.poll() is not None:
            if now - self._started_at >= _ASK_AGAIN_AFTER:
                self._start()
            return None
        assert process.stdout is not None
        try:
            while data := os.read(process.stdout.fileno(), _HELD):
                self._take(data, now)
        except BlockingIOError:
            pass
        if now - max(self._read_at, self._started_at) > _STALE_AFTER:
            process.kill()
            self._last = None
        return self._last

    def _take(self, data: bytes, now: float) -> None:
        *lines, self._partial = (self._partial + data)[-_HELD:].split(b"\n")
        for line in lines[-1:]:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._last = Reading.of(json.loads(line))
                self._read_at = now
                if self._published is not None:
                    publish(self._published, self._last)

    def _start(self) -> None:
        self._close_pipes()
        self._started_at, self._partial, self._last = time.monotonic(), b"", None
        try:
            self._process = subprocess.Popen(
                python.module("obstui.worker.gpu", self._device),
                env=python.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            self._process = None
            return
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def _close_pipes(self) -> None:
        if self._process:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    pipe.close()

    def close(self) -> None:
        """End the side process, without waiting for it."""
        self._close_pipes()
        if self._process:
            self._process.kill()
            self._process.poll()
            self._process = None
