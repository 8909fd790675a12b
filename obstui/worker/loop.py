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

from obstui.config import Paths, Settings
from obstui.errors import Problem
from obstui.store import Reader, Store, StoreError, backup
from obstui.store.views import LIVE, Claim, WorkerView
from obstui.worker import manifest
from obstui.worker.attempt import Attempt, Timing
from obstui.worker.gpu import Device
from obstui.worker.guard import Guard, Limits
from obstui.worker.housekeeping import Housekeeper
from obstui.worker.liveness import DeviceLock, Holder, Process, sweep
from obstui.worker.supervise import CHILD_COMMAND, Child
from obstui.worker.telemetry import Telemetry
from obstui.worker.verdict import DEVICE_STUCK, OUT_OF_MEMORY

_log = logging.getLogger(__name__)

_WARM_KINDS = ("generate", "compare", "bench")
"""A prune changes the model it loads and wants all the memory: it gets a child of its own."""

_ORPHAN_MAY_TAKE, _ORPHAN_GONE_WITHIN = 3.0, 8.0
"""Seconds in which a dead worker's child should end by itself; and, killed, must."""

_STORE_MAY_TAKE = 0.5
"""Seconds that a busy store may hold the worker up: its child wants to be heard, its people obeyed.
What could not be written is tried again at the next turn."""

_CLOSED_FOR = 30.0
"""Seconds that the word that the device is not fit for work holds, unless it is said again."""

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
        settings: Settings | None = None,
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
        self._draining = False
        self._telemetry = Telemetry(device.id, paths.telemetry(device.id))
        self._settings = settings or Settings()
        self._guard = Guard(paths, self._telemetry.read, Limits.of(self._settings))
        self._closed: str | None = None
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
                if self._paths.db.exists():
                    backup.verify(self._paths)
                self._store = Store.open(self._paths)
                self._reader = Reader.open(self._paths)
                self._house = Housekeeper(
                    self._paths, self._store, self._reader, self._settings, self._in_use
                )
                try:
                    self._recover()
                    if self._stop_of_device() == DEVICE_STUCK:
                        # We have its lock, so the process that was stuck is gone.
                        self._store.go(self._device.id)
                    for access in (self._store, self._reader):
                        access.wait_at_most(_STORE_MAY_TAKE)
                    self._beat(force=True)
                    if ready:
                        ready()
                    self._serve(exit_when_idle)
                    self._house.last_backup()
                finally:
                    self._dismiss()
                    self._telemetry.close()
                    self._house.close()
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
        self._sweep()

    @property
    def _mark(self) -> str:
        return f"OBSTUI_DEVICE_LOCK={self._paths.lock(self._device.id)}"

    def _sweep(self) -> None:
        """End what earlier children left behind: nobody but ours may use the device we hold."""
        keep = self._warm.pid if self._warm else None
        if strays := sweep(self._mark, keep):
            _log.warning("ended processes that earlier jobs left behind: %s", strays)

    def _sign(self, child: Child | None) -> None:
        assert self._process is not None
        self._lock.sign(
            Holder(
                worker=self.id,
                db=str(self._paths.db),
                device=self._device.id,
                process=self._process,
                child=child.identity if child else None,
                leaving=self._leaving,
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

        def drain(*_: Any) -> None:
            self._draining = True

        before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, drain)
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
        while not self._leaving:
            version = self._version()
            if version != seen or time.monotonic() >= look_again:
                look_again, seen = time.monotonic() + _LOOK_ANYWAY, version
                if self._fit() and (claim := self._claim()):
                    self._attempt(claim)
                    look_again = 0.0
                    continue
                if exit_when_idle and not self._retries_come():
                    return
            self._turn(None)
            if self._warm and time.monotonic() > self._warm.idle_since + self._timing.keep_warm:
                self._dismiss()

    @property
    def _leaving(self) -> bool:
        return self._draining or self._stops > 0

    def _fit(self) -> bool:
        """Whether the device is fit for a job; if not, its queued jobs say why they wait."""
        found = self._guard.closed()
        try:
            if found is None:
                if self._closed is not None and self._stop_of_device() == self._closed:
                    self._store.go(self._device.id)
                self._closed = None
            elif self._stop_of_device() in (None, self._closed):
                # A person's stop, or the circuit breaker's, is not written over.
                self._closed = found[1]
                until = time.time() + _CLOSED_FOR
                self._store.stop(self._device.id, self._closed, until=until)
        except StoreError as err:
            _log.warning("the store does not answer: %s", err)
        return found is None

    def _stop_of_device(self) -> str | None:
        scopes = {stop.scope: stop.reason for stop in self._reader.stops()}
        return scopes.get(self._device.id)

    def _retries_come(self) -> bool:
        try:
            return self._reader.next_retry() is not None
        except StoreError:
            return True

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
            self._store,
            self._paths,
            claim,
            self._timing,
            self._turn,
            lambda: self._stops,
            self._guard,
            tried=self._ran_out_of_memory(claim),
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
        self._sweep()
        self._job = None
        self._tell_finished(claim.job_id)
        self._beat(force=True)

    def _ran_out_of_memory(self, claim: Claim) -> bool:
        """Whether the attempt before this one did."""
        if claim.attempt == 1:
            return False
        try:
            before = self._reader.attempts(claim.job_id)[-2]
        except (StoreError, IndexError):
            return False
        return before.reason in OUT_OF_MEMORY

    def _tell_finished(self, job_id: int) -> None:
        try:
            job = self._reader.job(job_id)
        except StoreError:
            return
        if job and job.finished:
            self._house.finished(job)

    def _in_use(self) -> bool:
        found = self._guard.closed()
        return found is not None and found[0] == "foreign_gpu"

    def _hire(self, claim: Claim, folder: Path) -> Child:
        """The warm child if it holds the job's model, else a new one."""
        key = claim.spec["model"] if claim.spec["kind"] in _WARM_KINDS else None
        warm = self._warm
        if warm and key is not None and warm.job_key == key and not warm.exited:
            self._warm = None
            return warm
        self._dismiss()
        child = Child(self._command, self._device.id, self._lock.fd, folder, self._mark)
        child.job_key = key
        self._sign(child)
        return child

    def _dismiss(self) -> None:
        """Let the warm child go, and what it holds with it."""
        if self._warm:
            self._warm.close(self._timing.unkillable)
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
            if self._leaving:
                self._sign(child or self._warm)
        self._beat(force=self._wakeup in ready)
        self._house.turn()

    def _beat(self, *, force: bool = False) -> None:
        """Say in the worker's row what it is doing. For people: nothing is decided by it."""
        if not force and time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + self._timing.beat
        state = "draining" if self._leaving else "busy" if self._job is not None else "idle"
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
