"""Run by test_prune: one pruning run, killed by SIGKILL again and again, then left to finish.

Usage: killed_runs.py MODEL FOLDER. Prints "killed" or "finished" for every attempt. Each attempt is
a fork, so that the libraries are imported once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from core import calibrate, loading, solving
from core.prune import PruneSettings, run

PROMPTS = ("a red hat", "a blue cat", "two dogs", "the sea", "snow")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_call(owner: Any, name: str, number: int, *, after: bool = False) -> None:
    """Die at the `number`-th call of a function, before or after it does its work."""
    function: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            die()
        result = function(*args, **kwargs)
        if calls == number:
            die()
        return result

    setattr(owner, name, counted)


def attempt(settings: PruneSettings, folder: Path, events: int) -> None:
    """Run until `events` events were seen."""
    seen = run(settings, folder / "out", folder / "work", lambda: False)
    for count, _ in enumerate(seen, start=1):
        if count == events:
            die()


def main() -> None:
    torch.set_num_threads(1)
    loading.pick_device = lambda: "cpu"
    calibrate._SAVE_EVERY_S, calibrate._SAVE_SHARE = 0.0, 1e9  # save after every pass
    settings = PruneSettings(
        sys.argv[1], (0.5, 0.2), prompts=PROMPTS, steps=3, guidance=5.0, batch_size=2, held_out=2
    )
    loading.load_pipeline(sys.argv[1], device="cpu", dtype=torch.float32)  # imports what it needs
    plans: list[tuple[int, tuple[Any, str, int, bool] | None]] = [
        (5, None),  # in the first batch
        (-1, (os, "replace", 3, False)),  # the sums are written, but not under their name
        (-1, (solving, "save_sums", 2, True)),
        (12, None),
        (-1, (os, "replace", 4, False)),  # a target is solved, but not under its name
        (16, None),  # among the targets
        (-1, (Path, "rename", 1, False)),  # the first variant is written, but not under its name
        (-1, (Path, "rename", 1, True)),
        (-1, None),
    ]
    for events, call in plans:
        child = os.fork()
        if child == 0:
            if call is not None:
                on_call(*call[:3], after=call[3])
            attempt(settings, Path(sys.argv[2]), events)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else "finished" if status == 0 else "failed", flush=True)


if __name__ == "__main__":
    main()
