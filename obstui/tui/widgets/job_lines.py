"""The lines that say how one job stands: shared by the queue's detail pane and the job screen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from obstui import estimate
from obstui.text import one_line
from obstui.tui import formats, wording
from obstui.tui.theme import state_glyph, state_style, style
from obstui.tui.widgets.bars import percent, progress_bar
from obstui.tui.widgets.still import in_its_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obstui.store import JobView
    from obstui.tui.facts import JobFacts
    from obstui.tui.follow import Snapshot


@in_its_place
def headline(job: JobView, title: str, width: int) -> Text:
    """Number, title and, at the right edge, the state."""
    words = wording.state_words(job)
    state = Text(f"{state_glyph(words)} {words}", state_style(words))
    left = Text.assemble(
        (f"{job.id}  ", style("accent")),
        (one_line(title, limit=200), style("strong")),
    )
    room = max(8, width - state.cell_len - 2)
    left.truncate(room, overflow="ellipsis")
    left.pad_right(max(1, width - left.cell_len - state.cell_len))
    return left.append_text(state)


@in_its_place
def asked(job: JobView, width: int) -> Text:
    """What the job was asked to do."""
    line = Text(f"{job.kind} · {wording.spec_facts(job)}", style("muted"))
    line.truncate(width, overflow="ellipsis")
    return line


@in_its_place
def status(job: JobView, snapshot: Snapshot, now: float, width: int, *, readonly: bool) -> Text:
    """Where a live job is and what is left, why a waiting one waits, how a finished one ended."""
    if job.live:
        return _live(job, snapshot, now, width)
    if not job.finished:
        alive = snapshot.worker_alive
        words = wording.waiting_words(job, snapshot.ahead, worker_alive=alive, readonly=readonly)
        return Text(words, style("text")).append_text(_so_far(job, snapshot))
    return _ended(job, now, readonly=readonly)


def _so_far(job: JobView, snapshot: Snapshot) -> Text:
    """What a job that waits to go on has on disk."""
    facts = snapshot.facts
    if facts is None or facts.job_id != job.id or not facts.phases or not facts.phases[-1].total:
        return Text()
    phase = facts.phases[-1]
    if not facts.phase_done and len(facts.phases) == 1:
        return Text()
    share = percent(facts.phase_done / phase.total)
    return Text(f"\nIt got as far as {one_line(phase.name, limit=40)}, {share}.", style("muted"))


@in_its_place
def placed(job: JobView, snapshot: Snapshot) -> Text:
    """Priority, sweep, the jobs it comes after, its hours: what is usual is not said."""
    parts = [f"priority {job.priority}"] if job.priority else []
    if (sweep := snapshot.sweeps.get(job.sweep_id or 0)) is not None:
        parts.append(wording.sweep_words(sweep))
    if snapshot.needs and snapshot.focus == job.id:
        parts.append(f"after job{'s' if len(snapshot.needs) > 1 else ''} "
                     + ", ".join(map(str, snapshot.needs)))  # fmt: skip
    if job.window:
        parts.append(f"only {job.window}")
    if job.max_runtime:
        parts.append(f"at most {formats.duration(job.max_runtime)}")
    return Text(" · ".join(parts), style("muted"))


@in_its_place
def notes(facts: JobFacts | None) -> Text:
    """What the job found worth telling, each once, whole."""
    said = dict.fromkeys(facts.notes) if facts is not None else ()
    return Text("\n").join(Text(f"Note: {note}", style("warn")) for note in said)


def _live(job: JobView, snapshot: Snapshot, now: float, width: int) -> Text:
    progress = job.progress or {}
    left = estimate.remaining(progress, now, history=snapshot.history(job))
    words = Text.assemble((wording.phase_words(progress), style("strong")))
    fraction = estimate.fraction_done(progress)
    if fraction is not None:
        room = max(4, width - words.cell_len - 8)
        words.append("  ").append_text(progress_bar(fraction, room))
        words.append(f"{percent(fraction):>6}", style("accent"))
    line = Text.assemble((formats.time_left(left), style("accent")))
    following = [one_line(name, limit=20) for name, *_ in progress.get("following") or ()]
    if following:
        # A sequential prune goes through the same phases many times.
        times = Counter(following)
        names = (f"{name} ×{count}" if count > 1 else name for name, count in times.items())
        line.append("   then " + ", ".join(names), style("muted"))
    if words_now := wording.at_work_on(job):
        line.append(f"   {words_now}", style("muted"))
    line.truncate(width, overflow="ellipsis")
    return Text("\n").join([words, line])


def _ended(job: JobView, now: float, *, readonly: bool) -> Text:
    if job.state in ("failed", "quarantined", "skipped"):
        why = one_line(job.error or job.reason or "It says no reason.", limit=4000)
        lines = [Text(why, style("bad"))]
        if step := wording.next_step(job, readonly=readonly):
            lines.append(Text(step, style("muted")))
        return Text("\n").join(lines)
    line = Text()
    if job.finished_at is not None:
        line.append(f"{job.state} {formats.when(job.finished_at, now)}", style("text"))
    if took := wording.took(job):
        several = f" in {job.attempt} attempts" if job.attempt > 1 else ""
        line.append(f", took {took}{several}", style("text"))
    if words := wording.outcome(job):
        line.append(f" · {words}", style("muted"))
    return line


def note(notes: Sequence[str], width: int) -> Text:
    """The newest note on two lines; where it or others do not fit, where to read them."""
    if not notes:
        return Text()
    note = Text(f"Note: {notes[-1]}", style("warn"))
    more = "  S: all of it" if len(notes) == 1 else f"  S: all {len(notes)} notes"
    room = 2 * width - 12
    if len(notes) > 1 or note.cell_len > room:
        note.truncate(max(8, room - len(more)), overflow="ellipsis")
        note.append(more, style("muted"))
    return note
