"""What the command line and the dashboard call: start, stop, status, run."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from obstui.config import Paths, Settings, UnusableFolder
from obstui.errors import Problem
from obstui.store import StoreError
from obstui.store.reader import held
from obstui.text import one_line
from obstui.worker import python
from obstui.worker.attempt import Timing
from obstui.worker.gpu import choose
from obstui.worker.liveness import Holder, holders
from obstui.worker.loop import Worker
from obstui.worker.supervise import CHILD_COMMAND
from obstui.worker.verdict import last_line

UP_WITHIN = 30.0
DOWN_WITHIN = 150.0


class WorkerError(Problem):
    """The worker cannot be started, or does not stop; the message says why."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker that lives: its device's lock is held. `pid` is None while its child outlives it."""

    device: str
    pid: int | None
    worker: str
    db: str


def status(paths: Paths) -> list[WorkerStatus]:
    """The workers that live on this state folder's devices, whatever store they serve."""
    return [
        WorkerStatus(
            device=path.stem,
            pid=holder.process.pid if holder and holder.process.alive else None,
            worker=holder.worker if holder else "",
            db=holder.db if holder else "",
        )
        for path, holder in holders(paths.home / "locks")
    ]


def start(paths: Paths, device: str | None = None) -> int:
    """Start a worker in a session of its own, unless one serves this store already; its pid.

    Returns when the worker owns its device and its row says so; one that is on its way out is
    waited for. Raises WorkerError.
    """
    for path, holder in holders(paths.home / "locks"):
        same = holder and holder.db == str(paths.db) and device in (None, holder.device)
        if holder and same and holder.process.alive:
            if not holder.leaving:
                return holder.process.pid
            # It takes no more jobs: the new one waits for the end of the last.
            _await_free(path, holder, DOWN_WITHIN)
    try:
        paths.ensure()
        log = os.open(paths.worker_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except (OSError, UnusableFolder) as err:
        raise WorkerError(f"Cannot start the worker: {err}") from err
    said, saying = os.pipe()
    arguments = ["--ready-fd", str(saying), *(["--device", device] if device else [])]
    try:
        process = subprocess.Popen(
            python.module("obstui.worker", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=paths.home,
            env=python.environment() | places(paths),
            pass_fds=(saying,),
            start_new_session=True,
            umask=0o077,
        )
    except OSError as err:
        os.close(said)
        raise WorkerError(f"Cannot start the worker: {err.strerror}.") from err
    finally:
        os.close(log)
        os.close(saying)
    try:
        return _await_ready(paths, process, said)
    finally:
        os.close(said)


def places(paths: Paths) -> dict[str, str]:
    """Where a worker finds what its starter saw, whatever else of the environment it gets."""
    return {
        "OBSTUI_HOME": str(paths.home),
        "OBSTUI_DB": str(paths.db),
        "OBSTUI_CONFIG": str(Settings.path()),
    }


def _await_ready(paths: Paths, process: subprocess.Popen[bytes], said: int) -> int:
    up = bool(select.select([said], [], [], UP_WITHIN)[0]) and bool(os.read(said, 1))
    if up:
        return process.pid
    where = f"see {paths.worker_log}"
    if process.poll() is None and not _ends(process):
        process.terminate()
        raise WorkerError(f"The worker was not up after {UP_WITHIN:.0f} s and was ended: {where}.")
    for worker in status(paths):
        # Another start was quicker.
        if worker.pid is not None and worker.db == str(paths.db):
            return worker.pid
    last = last_line(paths.worker_log, limit=400)
    raise WorkerError(f"The worker did not start: {last or where}")


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether a worker that has closed its pipe without a word is on its way out."""
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return False
    return True


def stop(paths: Paths, *, now: bool = False, wait: float = DOWN_WITHIN) -> bool:
    """Stop the workers of this store; False if none lives.

    Their jobs go to the next boundary, are put back in the queue and resume there; with `now` they
    are killed and resume from the last checkpoint. Returns when the devices are free. Raises
    WorkerError if one is not within `wait` seconds, or belongs to another user.
    """
    serving = _serving(paths)
    for _, holder in serving:
        _send(holder, signal.SIGTERM)
    for path, holder in serving:
        _await_free(path, holder, wait, now=now)
    return bool(serving)


def drain(paths: Paths) -> int:
    """Let the workers of this store finish the jobs they run, claim no more, and end; how many.

    Returns at once. Raises WorkerError.
    """
    serving = _serving(paths)
    for _, holder in serving:
        _send(holder, signal.SIGUSR1)
    return len(serving)


def _serving(paths: Paths) -> list[tuple[Path, Holder]]:
    return [
        (path, holder)
        for path, holder in holders(paths.home / "locks")
        if holder and holder.db == str(paths.db)
    ]


def _await_free(path: Path, holder: Holder, wait: float, *, now: bool = False) -> None:
    deadline = time.monotonic() + wait
    while held(path) and time.monotonic() < deadline:
        time.sleep(0.1)
        if now:
            # The second SIGTERM means: at once. Two in a row may arrive as one.
            _send(holder, signal.SIGTERM)
    if held(path):
        raise WorkerError(
            f"The worker with pid {holder.process.pid} has not stopped within {wait:.0f} s: "
            "its job is on the way to its next boundary; wait, or stop it with --now."
        )


def _send(holder: Holder, number: signal.Signals) -> None:
    try:
        holder.process.send(number)
    except PermissionError:
        raise WorkerError(
            f"The worker with pid {holder.process.pid} belongs to another user."
        ) from None


def run(
    paths: Paths,
    device: str | None = None,
    exit_when_idle: bool = False,
    *,
    ready_fd: int | None = None,
    child_command: Sequence[str] = CHILD_COMMAND,
    timing: Timing | None = None,
    settings: Settings | None = None,
) -> int:
    """Be the worker, in the foreground, until SIGTERM (`obstui worker run`); the exit code, 0.

    `ready_fd` gets a byte when the worker is up. Raises Problem: no such device, the device is
    taken, the store cannot be used.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    worker = Worker(
        paths,
        choose(device),
        child_command=child_command,
        timing=timing,
        settings=settings or Settings.load(),
    )

    def ready() -> None:
        logging.info("worker %s is up, pid %d", worker.id, os.getpid())
        if ready_fd is not None:
            os.write(ready_fd, b"\n")
            os.close(ready_fd)

    try:
        paths.ensure()
        worker.run(exit_when_idle=exit_when_idle, ready=ready)
    except (StoreError, UnusableFolder) as err:
        raise WorkerError(one_line(err)) from err
    except OSError as err:
        raise WorkerError(f"The worker cannot go on: {err}.") from err
    logging.info("worker %s has stopped", worker.id)
    return 0
