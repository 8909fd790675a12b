"""The dashboard. Importing this package costs nothing; Textual is loaded by `run`."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstui.config import Paths


def run(paths: Paths, readonly: bool = False, watch: int | None = None) -> None:
    """Open the dashboard on this store until the person leaves; job `watch` is selected first."""
    from obstui.tui.app import Dashboard

    app = Dashboard(paths, readonly=readonly, watch=watch)
    try:
        app.run()
    except OSError:
        return  # the terminal is gone: there is nobody left to tell
    finally:
        gc.freeze()  # the widgets die with the process: do not spend time on collecting them
    live = [job.id for job in app.snapshot.jobs if job.live]
    waiting = app.snapshot.counts.get("queued", 0)
    if (live or waiting) and app.snapshot.worker_alive:
        what = f"job {live[0]}" if live else f"{waiting} queued jobs"
        try:
            print(f"The worker goes on with {what}; obstui shows it again.")
        except OSError:
            sys.stdout = None
