"""Where a replay stands: the moment in words, and on a line with the phases marked."""

from __future__ import annotations

from rich.text import Text

from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.facts import JobFacts
from obstui.tui.replay import Replay
from obstui.tui.theme import style
from obstui.tui.widgets.still import in_its_place
from obstui.tui.widgets.telemetry import LABEL, Span

SHORT = 600.0
"""Seconds below which a story's steps are told in tenths."""


@in_its_place
def replay_lines(replay: Replay, then: JobFacts, width: int, *, playing: bool) -> Text:
    """Two lines: "▶ at 02:14:05 (+1 h 12 min)  solve 87 of 210", and the time line."""
    line = Text("▶ " if playing else "‖ ", style("accent"), no_wrap=True)
    line.append(f"at {formats.clock(replay.at)}", style("strong"))
    into, all_of_it = replay.at - replay.began, replay.ended - replay.began
    into_it = f"{into:.1f} s" if all_of_it < SHORT else formats.duration(into)
    line.append(f" (+{into_it})", style("text"))
    line.append(f"  {_phase(then)}", style("text"))
    line.append("  [ ] { } Space · Esc: the end", style("muted"))
    line.truncate(width, overflow="ellipsis")
    return Text("\n").join([line, _line(replay, width)])


def _phase(then: JobFacts) -> str:
    if not then.phases:
        return "before the first phase"
    phase = then.phases[-1]
    return f"{one_line(phase.name, limit=24)} {then.phase_done} of {phase.total}"


def _line(replay: Replay, width: int) -> Text:
    room = max(8, width - LABEL)
    span = Span(replay.began, replay.ended, replay.at)
    here = span.column(replay.at, room)
    marks = {span.column(phase.at, room) for phase in replay.story.phases}
    line = Text("time ", style("muted"), no_wrap=True)
    for column in range(room):
        if column == here:
            line.append("●", style("accent"))
        elif column in marks:
            line.append("┼", style("text"))
        else:
            past = column < here
            line.append("━" if past else "─", style("accent" if past else "faint"))
    return line
