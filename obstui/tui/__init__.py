"""The dashboard. Importing this package costs nothing; Textual is loaded by `run`."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from obstui.text import counted

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.tui.follow import Snapshot


_LOW_BANDWIDTH = {
    "TEXTUAL_FPS": "5",
    "TEXTUAL_COLOR_SYSTEM": "256",
    "TEXTUAL_ANIMATIONS": "none",
    "TEXTUAL_SMOOTH_SCROLL": "0",
}


def run(
    paths: Paths,
    readonly: bool = False,
    watch: int | None = None,
    *,
    images: str | None = None,
    theme: str | None = None,
    ascii: bool = False,  # noqa: A002 - the option's name
    low_bandwidth: bool = False,
) -> None:
    """Open the dashboard on this store until the person leaves; job `watch` is selected first.

    `images` and `theme` stand above the settings. Raises BadSettings.
    """
    from obstui.config import Settings, own_command

    settings = Settings.load()
    if low_bandwidth:  # Textual reads these when it is imported
        os.environ.update(_LOW_BANDWIDTH)
    from obstui.tui.app import Dashboard
    from obstui.tui.appearance import Appearance
    from obstui.tui.images import ask_terminal

    looks = Appearance(theme=theme or "", ascii=ascii, low_bandwidth=low_bandwidth)
    app = Dashboard(paths, readonly=readonly, watch=watch, appearance=looks, settings=settings)
    wanted = images or settings.images
    if looks.letters_only and wanted != "off":
        wanted = "ascii"
    app.pictures = ask_terminal(wanted, app.console.color_system, settings.image_kib << 10)
    try:
        app.run()
    except OSError:
        return  # the terminal is gone: there is nobody left to tell
    finally:
        gc.freeze()  # the widgets die with the process: do not spend time on collecting them
    if words := farewell(app.snapshot, own_command()):
        try:
            print(words)
        except OSError:
            sys.stdout = None


def farewell(snapshot: Snapshot, command: str) -> str:
    """What becomes of the queue while nobody looks, and the command that looks again; "" where
    there is nothing to say."""
    live = [job.id for job in snapshot.jobs if job.live]
    waiting = counted(snapshot.counts.get("queued", 0), "queued job")
    if not snapshot.worker_alive or not (live or snapshot.counts.get("queued")):
        return ""
    if live or snapshot.nobody is None:
        what = f"job {live[0]}" if live else waiting
        return f"The worker goes on with {what}; {command} shows it again."
    return f"Not started: {waiting}; {snapshot.nobody}."
