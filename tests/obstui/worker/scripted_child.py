"""A child that does what the job's prompts say, one after the other, instead of running the engine.

Everything else of it is the real child: orders, life line, log, last words.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

from core.errors import BadInput, Cancelled
from obstui.worker import manifest
from obstui.worker.child import Engine, main
from obstui.worker.protocol import Channel, Order


class OutOfMemoryError(RuntimeError):
    """Named as torch's, by which the child recognises it."""


class Script(Engine):
    def run(self, order: Order, channel: Channel, stop: threading.Event) -> dict[str, Any]:
        output = Path(order.output)
        painted = output / "picture.png"
        for line in order.spec["prompts"]:
            verb, _, rest = line.partition(" ")
            getattr(self, f"do_{verb.replace('-', '_')}")(rest, order, stop, channel)
        painted.write_text(f"attempt {order.attempt}")
        return {"images": [{"path": str(painted), "thumbnail": str(painted), "pid": os.getpid()}]}

    def do_nothing(self, *_: Any) -> None:
        pass

    def do_once(self, line: str, order: Order, stop: threading.Event, channel: Channel) -> None:
        """Obey the rest of the line in the first attempt only."""
        if order.attempt == 1:
            verb, _, rest = line.partition(" ")
            getattr(self, f"do_{verb.replace('-', '_')}")(rest, order, stop, channel)

    def do_exit(self, code: str, order: Order, *_: Any) -> None:
        # Never the same twice: failures alike would open the circuit breaker of a shared worker.
        print(f"the last \x1b[31mwords\x1b[0m of {order.ulid}", flush=True)
        os._exit(int(code))

    def do_segfault(self, *_: Any) -> None:
        ctypes.string_at(0)

    def do_raise(self, text: str, *_: Any) -> None:
        raise BadInput(text)

    def do_abort(self, *_: Any) -> None:
        os.abort()

    def do_memory(self, text: str, *_: Any) -> None:
        """Fail as torch does when the device's memory is full."""
        raise OutOfMemoryError(text)

    def do_print(self, megabytes: str, *_: Any) -> None:
        line = b"x" * 1023 + b"\n"
        os.write(1, b"the first line\n")
        for _ in range(int(megabytes)):
            os.write(1, line * 1024)
        os.write(1, b"the last line\n")

    def do_flood(self, *_: Any) -> None:
        """Print numbered blocks until the log has been cut, and a few more."""
        size = left = 0
        for number in count():
            now = os.fstat(1).st_size
            left = 5 if now < size else left - 1
            if left == 0:
                return
            size = now
            os.write(1, (b"%d\n" % number).rjust(1 << 16))

    def do_hang(self, seconds: str, _: Order, __: threading.Event, channel: Channel) -> None:
        """Give no sign of life, as a call that keeps the interpreter's lock."""
        channel.say("progress", progress={"phase": "hang"})
        until = time.monotonic() + float(seconds)
        while time.monotonic() < until:
            ctypes.PyDLL(None).sleep(int(float(seconds)))

    def do_stray(self, *_: Any) -> None:
        """Start a helper in a session of its own, which no signal to the group reaches."""
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        stray = subprocess.Popen(sleeper, start_new_session=True)
        Path("helper.pid").write_text(str(stray.pid))

    def do_stuck(self, seconds: str, _: Order, __: threading.Event, channel: Channel) -> None:
        """Be held so that not even SIGKILL makes this process go: a tracer keeps its death to
        itself, as a driver keeps a process in an uninterruptible call."""
        libc = ctypes.CDLL(None)
        libc.prctl(0x59616D61, -1, 0, 0, 0)  # PR_SET_PTRACER_ANY
        tracer = (
            "import ctypes, os, sys, time; "
            "libc = ctypes.CDLL(None, use_errno=True); "
            "held = libc.ptrace(0x4206, int(sys.argv[1]), None, None); "
            "print(held, flush=True); time.sleep(float(sys.argv[2]))"
        )
        command = [sys.executable, "-c", tracer, str(os.getpid()), seconds]
        helper = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.PIPE, env={"PATH": os.defpath}
        )
        assert helper.stdout is not None
        if helper.stdout.readline() != b"0\n":
            raise BadInput("no tracing here")
        channel.say("progress", progress={"phase": "stuck"})
        time.sleep(float(seconds))

    def do_fill(self, _: str, order: Order, *__: Any) -> None:
        """Fill the disk, and fail by that."""
        with (Path(order.output) / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    def do_die(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_die_late(self, _: str, order: Order, stop: threading.Event, channel: Channel) -> None:
        self.publish(order)
        os.kill(os.getpid(), signal.SIGKILL)

    def do_orphan_late(self, _: str, order: Order, *__: Any) -> None:
        self.publish(order)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)

    def publish(self, order: Order) -> None:
        painted = Path(order.output) / "picture.png"
        painted.write_text(f"attempt {order.attempt}")
        images = [{"path": str(painted), "thumbnail": str(painted)}]
        manifest.write(Path(order.output), order.attempt, {"images": images})

    def do_work(self, seconds: str, _: Order, stop: threading.Event, channel: Channel) -> None:
        """Reach a boundary every 20 ms."""
        until = time.monotonic() + float(seconds)
        while time.monotonic() < until:
            if stop.wait(0.02):
                raise Cancelled
            progress = {"phase": "work", "done": 1, "total": 2, "unit": "step"}
            channel.say("progress", progress=progress)

    def do_gate(self, name: str, _: Order, stop: threading.Event, channel: Channel) -> None:
        """Wait for a file beside the log."""
        channel.say("progress", progress={"phase": "gate"})
        while not Path(name).exists():
            if stop.wait(0.02):
                raise Cancelled

    def do_deaf(self, seconds: str, _: Order, __: threading.Event, channel: Channel) -> None:
        """Reach no boundary, and ignore SIGTERM."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        channel.say("progress", progress={"phase": "deaf"})
        time.sleep(float(seconds))

    def do_helper(self, *_: Any) -> None:
        """Start a process that has no part in the life line."""
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        Path("helper.pid").write_text(str(subprocess.Popen(sleeper).pid))

    def do_fact(self, text: str, _: Order, __: threading.Event, channel: Channel) -> None:
        channel.say("fact", event={"type": "note", "text": text})

    def do_unit(self, _: str, order: Order, __: threading.Event, channel: Channel) -> None:
        """Finish one unit of work, which the job keeps."""
        done = Path(order.work) / "unit"
        channel.say("fact", event={"type": "unit", "reused": done.exists()})
        done.touch()

    def do_write(self, what: str, _: Order, __: threading.Event, channel: Channel) -> None:
        """Write bytes of no protocol at all on the channel."""
        garbage = {
            "garbage": b'\xff\xfe\n{"v": 2}\n[]\n{"v":1,"type":7}\n' + b"[" * 9000 + b"\n",
            "ten-megabytes": b"x" * (10 << 20) + b"\n",
            "flood": b'{"v":1,"type":"progress","progress":{"phase":"flood"}}\n' * 200_000,
        }[what]
        while garbage:
            garbage = garbage[os.write(channel._fd, garbage) :]

    def do_environment(self, names: str, *_: Any) -> None:
        print({name: os.environ.get(name) for name in names.split()}, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Script()))
