"""Opening the dashboard from a command."""

from __future__ import annotations

import os
import sys

import click

from obstui.config import Paths

_LOOKS = ("images", "theme", "ascii", "low_bandwidth")
"""The options of `obstui` itself that are about the dashboard, whatever command opens it."""


def open_dashboard(paths: Paths, *, readonly: bool = False, watch: int | None = None) -> None:
    """The dashboard, with job `watch` selected. Without a terminal: say what to use instead."""
    in_browser = "TEXTUAL_DRIVER" in os.environ  # obstui serve talks to it through pipes
    if not in_browser and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            "The dashboard needs a terminal: use obstui ls, show and wait in scripts."
        )
    from obstui import tui

    options = click.get_current_context().find_root().params
    looks = {name: options[name] for name in _LOOKS if name in options}
    tui.run(paths, readonly=readonly, watch=watch, **looks)
