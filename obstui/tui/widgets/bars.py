"""One-line bars: progress and memory. Filled and empty differ in shape, not only in colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.theme import style
from obstui.tui.widgets.still import in_its_place


def progress_bar(fraction: float, width: int) -> Text:
    """Thick for what is done, thin for what is left."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return Text.assemble(("━" * filled, style("accent")), ("─" * (width - filled), style("faint")))


def percent(fraction: float) -> str:
    """Rounded down: 100 % means done."""
    return f"{int(fraction * 100)} %"


@in_its_place
def memory_line(memory: Mapping[str, Any] | None, width: int) -> Text:
    """ "VRAM ━━━━╍╍──  18.2 GiB now · 20.1 peak · 24.0 in all"; empty without a reading."""
    if not memory or memory.get("now") is None:
        return Text()
    now, peak = int(memory["now"]), int(memory.get("peak") or memory["now"])
    total = int(memory.get("total") or 0)
    device = one_line(memory.get("device") or "", limit=24)
    label = "RAM " if device in ("", "cpu") else "VRAM"
    words = Text.assemble(
        (formats.size(now), style("strong")),
        (" now", style("muted")),
        (" · ", style("faint")),
        (formats.size(peak), style("text")),
        (" peak", style("muted")),
    )
    if total:
        words.append(" · ", style("faint")).append(f"{formats.size(total)} in all", style("muted"))
    room = max(0, min(40, width - words.cell_len - len(label) - 3))
    line = Text(label + " ", style("muted"))
    if total and room >= 6:
        line.append_text(_memory_bar(now, peak, total, room)).append("  ")
    return line.append_text(words)


def _memory_bar(now: int, peak: int, total: int, width: int) -> Text:
    used = max(1, round(now / total * width))
    high = max(used, round(peak / total * width))
    tight = peak / total > 0.92
    return Text.assemble(
        ("━" * used, style("warn" if tight else "good")),
        ("╍" * (high - used), style("warn" if tight else "muted")),
        ("─" * (width - high), style("faint")),
    )
