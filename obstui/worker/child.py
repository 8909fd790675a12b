"""The child's own main: `python -m obstui.worker.child ORDERS_FD EVENTS_FD`.

It runs one job after another as the worker orders, in this process, so that a pipeline once loaded
stays loaded. The only part of obstui that imports the engine.
"""

from __future__ import annotations

import errno
import faulthandler
import io
import json
import logging
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from core.errors import BadInput, Cancelled, EngineError
from obstui.errors import Problem
from obstui.text import one_line
from obstui.worker import manifest
from obstui.worker.protocol import EXIT_STOPPED, Channel, Order
from obstui.worker.teller import Teller


def main(arguments: list[str], engine: Engine) -> int:
    """Obey orders until a job fails or is stopped; the exit code."""
    orders_fd, events_fd = (int(argument) for argument in arguments)
    for fd in (orders_fd, events_fd):
        # A helper that the engine starts must not keep the channels open.
        os.set_inheritable(fd, False)
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        os.nice(10)  # what computes on the processor must not slow whoever watches it there
    stop = threading.Event()
    sys.stdout, sys.stderr = printing(1), printing(2)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    orders = listen(orders_fd)
    channel = Channel(events_fd, end_group)
    channel.say("hello", pid=os.getpid())
    while True:
        order = Order.load(orders.get())
        redirect(Path(order.log))
        ending, fields = engine.attempt(order, channel, stop)
        sys.stdout.flush()
        sys.stderr.flush()
        channel.say(ending, **fields)
        if ending != "done":
            return EXIT_STOPPED if ending == "stopped" else 1


def listen(orders_fd: int) -> SimpleQueue[Path]:
    """Orders as they come. When the pipe ends the worker is gone, or wants this process gone."""
    orders: SimpleQueue[Path] = SimpleQueue()

    def read() -> None:
        with os.fdopen(orders_fd, "rb") as pipe:
            for line in pipe:
                orders.put(Path(json.loads(line)["run"]))
        end_group()

    threading.Thread(target=read, name="orders", daemon=True).start()
    return orders


def end_group() -> NoReturn:
    """Kill this process and its helpers at once: the worker's successor waits for its device."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


class Printed(io.FileIO):
    """A descriptor of the log: a full disk costs what is printed, not the job that prints it."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def printing(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(Printed(fd, "w", closefd=False)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def redirect(log: Path) -> None:
    """Send all that this process and its libraries print to the attempt's log."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    os.chdir(log.parent)
    faulthandler.enable(all_threads=False)


class Engine:
    """Runs orders; what it has loaded stays loaded between them."""

    def __init__(self) -> None:
        self._runner: Any = None

    def attempt(
        self, order: Order, channel: Channel, stop: threading.Event
    ) -> tuple[str, dict[str, Any]]:
        """Run one order; its last word: "done", "stopped" or "failed", with what goes with it."""
        try:
            result = self.run(order, channel, stop)
            manifest.write(Path(order.output), order.attempt, result)
        except Cancelled:
            return "stopped", {}
        except Exception as err:
            traceback.print_exc()
            return "failed", explain(err)
        return "done", {}

    def run(self, order: Order, channel: Channel, stop: threading.Event) -> dict[str, Any]:
        """Run one order through the engine; its result, with absolute paths."""
        with Teller(channel) as teller:
            if self._runner is None:
                # Seconds of importing torch: after the hello, and only when there is work.
                from obstui.worker.runs import Runner

                self._runner = Runner()
            result: dict[str, Any] = self._runner.run(order, stop.is_set, teller.tell)
        return result


def explain(err: Exception) -> dict[str, Any]:
    """Reason and sentence for an exception that ended a run."""
    text = one_line(err, limit=400) or type(err).__name__
    if isinstance(err, (BadInput, Problem)):
        return {"reason": "bad_input", "error": text}
    if isinstance(err, EngineError):
        return {"reason": "engine", "error": text}
    if type(err).__name__ == "OutOfMemoryError":
        return {"reason": "oom_gpu", "error": f"The GPU's memory is full: {text}"}
    if isinstance(err, MemoryError) or "can't allocate memory" in text:
        return {"reason": "oom_host", "error": f"The machine's memory is full: {text}"}
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT):
        return {"reason": "disk_full", "error": f"The disk is full: {text}"}
    return {"reason": "exit_code", "error": f"{type(err).__name__}: {text}"}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(main(sys.argv[1:], Engine()))
