"""The child's events as lines: facts at once, progress as the whole of what a viewer needs."""

from __future__ import annotations

import resource
import sys
import threading
import time
from typing import Any

import psutil

from core.events import Event, Phase, Progress, StepPreview
from obstui.estimate import kin
from obstui.worker import story
from obstui.worker.protocol import Channel

_AT_MOST_EVERY = 0.1
_SAMPLE_EVERY = 1.0


class Teller:
    """Tells the worker what a run yields. While the context is open, a thread samples the memory
    once a second and repeats the progress with it, so that a long step shows signs of life."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._memory = Memory()
        self._progress: dict[str, Any] = {}
        self._told_at = 0.0
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="memory", daemon=True)

    def __enter__(self) -> Teller:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._sampler.join()

    def tell(self, event: Event) -> None:
        """Send an event: as a fact if it is durable, and as progress if it changes that. Facts are
        lines of the log, too."""
        if event.durable:
            self._channel.say("fact", event=event.to_dict())
            if words := story.line(event, time.time()):
                print(words)
        with self._lock:
            if isinstance(event, Phase):
                before = self._progress
                alike = kin(event.name) == kin(str(before.get("phase")))
                self._progress = {
                    "phase": event.name,
                    "passed": before["passed"] + before["total"] if alike else 0,
                    "done": event.done,
                    "total": event.total,
                    "unit": event.unit,
                    "detail": "",
                    "phase_started_at": time.time(),
                    "resumed_from": event.done,
                    "following": [list(item) for item in event.following],
                }
            elif isinstance(event, Progress):
                self._progress |= {
                    "done": event.done,
                    "total": event.total,
                    "detail": event.detail,
                }
            elif isinstance(event, StepPreview):
                self._progress["preview"] = event.path
            else:
                return
            if isinstance(event, Phase) or time.monotonic() - self._told_at > _AT_MOST_EVERY:
                self._say_progress()

    def _say_progress(self) -> None:
        self._told_at = time.monotonic()
        self._channel.say("progress", progress=self._progress | {"memory": self._memory.last})

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_EVERY):
            with self._lock:
                self._memory.sample()
                if self._progress:
                    self._say_progress()
                else:
                    self._channel.say("alive")


class Memory:
    """What the run takes of the device's memory, in bytes: a GPU's once CUDA is in use, else the
    process's resident set. `last` is {device, now, peak, total}."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak = 0
        self.last: dict[str, Any] = {}
        self.sample()

    def sample(self) -> None:
        """Look again."""
        device, now, peak, total = _cuda() or self._host()
        if self.last and device != self.last["device"]:
            self._peak = 0
        self._peak = max(self._peak, now, peak)
        self.last = {"device": device, "now": now, "peak": self._peak, "total": total}

    def _host(self) -> tuple[str, int, int, int]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return "cpu", self._process.memory_info().rss, peak, psutil.virtual_memory().total


def _cuda() -> tuple[str, int, int, int] | None:
    """The GPU's memory in use by all, our own peak, and the whole; None while CUDA is not in use.
    Never the one to import torch: the main thread may be in the middle of that."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not getattr(cuda, "is_initialized", bool)():
        return None
    free, total = cuda.mem_get_info()
    return "cuda", total - free, cuda.max_memory_reserved(), total
