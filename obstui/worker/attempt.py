"""One attempt: relay what the child says, obey the user, judge the end."""

from __future__ import annotations

import errno
import logging
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from obstui.config import Paths
from obstui.store import Refused, Store, StoreError
from obstui.store.views import Claim
from obstui.worker import logs, manifest
from obstui.worker.guard import Guard
from obstui.worker.pairs import compared
from obstui.worker.protocol import ENDINGS, VERSION, Order
from obstui.worker.relay import Relay
from obstui.worker.samples import Sampler
from obstui.worker.supervise import Child
from obstui.worker.verdict import DEVICE_STUCK, STUCK, Ending, Verdict, judge

_log = logging.getLogger(__name__)

_RETRY_AFTER = 60.0
_GRACE = MappingProxyType({"prune": 120.0, "generate": 30.0, "compare": 30.0})
_DONE = {"v": VERSION, "type": "done"}
_NAP = 5.0


def _seconds_asleep() -> float:
    """Seconds that the computer was suspended since it booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `grace` is how long a child may take to reach its next boundary once it was asked to
    stop; then its group gets SIGTERM, and `last_words` later SIGKILL; `unkillable` after that it is
    given up. After `silence` without any line a child counts as hung; every `look` the device's
    state is judged."""

    tick: float = 0.25
    beat: float = 5.0
    keep_warm: float = 120.0
    grace: Mapping[str, float] = field(default_factory=lambda: _GRACE)
    last_words: float = 5.0
    unkillable: float = 30.0
    silence: float = 600.0
    look: float = 5.0


class Attempt:
    """`turn` waits up to a tick for the child or a signal and keeps the worker's heart beating;
    `stops` says how often the worker was told to stop (the second time: at once)."""

    def __init__(
        self,
        store: Store,
        paths: Paths,
        claim: Claim,
        timing: Timing,
        turn: Callable[[Child | None], None],
        stops: Callable[[], int],
        guard: Guard | None = None,
        *,
        tried: bool = False,
    ) -> None:
        self._store = store
        self._paths = paths
        self._claim = claim
        self._timing = timing
        self._turn = turn
        self._stops = stops
        self._relay = Relay(store, claim)
        self._sampler = Sampler()
        self._said: dict[str, Any] | None = None
        self._asked: str | None = None
        self._guard = guard
        self._tried = tried
        self._noisy = False
        self._rungs: list[tuple[float, signal.Signals]] = []
        self._began = self._heard = self._next_look = time.monotonic()
        self._killed_at = float("inf")
        self._asleep, self._oom_kills = _seconds_asleep(), _oom_kills()

    def run(self, hire: Callable[[Path], Child]) -> Child | None:
        """Run the claimed job in the child that `hire` gives for the attempt's folder; that child
        if it may be given another job.

        Raises OSError, before anything was started, if the attempt's folder cannot be written or no
        process can be had.
        """
        claim = self._claim
        order = self._write_order()
        # Read again between claim and start: the user may have cancelled in the meantime.
        self._asked = self._wish()
        if self._asked or self._relay.fenced:
            return self._end(None)
        if self._guard and (no_room := self._guard.room_for(claim.spec)):
            self._put_off(*no_room)
            return None
        child = hire(order.parent)
        self._began = self._heard = time.monotonic()
        child.order(order)
        self._relay.fenced = not self._insist(
            lambda: self._store.started(claim, child.pid, child.identity.start_ticks)
        )
        while not (self._said or self._relay.fenced or child.exited or self._unkillable()):
            self._turn(child)
            self._read(child)
            self._relay.flush()
            self._climb(child)
            self._bound_log(child)
        return self._end(child)

    def give_up(self, err: OSError) -> None:
        """Put the job back, to be tried again later: the machine is at fault, not the job."""
        reason = "disk_full" if err.errno in (errno.ENOSPC, errno.EDQUOT) else "no_process"
        self._put_off(reason, f"The attempt could not be started: {err.strerror or err}.")

    def _put_off(self, reason: str, error: str) -> None:
        _log.warning("job %d: %s", self._claim.job_id, error)
        later = time.time() + _RETRY_AFTER
        self._insist(
            lambda: self._store.put_off(self._claim, reason=reason, error=error, not_before=later)
        )

    def _write_order(self) -> Path:
        claim, paths = self._claim, self._paths
        log = paths.log(claim.ulid, claim.attempt)
        output, work = paths.output(claim.ulid), paths.work(claim.ulid)
        for folder in (log.parent, output, work):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        order = Order(
            job=claim.job_id,
            ulid=claim.ulid,
            attempt=claim.attempt,
            spec=claim.spec,
            variants=claim.variants,
            output=str(output),
            work=str(work),
            hessians=str(paths.hessians),
            log=str(log),
            compared=compared(paths, claim.spec),
        )
        path = log.with_name("order.json")
        order.save(path)
        return path

    def _read(self, child: Child) -> None:
        before = child.garbage
        for message in child.read():
            self._heard = time.monotonic()
            if message["type"] in ENDINGS:
                self._said = message
            else:
                self._measure(message)
                self._relay.take(message)
        if child.garbage > before and not self._noisy:
            self._noisy = True
            self._relay.note("The job's process sent what is no message; it was ignored.")

    def _measure(self, message: dict[str, Any]) -> None:
        """Add what the device says to the progress, and keep a sample of it now and then."""
        progress = message.get("progress")
        if message["type"] != "progress" or not isinstance(progress, dict):
            return
        if self._guard and (reading := self._guard.read()):
            progress["gpu"] = {
                "utilisation": reading.utilisation,
                "power": None if reading.power is None else round(reading.power),
                "temperature": reading.temperature,
            }
        if sample := self._sampler.take(progress):
            self._relay.keep("sample", sample)

    def _bound_log(self, child: Child) -> None:
        """The job holds still for the milliseconds of a cut: one that prints without end would lose
        what it says meanwhile, its last words perhaps."""
        if not logs.too_long(self._log):
            return
        child.signal_group(signal.SIGSTOP)
        try:
            logs.trim(self._log)
        finally:
            child.signal_group(signal.SIGCONT)

    def _wish(self) -> str | None:
        """Why the attempt should stop, as `Ending.asked` has it; None if it should go on."""
        stop = None
        try:
            desired = self._store.desired(self._claim)
            stop = self._store.must_stop(self._claim, ran=time.monotonic() - self._began)
        except StoreError as err:
            _log.warning("job %d: the store does not answer: %s", self._claim.job_id, err)
            desired = "run"
        if desired is None:
            self._relay.fenced = True
        if desired in ("cancel", "pause"):
            return desired
        return "worker" if self._stops() else stop

    def _trouble(self, child: Child) -> str | None:
        """Why a running attempt should stop though nobody asked: it hangs, or is in the way."""
        now = time.monotonic()
        if now - self._heard > self._timing.silence:
            return "hang"
        if self._guard is None or now < self._next_look:
            return None
        self._next_look = now + self._timing.look
        if found := self._guard.in_the_way(child.pid):
            reason, sentence = found
            self._relay.note(f"Makes room: {sentence}.")
            return reason
        return None

    def _climb(self, child: Child) -> None:
        """The ladder: ask the child, then tell the group, then kill it."""
        wish = self._wish()
        if wish is None and self._asked is None:
            wish = self._trouble(child)
        if wish and wish != self._asked:
            self._asked = wish
            if wish in ("cancel", "pause"):
                self._acknowledge("cancelling" if wish == "cancel" else "pausing")
        now = time.monotonic()
        if self._asked and not self._rungs:
            child.terminate()
            patience = now + self._timing.grace.get(self._claim.spec["kind"], 30.0)
            self._rungs = [
                (patience, signal.SIGTERM),
                (patience + self._timing.last_words, signal.SIGKILL),
                (float("inf"), signal.SIGKILL),
            ]
        if self._stops() > 1 or (wish == "cancel" and self._urgent()):
            self._signal(child, signal.SIGKILL)
        while self._rungs and now >= self._rungs[0][0]:
            self._signal(child, self._rungs.pop(0)[1])

    def _signal(self, child: Child, number: signal.Signals) -> None:
        child.signal_group(number)
        if number == signal.SIGKILL:
            self._killed_at = min(self._killed_at, time.monotonic())

    def _unkillable(self) -> bool:
        return time.monotonic() - self._killed_at > self._timing.unkillable

    @property
    def _log(self) -> Path:
        return self._paths.log(self._claim.ulid, self._claim.attempt)

    def _urgent(self) -> bool:
        """Whether the user has asked to cancel for a second time."""
        try:
            return self._store.urgent(self._claim)
        except StoreError:
            return False

    def _acknowledge(self, state: str) -> None:
        try:
            self._store.acknowledge(self._claim, state)
        except StoreError as err:
            _log.warning("job %d: the store does not answer: %s", self._claim.job_id, err)

    def _end(self, child: Child | None) -> Child | None:
        claim = self._claim
        if self._relay.fenced:
            _log.warning("job %d attempt %d: fenced out", claim.job_id, claim.attempt)
            return None
        if child and child.exited:
            # Helpers first: the channel must have no writer left when it is read for the last time.
            child.signal_group(signal.SIGKILL)
            self._read(child)
        self._asked = self._wish() or self._asked
        keep = bool(child and not child.exited and not self._asked and self._said == _DONE)
        patience = 0.0 if self._unkillable() else self._timing.unkillable
        exit_code = None if keep or not child else child.close(patience)
        logs.trim(self._log)
        verdict = judge(
            Ending(
                said=self._said,
                exit_code=exit_code,
                result=manifest.read(self._paths.output(claim.ulid), claim.attempt),
                asked=self._asked,
                log=self._log,
                stuck=bool(child and not keep and exit_code is None),
                starved=_oom_kills() > self._oom_kills,
                tried=self._tried,
                slept=_seconds_asleep() - self._asleep > _NAP,
            ),
            claim.spec["kind"],
        )
        while not self._relay.flush() and self._stops() < 2:
            self._turn(None)
        accepted = self._insist(lambda: self._finish(verdict))
        why = f" ({verdict.reason})" if verdict.reason else ""
        what = f"{verdict.state}{why}" if accepted else f"{verdict.state}{why} was not accepted"
        _log.info("job %d attempt %d: %s", claim.job_id, claim.attempt, what)
        if verdict.reason == STUCK:
            self._insist(self._stop_device)
        if accepted and verdict.state == "succeeded":
            # Checkpoints are for a next attempt, and there is none after this.
            shutil.rmtree(self._paths.work(claim.ulid), ignore_errors=True)
        return child if keep else None

    def _finish(self, verdict: Verdict) -> bool:
        return self._store.finish(
            self._claim,
            verdict.state,
            reason=verdict.reason,
            error=verdict.error,
            result=verdict.result,
            exit_code=verdict.exit_code,
            not_before=verdict.not_before,
            signature=verdict.signature,
        )

    def _stop_device(self) -> bool:
        self._store.stop(self._claim.device, DEVICE_STUCK)
        return True

    def _insist(self, write: Callable[[], bool]) -> bool:
        """Repeat a write until the store answers; False if it refuses, or if the worker has to go
        at once (recovery then finds what is on disk)."""
        while True:
            try:
                return write()
            except Refused as err:
                _log.warning("job %d: %s", self._claim.job_id, err)
                return False
            except StoreError as err:
                _log.warning("job %d: the store does not answer: %s", self._claim.job_id, err)
            if self._stops() > 1:
                return False
            self._turn(None)
