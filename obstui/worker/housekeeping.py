"""What one worker of the state folder does beside its jobs: notices, the digest, backups, the
removal of what is no longer needed, the action at the end of the queue. Nothing of it may hold up a
job: whatever can take time is a process of its own with a deadline."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from obstui.config import Paths, Settings
from obstui.retention import find_waste, remove
from obstui.store import JobView, Reader, Store, StoreError, backup
from obstui.store.views import Notice
from obstui.worker import notify, python
from obstui.worker.liveness import DeviceLock
from obstui.worker.when_empty import WhenEmpty

_log = logging.getLogger(__name__)

_EVERY = 5.0
_DAILY_LOOK = 3600.0
_DAILY_WITHIN = 600.0
_HOOK_WITHIN = 60.0
_DIGEST = "digest"


class Aside:
    """Side processes, each with a deadline; nobody waits for them."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], float, Callable[[bool], None]]] = []

    def add(
        self, process: subprocess.Popen[bytes], within: float, then: Callable[[bool], None]
    ) -> None:
        """Watch a process; `then` hears once whether it ended well within so many seconds."""
        self._running.append((process, time.monotonic() + within, then))

    def turn(self) -> None:
        for entry in list(self._running):
            process, deadline, then = entry
            if process.poll() is None and time.monotonic() > deadline:
                process.kill()
            elif process.poll() is None:
                continue
            self._running.remove(entry)
            then(process.poll() == 0)

    def close(self) -> None:
        for process, _, _ in self._running:
            process.kill()


class Housekeeper:
    """Does its work in `turn` if this worker holds the housekeeper's lock, which is tried for each
    time: one worker of several does it, and another when that one ends."""

    def __init__(
        self,
        paths: Paths,
        store: Store,
        reader: Reader,
        settings: Settings,
        in_use: Callable[[], bool],
    ) -> None:
        self._paths = paths
        self._store = store
        self._reader = reader
        self._settings = settings
        self._lock = DeviceLock(paths.home / "housekeeper.lock")
        self._when_empty = WhenEmpty(store, reader, in_use)
        self._aside = Aside()
        self._telling: int | None = None
        self._next_turn = self._next_daily = 0.0

    def turn(self) -> None:
        """Go on with what is due."""
        now = time.monotonic()
        if now < self._next_turn:
            return
        self._next_turn = now + _EVERY
        if self._lock.fd < 0 and not self._lock.take():
            return
        try:
            self._aside.turn()
            self._tell()
            self._digest()
            self._when_empty.turn()
            if now >= self._next_daily:
                self._next_daily = now + _DAILY_LOOK
                self._daily()
        except StoreError as err:
            _log.warning("the store does not answer: %s", err)

    def finished(self, job: JobView) -> None:
        """Run the command that people want run after a job."""
        if not self._settings.on_finish:
            return
        told = {"id": job.id, "kind": job.kind, "name": job.name, "state": job.state}
        told |= {"reason": job.reason, "error": job.error}
        try:
            process = subprocess.Popen(
                self._settings.on_finish,
                env=python.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as err:
            _log.warning("on_finish: cannot run %s: %s", self._settings.on_finish[0], err.strerror)
            return
        assert process.stdin is not None
        # Far less than a pipe holds: a command that reads nothing cannot hold us up.
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(told).encode())
        self._aside.add(process, _HOOK_WITHIN, lambda _: None)

    def _tell(self) -> None:
        if self._telling is not None:
            return
        for notice in self._store.notices(limit=1):
            if not self._settings.notify:
                self._store.notice_sent(notice.id)
                continue
            title, body = notify.words(notice.kind, notice.payload)
            try:
                process = notify.start(self._settings.notify, title, body)
            except OSError as err:
                _log.warning("cannot send notices: %s", err.strerror)
                return
            self._telling = notice.id
            self._aside.add(process, notify.SENT_WITHIN, partial(self._told, notice))

    def _told(self, notice: Notice, ok: bool) -> None:
        self._telling = None
        if ok:
            self._store.notice_sent(notice.id)
        else:
            _log.warning("notice %d (%s) could not be sent", notice.id, notice.kind)
            self._store.notice_failed(notice.id)

    def _digest(self) -> None:
        """One notice each day at the hour that was set, unless nothing happened since the last."""
        now = time.localtime()
        if not self._settings.digest or time.strftime("%H:%M", now) < self._settings.digest:
            return
        today = time.strftime("%Y-%m-%d", now)
        last = self._store.setting(_DIGEST) or {}
        if last.get("day") == today:
            return
        since = last.get("at")
        if since is not None and (text := self._summary(since)):
            key = f"digest-{today}"
            self._store.notify(key, _DIGEST, {"title": "the night's work", "text": text})
        self._store.set_setting(_DIGEST, {"day": today, "at": time.time()})

    def _summary(self, since: float) -> str:
        over = [j for j in self._reader.jobs(limit=10_000) if (j.finished_at or 0) > since]
        counts = self._reader.counts()
        left = sum(counts[state] for state in ("queued", "starting", "running"))
        bad = [j for j in over if j.state in ("failed", "quarantined")]
        if not over and not left:
            return ""
        text = f"{sum(j.state == 'succeeded' for j in over)} done, {len(bad)} failed, {left} left."
        reasons = [f"Job {job.id} {job.state}: {job.error or job.reason}" for job in bad[:3]]
        return " ".join([text, *reasons])

    def _daily(self) -> None:
        """A backup if one is due, and with it the removal of waste: both once a day."""
        if backup.due(self._paths, time.time()):
            process = subprocess.Popen(
                python.module(__name__),
                env=python.environment()
                | {"OBSTUI_HOME": str(self._paths.home), "OBSTUI_DB": str(self._paths.db)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._aside.add(process, _DAILY_WITHIN, _say_done)

    def last_backup(self) -> None:
        """A copy at a clean end: the night's last jobs are in no daily one yet."""
        if self._lock.fd < 0:
            return  # the worker that does the housekeeping goes on
        try:
            backup.back_up(self._paths, "end")
        except (StoreError, OSError) as err:
            _log.warning("the store could not be backed up: %s", err)

    def close(self) -> None:
        """End what still runs aside; what it would have told stays in the outbox."""
        self._aside.close()
        self._lock.release()


def _say_done(ok: bool) -> None:
    if ok:
        _log.info("the store is backed up, and what was no longer needed removed")
    else:
        _log.warning("the daily backup and removal of waste could not be done")


def _do_daily(paths: Paths) -> None:
    try:
        with Reader.open(paths) as reader:
            for _ in remove(reader, find_waste(reader, paths, now=time.time())):
                pass
    finally:  # after it, so that a full disk has room for the copy
        backup.back_up(paths, "daily")


if __name__ == "__main__":
    _do_daily(Paths.resolve())
    sys.exit(0)
