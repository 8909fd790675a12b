"""The top: the places with how many jobs stand where; below it, how the machine does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events

from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.machine import LITTLE_DISK
from obstui.tui.places import PLACES
from obstui.tui.theme import state_glyph, style
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.store import WorkerView
    from obstui.telemetry import Reading
    from obstui.tui.follow import Snapshot

_GROUPS = (
    ("running", ("running", "starting", "pausing", "cancelling"), "accent"),
    ("waiting", ("queued",), "text"),
    ("paused", ("paused",), "pause"),
    ("held", ("held",), "muted"),
    ("failed", ("failed", "quarantined"), "bad"),
    ("skipped", ("skipped",), "muted"),
    ("done", ("succeeded",), "good"),
)
_NOISE = ("NVIDIA ", "GeForce ", "AMD ", "Intel(R) ", "(R)", "(TM)", " Processor", " CPU")


@dataclass(frozen=True, slots=True)
class Said:
    """What the top was told last."""

    snapshot: Snapshot
    place: str
    readonly: bool
    starting: bool
    now: float


class StatusLine(Still):
    """Two lines, redrawn only when a word of them changes."""

    DEFAULT_CSS = """
    StatusLine, StatusLine.-empty {
        display: block; height: 2; padding: 0 1; background: $surface; width: 1fr;
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._said: Said | None = None
        self._doors: list[tuple[int, int, str]] = []

    def tell(self, said: Said) -> None:
        self._said = said
        width = self.content_size.width
        if not width:
            return
        self.show(Text("\n").join([self._places(said, width), _machine(said, width)]))

    def on_resize(self, event: events.Resize) -> None:
        if self._said is not None:
            self.tell(self._said)

    def on_click(self, event: events.Click) -> None:
        """Go to the place under the mouse: in the app's own time, for it may take this screen away,
        and that waits until its widgets have nothing more to do."""
        at = event.get_content_offset(self)
        if at is None or at.y:
            return
        for start, end, name in self._doors:
            if start <= at.x < end:
                self.app.call_later(self.app.run_action, f"go('{name}')")

    def _places(self, said: Said, width: int) -> Text:
        """The doors, then the counts at the right edge; both in fewer words where room is short."""
        for words, gap in (("words", 2), ("glyphs", 2), ("tight", 2), ("tight", 1), ("tight", 0)):
            right = _counts(said.snapshot, words)
            left, doors = _doors(said.place, gap)
            if left.cell_len + right.cell_len + 2 <= width:
                break
        self._doors = doors
        left.truncate(max(8, width - right.cell_len - 1), overflow="ellipsis")
        left.pad_right(max(1, width - left.cell_len - right.cell_len))
        return left.append_text(right)


def _doors(here: str, gap: int) -> tuple[Text, list[tuple[int, int, str]]]:
    """The places, and from which cell to which each is; without a `gap` only `here` is named."""
    line, doors = Text(no_wrap=True), []
    for place in PLACES:
        start = line.cell_len
        if place.name == here:
            line.append("" if gap or not line else " ")
            start = line.cell_len
            line.append(f" {place.key} {place.label} ", f"bold {style('accent')} reverse")
        else:
            line.append(f"{' ' * max(1, gap - 1)}{place.key}", style("accent"))
            label = f" {place.label}" if gap else ""
            line.append(f"{label}{' ' * max(0, gap - 1)}", style("muted"))
        doors.append((start, line.cell_len, place.name))
    return line, doors


def _counts(snapshot: Snapshot, how: str) -> Text:
    """How many jobs stand where, in "words" or, where room is short, by their "glyphs", "tight"
    where it is shorter still."""
    parts = []
    for word, states, look in _GROUPS:
        count = sum(snapshot.counts.get(state, 0) for state in states)
        if count and how == "words":
            parts.append(Text.assemble((f"{count:,}", style(look)), (f" {word}", style("muted"))))
        elif count:
            space = "" if how == "tight" else " "
            parts.append(Text(f"{state_glyph(states[0])}{space}{count:,}", style(look)))
    between = {"words": " · ", "glyphs": "  ", "tight": " "}[how]
    return Text(between, style("faint")).join(parts)


def _machine(said: Said, width: int) -> Text:
    """Who works on what at the left; the queue's end and the disk at the right."""
    right = _right(said, brief=False)
    left = Text()
    for detail in (3, 2, 1, 0):
        left = _workers(said, detail)
        if left.cell_len + right.cell_len + 3 <= width:
            break
        if detail == 2:
            right = _right(said, brief=True)
    left.truncate(max(8, width - right.cell_len - 1), overflow="ellipsis")
    left.pad_right(max(1, width - left.cell_len - right.cell_len))
    return left.append_text(right)


def _right(said: Said, *, brief: bool) -> Text:
    parts = []
    machine = said.snapshot.machine
    if said.readonly:
        parts.append(Text("read-only", style("warn")))
    finish = said.snapshot.finish
    if finish is not None and finish.p50 is not None and finish.p50 >= said.now:
        early, late = formats.when(finish.p50, said.now), formats.when(finish.p90 or 0, said.now)
        words = early if brief or early == late else f"{early}–{late}"
        if finish.unknown and not brief:
            words = f"{early} or later"
        parts.append(Text.assemble(("done ~", style("muted")), (words, style("text"))))
    free = machine.disk_free
    if free is not None and (not brief or free < LITTLE_DISK):
        look = "warn" if free < LITTLE_DISK else "muted"
        parts.append(Text(f"{formats.room(free)} free", style(look)))
    return Text(" · ", style("faint")).join(parts)


def _workers(said: Said, detail: int) -> Text:
    snapshot = said.snapshot
    if not snapshot.read:
        return Text("reading the store", style("muted"))
    alive = [worker for worker in snapshot.workers if worker.alive]
    if not alive:
        words = "◐ starting a worker" if said.starting else "○ no worker"
        return Text(words, style("warn"))
    if detail == 0 and len(alive) > 1:
        return _crowd(alive)
    shown = Text("  ").join(
        _worker(worker, snapshot.machine.devices.get(worker.device), detail) for worker in alive
    )
    if any(stop.scope == "*" for stop in snapshot.stops):
        return Text.assemble(("‖ queue paused  ", style("pause")), shown)
    return shown


def _crowd(alive: Sequence[WorkerView]) -> Text:
    """Many devices in few cells: a dot each."""
    line = Text()
    for worker in alive:
        busy = worker.job_id is not None
        line.append("●" if busy else "○", style("accent" if busy else "good"))
    busy_ones = sum(worker.job_id is not None for worker in alive)
    return line.append(f" {busy_ones} of {len(alive)} devices busy", style("muted"))


def device_name(worker: WorkerView) -> str:
    """What a person calls the device, without what every such device is called."""
    name = one_line(worker.device_name or worker.device, limit=48)
    for noise in _NOISE:
        name = name.replace(noise, "")
    return name.split(" @")[0].strip() or worker.device


def _worker(worker: WorkerView, reading: Reading | None, detail: int) -> Text:
    state = one_line(worker.state, limit=16)
    busy = worker.job_id is not None
    words = f"job {worker.job_id}" if busy else ("idle" if state in ("idle", "") else state)
    name = device_name(worker)
    line = Text.assemble(
        ("● " if busy else "○ ", style("accent" if busy else "good")),
        (name if detail > 1 else one_line(name, limit=12), style("text")),
        (f" {words}", style("muted")),
    )
    if reading is None or not detail:
        return line
    if reading.utilisation is not None:
        line.append(f"  {reading.utilisation} %", style("text"))
    if detail > 1:
        line.append(f"  {memory_words(reading)}", style("muted"))
    if detail > 2 and reading.temperature is not None:
        line.append(f"  {reading.temperature} °C", style("muted"))
    return line


def memory_words(reading: Reading) -> str:
    """ "17.4 of 24.0 GiB": used of all."""
    gib = 1 << 30
    return f"{(reading.total - reading.free) / gib:.1f} of {reading.total / gib:.0f} GiB"
