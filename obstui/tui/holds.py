"""What holds the whole queue or a device up: how it is said, made and lifted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.acts import Outcome
from obstui.tui.theme import style
from obstui.tui.writer import sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import StopView, Store
    from obstui.tui.follow import Snapshot

DRAIN = "drain"
_AFTER, _NOW, _GO = "after", "now", "go:"


def lines(snapshot: Snapshot, now: float, *, readonly: bool) -> Text:
    """One line for each stop, and for workers that are about to end; the key that lifts it."""
    said = [_stop(stop, now, readonly=readonly) for stop in snapshot.stops[:4]]
    leaving = [w for w in snapshot.workers if w.alive and w.state == "draining"]
    for worker in leaving:
        name = one_line(worker.device_name or worker.device, limit=32)
        words = f"The worker on {name} ends after its job; then "
        line = Text.assemble(("◑ ", style("pause")), (words, style("text")))
        if not readonly:
            line.append("w", style("accent")).append(" starts a new one.", style("muted"))
        said.append(line)
    return Text("\n").join(said)


def _stop(stop: StopView, now: float, *, readonly: bool) -> Text:
    queue = stop.scope == "*"
    reason = one_line(stop.reason, limit=200)
    by_hand = reason.startswith("by hand")
    what = "The queue is paused" if queue else f"{one_line(stop.scope, limit=60)} is stopped"
    why = "" if by_hand else f": {reason}"
    until = f" (until {formats.when(stop.until, now)})" if stop.until is not None else ""
    rest = " at once" if stop.urgent and by_hand else "; what runs ends as usual" if queue else ""
    line = Text.assemble(
        ("‖ " if queue else "▲ ", style("pause" if queue else "warn")),
        (f"{what}{rest}{why}{until}.", style("text")),
    )
    if not readonly:
        line.append("  P", style("accent")).append(" lets it go on.", style("muted"))
    return line


def options(snapshot: Snapshot) -> list[tuple[str, str]]:
    """What can be done now: keys for `carry_out` (or DRAIN), and words."""
    found: list[tuple[str, str]] = []
    scopes = [stop.scope for stop in snapshot.stops]
    for scope in scopes:
        what = "the queue" if scope == "*" else one_line(scope, limit=40)
        found.append((f"{_GO}{scope}", f"Let {what} go on"))
    if "*" not in scopes:
        found.append((_AFTER, "Pause after the running jobs"))
        found.append((_NOW, "Pause now: what runs saves its work and waits"))
    if any(worker.alive and worker.state != "draining" for worker in snapshot.workers):
        found.append((DRAIN, "Drain: the worker ends after its running job"))
    return found


def carry_out(key: str, store: Store) -> Outcome:
    """Do what was chosen among `options`. Raises StoreError."""
    from obstui.store.stops import BY_HAND, QUEUE

    if key.startswith(_GO):
        scope = key.removeprefix(_GO)
        what = "The queue" if scope == QUEUE else one_line(scope, limit=60)
        return Outcome(f"{what} goes on." if store.go(scope) else f"{what} went on already.")
    store.stop(QUEUE, BY_HAND, urgent=key == _NOW)
    end = "running jobs save their work" if key == _NOW else "running jobs end as usual"
    return Outcome(f"The queue is paused; {end}.", (lambda s: s.go(QUEUE),))


def drain(paths: Paths) -> str:
    """Have the workers end after their jobs; what came of it. Not for the UI's thread."""
    from obstui.worker import launch

    try:
        return "The worker ends after its job." if launch.drain(paths) else "No worker is running."
    except Exception as err:
        return sentence(err)
