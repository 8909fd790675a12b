"""Copied text goes to the clipboard of the person's own terminal, and to a file: whether it came
through tmux and all other terminals in between nobody can tell."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from obstui.tui.remembered import write_whole

if TYPE_CHECKING:
    from obstui.tui.app import Dashboard

FILE = "last-copy.txt"


async def copy(
    dashboard: Dashboard, text: str, what: str, say: Callable[[str], object] | None = None
) -> None:
    """Copy `text` and say so, in a toast unless `say` knows a better place; `what` it is begins the
    sentence. A dashboard that may not write leaves the file out."""
    dashboard.copy_to_clipboard(text)
    said = f"{what} copied."
    if not dashboard.readonly:
        file = dashboard.paths.home / FILE
        try:
            await asyncio.to_thread(write_whole, file, text)
            said = f"{what} copied, and written to {file}"
        except OSError as err:
            said = f"{what} copied, but not written to {file}: {err.strerror}."
    said += tmux_hint(dashboard)
    if say is not None:
        say(said)
    else:
        dashboard.notify(said, markup=False, timeout=8)


def tmux_hint(dashboard: Dashboard) -> str:
    """What to set where tmux keeps copied text to itself; once is enough."""
    if not os.environ.get("TMUX") or dashboard.told_tmux:
        return ""
    dashboard.told_tmux = True
    return "\nIf it did not arrive, in tmux: set -g set-clipboard on"
