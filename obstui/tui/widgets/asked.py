"""What a job was asked to do, in full; what it had to say; its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from obstui.asked import settings
from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.theme import state_style, style
from obstui.tui.widgets.still import in_its_place

if TYPE_CHECKING:
    from obstui.store import AttemptView, JobView

PROMPTS_SHOWN = 12


@in_its_place
def asked_text(
    job: JobView, attempts: Sequence[AttemptView], notes: Sequence[str], now: float
) -> Text:
    """Notes first: they are what the person should read. Then what was set, then the rest."""
    chosen, usual = settings(job.spec)
    parts = [_notes(notes)] if notes else []
    parts.append(_block("Set for this job", chosen, "text"))
    parts.append(_prompts(job.spec.get("prompts") or ()))
    parts.append(_block("As usual", usual, "muted"))
    parts.append(_attempts(attempts, now))
    return Text("\n\n").join([part for part in parts if part.plain])


def _head(words: str) -> Text:
    return Text(words, style("strong"))


def _block(head: str, entries: Sequence[tuple[str, str]], look: str) -> Text:
    if not entries:
        return Text()
    width = max(len(name) for name, _ in entries) + 2
    lines = [_head(head)]
    lines += [
        Text.assemble((f"{name:<{width}}", style("muted")), (words, style(look)))
        for name, words in entries
    ]
    return Text("\n").join(lines)


def _prompts(prompts: Sequence[str]) -> Text:
    if not prompts:
        return Text()
    count = "1 prompt" if len(prompts) == 1 else f"{len(prompts)} prompts"
    lines = [_head(count)]
    lines += [
        Text(one_line(prompt, limit=300), style("text")) for prompt in prompts[:PROMPTS_SHOWN]
    ]
    if len(prompts) > PROMPTS_SHOWN:
        lines.append(Text(f"and {len(prompts) - PROMPTS_SHOWN} more", style("muted")))
    return Text("\n").join(lines)


def _notes(notes: Sequence[str]) -> Text:
    lines = [_head("Notes")]
    lines += [Text(one_line(note, limit=2000), style("warn")) for note in notes]
    return Text("\n").join(lines)


def _attempts(attempts: Sequence[AttemptView], now: float) -> Text:
    if not attempts:
        return Text()
    lines = [_head("Attempts")]
    for attempt in attempts:
        end = attempt.finished_at
        times = formats.when(attempt.started_at, now)
        if end is not None:
            times += f", took {formats.duration(end - attempt.started_at)}"
        state = attempt.state or "under way"
        line = Text.assemble(
            (f"{attempt.number}  ", style("accent")),
            (state, state_style(state) if attempt.state else style("text")),
            (f"  {times}", style("muted")),
        )
        if attempt.error or attempt.reason:
            line.append(f"  {one_line(attempt.error or attempt.reason, limit=500)}", style("text"))
        lines.append(line)
    return Text("\n").join(lines)
