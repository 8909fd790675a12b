"""One worker on one device: recover, claim, attempt, again."""

from __future__ import annotations

import logging
import os
import secrets
import select
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obstui.config import Paths
from obstui.errors import Problem
from obstui.store import Reader, Store, StoreError
from obstui.store.views import LIVE, Claim, WorkerView
from obstui.worker import manifest
from obstui.worker.attempt import Attempt, Timing
from obstui.worker.gpu import Device
from obstui.worker.liveness import DeviceLock, Holder, Process
from obstui.worker.supervise import CHILD_COMMAND, Child

_log = logging.getLogger(__name__)

_WARM_KINDS = ("generate", "compare")
"""A prune changes the model it loads and wants all the memory: it gets a child of its own."""

_ORPHAN_MAY_TAKE, _ORPHAN_GONE_WITHIN = 3.0, 8.0
"""Seconds in which a dead worker's child should end by itself; and, killed, must."""

_LOOK_ANYWAY = 5.0
"""The queue is looked at when another process has written, and this often in any case (seconds):
the passing of time, too, can make a job due."""


class DeviceTaken(Problem):
    """Another worker holds the device; the message names it."""

    exit_code = 4


class Worker:
    """Serves one device until it is told to stop, or until nothing can start."""

    def __init__(
        self,
        paths: Paths,
        device: Device,
        *,
        child_command: Sequence[str] = CHILD_COMMAND,
        timing: Timing | None = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self._paths = paths
        self._device = device
        self._command = child_command
        self._timing = timing or Timing()
        self._lock = DeviceLock(paths.lock(device.id))
        self._process = Process.of(os.getpid())
        self._started_at = time.time()
        self._next_beat = 0.0
        self._stops = 0
        self._job: int | None = None
        self._warm: Child | None = None
        self._wakeup: socket.socket | None = None

    def run(self, *, exit_when_idle: bool = False, ready: Callable[[], None] | None = None) -> None:
        """Work. `ready` is called once the device is ours and the row says so.

        Must be called from the main thread. Raises DeviceTaken, StoreError, OSError.
        """
        self._take_device()
        try:
            with self._signals():
                self._store = Store.open(self._paths)
                self._reader = Reader.open(self._paths)
                try:
                    self._recover()
                    self._beat(force=True)
                    if ready:
                        ready()
                    self._serve(exit_when_idle)
                finally:
                    self._dismiss()
                    self._leave()
        finally:
            self._lock.release()

    def _take_device(self) -> None:
        """Get the lock. A dead worker's child may hold it for the moment that it needs to notice;
        one that does not notice is killed."""
        path = self._paths.lock(self._device.id)
        began = time.monotonic()
        while not self._lock.take():
            waited = time.monotonic() - began
            holder = Holder.read(path)
            orphaned = holder is None or not holder.process.alive
            if waited > (_ORPHAN_GONE_WITHIN if orphaned else 1.0):
                raise DeviceTaken(_taken_by(self._device, holder))
            if orphaned and waited > _ORPHAN_MAY_TAKE and holder and holder.child:
                holder.child.kill_group()
            time.sleep(0.05)
        self._sign(None)

    def _sign(self, child: Child | None) -> None:
        assert self._process is not None
        self._lock.sign(
            Holder(
                worker=self.id,
                db=str(self._paths.db),
                device=self._device.id,
                process=self._process,
                child=child.identity if child else None,
            )
        )

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count the wishes to stop; any signal ends a wait."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)

        def stop(*_: Any) -> None:
            self._stops += 1

        before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._wakeup = ours
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._wakeup = None
            ours.close()
            theirs.close()

    def _recover(self) -> None:
        """Settle what earlier workers left behind: on this device, and on those that nobody serves
        any more (a GPU that was taken out), whose jobs would else be live for ever."""

        def result_of(ulid: str, attempt: int) -> dict[str, Any] | None:
            return manifest.read(self._paths.output(ulid), attempt)

        live = {job.device for job in self._reader.jobs(states=LIVE)}
        for device in sorted({self._device.id, *filter(None, live)}):
            lock = DeviceLock(self._paths.lock(device))
            if device != self._device.id and not lock.take():
                continue
            for job in self._store.recover(self.id, device, result_of):
                _log.info("job %d: recovered as %s (%s)", job.id, job.state, job.reason)
                if job.state == "succeeded":
                    shutil.rmtree(self._paths.work(job.ulid), ignore_errors=True)
            lock.release()

    def _serve(self, exit_when_idle: bool) -> None:
        look_again, seen = 0.0, None
        while not self._stops:
            version = self._version()
            if version != seen or time.monotonic() >= look_again:
                look_again, seen = time.monotonic() + _LOOK_ANYWAY, version
                if claim := self._claim():
                    self._attempt(claim)
                    look_again = 0.0
                    continue
                if exit_when_idle:
                    return
            self._turn(None)
            if self._warm and time.monotonic() > self._warm.idle_since + self._timing.keep_warm:
                self._dismiss()

    def _version(self) -> int | None:
        try:
            return self._reader.data_version()
        except StoreError as err:
            _log.warning("the store does not answer: %s", err)
            return None

    def _claim(self) -> Claim | None:
        try:
            return self._store.claim(self.id, self._device.id)
        except StoreError as err:
            _log.warning("the store does not answer: %s", err)
            return None

    def _attempt(self, claim: Claim) -> None:
        self._job = claim.job_id
        self._beat(force=True)
        _log.info("job %d attempt %d: claimed", claim.job_id, claim.attempt)
        attempt = Attempt(
            self._store, self._paths, claim, self._timing, self._turn, lambda: self._stops
        )
        child: Child | None = None
        hired: list[Child] = []

        def hire(folder: Path) -> Child:
            hired.append(self._hire(claim, folder))
            return hired[0]

        try:
            child = attempt.run(hire)
        except OSError as err:
            attempt.give_up(err)
        finally:
            for used in hired:
                if used is not child:
                    used.close()
        if child and claim.spec["kind"] in _WARM_KINDS:
            child.idle_since = time.monotonic()
            self._warm = child
        elif child:
            child.close()
        self._job = None
        self._beat(force=True)

    def _hire(self, claim: Claim, folder: Path) -> Child:
        """The warm child if it holds the job's model, else a new one."""
        key = claim.spec["model"] if claim.spec["kind"] in _WARM_KINDS else None
        warm = self._warm
        if warm and key is not None and warm.job_key == key and not warm.exited:
            self._warm = None
            return warm
        self._dismiss()
        child = Child(self._command, self._device.id, self._lock.fd, folder)
        child.job_key = key
        self._sign(child)
        return child

    def _dismiss(self) -> None:
        """Let the warm child go, and what it holds with it."""
        if self._warm:
            self._warm.close()
            self._warm = None

    def _turn(self, child: Child | None) -> None:
        """Wait up to a tick for a line of the child or for a signal; keep the heart beating."""
        assert self._wakeup is not None
        sources: list[Any] = [self._wakeup]
        if child and not child.silent:
            sources.append(child.events)
        ready, _, _ = select.select(sources, [], [], self._timing.tick)
        if self._wakeup in ready:
            self._wakeup.recv(4096)
        self._beat(force=self._wakeup in ready)

    def _beat(self, *, force: bool = False) -> None:
        """Say in the worker's row what it is doing. For people: nothing is decided by it."""
        if not force and time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + self._timing.beat
        state = "draining" if self._stops else "busy" if self._job is not None else "idle"
        try:
            self._store.beat(
                WorkerView(
                    id=self.id,
                    device=self._device.id,
                    device_name=self._device.name,
                    pid=os.getpid(),
                    host=socket.gethostname(),
                    started_at=self._started_at,
                    seen_at=time.time(),
                    state=state,
                    job_id=self._job,
                    alive=True,
                )
            )
        except StoreError as err:
            _log.warning("the store does not answer: %s", err)

    def _leave(self) -> None:
        try:
            self._store.forget_worker(self.id)
        except StoreError as err:
            _log.warning("the store does not answer: %s", err)
        self._reader.close()
        self._store.close()


def _taken_by(device: Device, holder: Holder | None) -> str:
    if holder is None:
        return f"The device {device.id} is taken by another process, which has left no name."
    return (
        f"The device {device.id} is taken by the worker with pid {holder.process.pid} "
        f"(store {holder.db}): stop it first with obstui worker stop."
    )
