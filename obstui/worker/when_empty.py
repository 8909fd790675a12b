"""Once, when the queue has run empty: a command, suspend, or power off."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from obstui.errors import Problem
from obstui.store import LIVE, Reader, Store

_log = logging.getLogger(__name__)

KEY = "when_empty"
COUNTDOWN = 120.0
_COMMANDS = {"suspend": ["systemctl", "suspend"], "poweroff": ["systemctl", "poweroff"]}


class CannotArm(Problem):
    """The action does not exist, or this machine cannot do it."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Armed:
    """`command` runs once the queue has been empty for the countdown; `due_at` is when (seconds
    since the epoch), None while jobs are left. `said` tells why the last countdown was stopped."""

    action: str
    command: tuple[str, ...]
    due_at: float | None = None
    said: str | None = None


def arm(store: Store, action: str, command: Sequence[str] = ()) -> Armed:
    """Arm it, in place of what was armed before. Raises CannotArm, StoreError."""
    argv = list(command) if action == "command" else _COMMANDS.get(action, [])
    if not argv:
        raise CannotArm("Say suspend, poweroff, or command with what to run.")
    if not shutil.which(argv[0]):
        raise CannotArm(f"There is no program {argv[0]} on this machine.")
    armed = Armed(action, tuple(argv))
    store.set_setting(KEY, asdict(armed))
    return armed


def disarm(store: Store) -> bool:
    """Take it back; whether it was armed."""
    was = armed(store)
    store.set_setting(KEY, None)
    return was is not None


def armed(store: Store) -> Armed | None:
    """What is armed now."""
    try:
        value = dict(store.setting(KEY))
        return Armed(**value | {"command": tuple(value["command"])})
    except (TypeError, ValueError, KeyError):
        return None


def somebody_typed(since: float) -> bool:
    """Whether a terminal of somebody logged in was used after `since` (seconds since the epoch)."""
    for user in psutil.users():
        with contextlib.suppress(OSError):
            if user.terminal and os.stat(f"/dev/{user.terminal}").st_atime > since:
                return True
    return False


class WhenEmpty:
    """Counts down, and acts. `in_use` says that another program uses the device."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        in_use: Callable[[], bool],
        *,
        typed: Callable[[float], bool] = somebody_typed,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._reader = reader
        self._in_use = in_use
        self._typed = typed
        self._clock = clock

    def turn(self) -> None:
        """Look at the queue and go on. Raises StoreError."""
        now, plan = self._clock(), armed(self._store)
        if plan is None:
            return
        left = self._reader.jobs(states=("queued", *LIVE), limit=1)
        if plan.due_at is None:
            if not left:
                self._save(plan, due_at=now + COUNTDOWN)
                text = f"The queue is empty: {plan.action} in {COUNTDOWN:.0f} s."
                key = f"when-empty-{now:.0f}"
                self._store.notify(key, "countdown", {"title": "the queue is empty", "text": text})
        elif left:
            self._save(plan, due_at=None, said="a new job was queued")
        elif self._typed(plan.due_at - COUNTDOWN):
            self._call_off("somebody uses a terminal")
        elif self._in_use():
            self._call_off("another program uses the device")
        elif now >= plan.due_at:
            # First, so that a machine that comes back does not go down again.
            self._store.set_setting(KEY, None)
            _log.info("the queue is empty: %s", plan.action)
            _run(plan.command)

    def _save(self, plan: Armed, **changes: Any) -> None:
        self._store.set_setting(KEY, asdict(plan) | changes)

    def _call_off(self, why: str) -> None:
        _log.info("the action at the end of the queue is called off: %s", why)
        self._store.set_setting(KEY, None)
        key = f"when-empty-off-{self._clock():.0f}"
        text = f"Called off: {why}."
        self._store.notify(key, "countdown", {"title": "the countdown was stopped", "text": text})


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as err:
        _log.warning("cannot run %s: %s", command[0], err.strerror)
