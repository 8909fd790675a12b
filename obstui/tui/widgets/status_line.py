"""The top line: who works, on what, and how many jobs stand where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual import events

from obstui.text import one_line
from obstui.tui.theme import state_glyph, style
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.store import WorkerView
    from obstui.tui.follow import Snapshot

_GROUPS = (
    ("running", ("running", "starting", "pausing", "cancelling"), "accent"),
    ("waiting", ("queued",), "text"),
    ("paused", ("paused", "held"), "pause"),
    ("failed", ("failed", "quarantined"), "bad"),
    ("done", ("succeeded",), "good"),
)


class StatusLine(Still):
    """One line, redrawn only when a word of it changes."""

    DEFAULT_CSS = """
    StatusLine, StatusLine.-empty {
        display: block; height: 1; padding: 0 1; background: $surface; width: 1fr;
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._said: tuple[Snapshot, bool, bool] | None = None

    def tell(self, snapshot: Snapshot, *, readonly: bool, starting: bool) -> None:
        self._said = (snapshot, readonly, starting)
        width = self.content_size.width
        if not width:
            return
        left = Text.assemble(("obstui", style("strong")), "  ")
        left.append_text(_workers(snapshot, starting=starting))
        if readonly:
            left.append("  read-only", style("warn"))
        right = _counts(snapshot, words=True)
        if left.cell_len + right.cell_len + 2 > width:
            right = _counts(snapshot, words=False)
        left.truncate(max(8, width - right.cell_len - 1), overflow="ellipsis")
        left.pad_right(max(1, width - left.cell_len - right.cell_len))
        self.show(left.append_text(right))

    def on_resize(self, event: events.Resize) -> None:
        if self._said is not None:
            snapshot, readonly, starting = self._said
            self.tell(snapshot, readonly=readonly, starting=starting)


def _counts(snapshot: Snapshot, *, words: bool) -> Text:
    """How many jobs stand where, in words or, where room is short, by their glyphs."""
    parts = []
    for word, states, look in _GROUPS:
        count = sum(snapshot.counts.get(state, 0) for state in states)
        if count and words:
            parts.append(Text.assemble((f"{count:,}", style(look)), (f" {word}", style("muted"))))
        elif count:
            parts.append(Text(f"{state_glyph(states[0])} {count:,}", style(look)))
    return Text(" · " if words else "  ", style("faint")).join(parts)


def _workers(snapshot: Snapshot, *, starting: bool) -> Text:
    if not snapshot.read:
        return Text("reading the store", style("muted"))
    alive = [worker for worker in snapshot.workers if worker.alive]
    if not alive:
        return Text("◐ starting a worker" if starting else "○ no worker", style("warn"))
    return Text("  ").join(_worker(worker) for worker in alive)


def _worker(worker: WorkerView) -> Text:
    state = one_line(worker.state, limit=16)
    busy = worker.job_id is not None
    words = f"job {worker.job_id}" if busy else ("idle" if state in ("idle", "") else state)
    name = one_line(worker.device_name or worker.device, limit=32).removeprefix("NVIDIA ")
    return Text.assemble(
        ("● " if busy else "○ ", style("accent" if busy else "good")),
        (name, style("text")),
        (f" {words}", style("muted")),
    )
