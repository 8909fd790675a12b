"""The lines between worker and child.

Worker to child, on the orders pipe: `{"run": PATH}`, the path of an order file. Only the worker
holds the write end, so its end of file means that the worker is gone or wants the child gone.

Child to worker, on the events pipe, one JSON object a line: `{"v": 1, "type": TYPE, ...}`:

    hello                          the child is up and reads orders
    fact      event                a durable event of the engine, appended to the job's history
    progress  progress             the whole progress as the store keeps it; only the newest counts
    alive                          nothing new, but the process is not stuck
    done                           the result's manifest is on disk
    failed    reason, error        the run cannot go on
    stopped                        SIGTERM was obeyed at a boundary; finished units are on disk
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VERSION = 1
LINE_LIMIT = 64 << 10
EXIT_STOPPED = 75
ENDINGS = ("done", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Order:
    """What one attempt is to do. `variants` maps each variant the spec names to its folder;
    `compared` is what an export's card tells of a comparison, as `core.export.Compared` in plain
    words."""

    job: int
    ulid: str
    attempt: int
    spec: dict[str, Any]
    variants: dict[str, str]
    output: str
    work: str
    hessians: str
    log: str
    compared: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the order file. A file, because a spec may be larger than the pipe holds."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Order:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def run_line(path: Path) -> bytes:
    """The order to run the job in the order file `path`."""
    return json.dumps({"run": str(path)}).encode() + b"\n"


class Channel:
    """The child's end of the events pipe; any thread may speak. `unheard` is called when nobody is
    there to listen any more."""

    def __init__(self, fd: int, unheard: Callable[[], None]) -> None:
        self._fd = fd
        self._unheard = unheard
        self._lock = threading.Lock()

    def say(self, kind: str, **fields: Any) -> None:
        """Send one line; a line over the limit is replaced by a fact that says so."""
        line = _encode(kind, fields)
        if len(line) > LINE_LIMIT:
            text = f"A line of kind {kind} was left out: {len(line)} bytes."
            line = _encode("fact", {"event": {"type": "note", "text": text}})
        try:
            with self._lock:
                while line:
                    line = line[os.write(self._fd, line) :]
        except BrokenPipeError:
            self._unheard()


def _encode(kind: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, "type": kind, **fields}, ensure_ascii=True).encode() + b"\n"


class Lines:
    """Bytes from the events pipe into messages. Whatever is no message is counted and dropped, and
    no more than one line's worth is ever held."""

    def __init__(self) -> None:
        self._partial = b""
        self._overlong = False
        self.garbage = 0

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that `data` completes."""
        *complete, rest = (self._partial + data).split(b"\n")
        self._partial = b""
        messages = []
        for line in complete:
            overlong = self._overlong or len(line) >= LINE_LIMIT
            self._overlong = False
            message = None if overlong else _decode(line)
            if message is not None:
                messages.append(message)
            elif overlong or line.strip():
                self.garbage += 1
        if len(rest) >= LINE_LIMIT:
            self._overlong = True
        elif not self._overlong:
            self._partial = rest
        return messages


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        # NaN and infinity are no JSON: they would stop at the first strict reader of the store.
        message = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("v") != VERSION:
        return None
    return message if isinstance(message.get("type"), str) else None
