"""The morning report: what happened while the person was away, and what is still to come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable

from obstui.report import (
    FIRST_LOOK,
    SEEN,
    Report,
    collect,
    first_look,
    last_seen,
    lost_words,
    shares,
    tree_bytes,
)
from obstui.text import one_line
from obstui.tui import wording
from obstui.tui.acts import Outcome
from obstui.tui.follow import Fault
from obstui.tui.formats import duration, params, size, when
from obstui.tui.screens.job_acts import JobActs
from obstui.tui.theme import state_glyph, state_style, style
from obstui.tui.widgets.sheet import Head, Rows, cell
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from rich.console import Console

    from obstui.config import Paths
    from obstui.finish import Finish
    from obstui.store import JobView, Reader, Store
    from obstui.tui.follow import Snapshot

SHOWN_JOBS = 200

_LABEL = 9

SIZES_FOR = 60.0
"""Seconds for which a folder's size is believed: to walk thousands of files takes long."""


READ_AGAIN = 10.0
"""Seconds for which the moment that a report is of stays the same: what a running job costs would
else be drawn anew every second."""


class Away:
    """Reads the report of one visit: `since` stays the same while it is open, `now` goes on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.now = clock()
        self.since: float | None = None
        self.first = False
        """Whether no report was ever read here."""
        self.unread = False
        """Whether it was counted as read, and that was taken back."""
        self._sizes: dict[Path, tuple[float, int]] = {}

    def read(self, reader: Reader) -> Report:
        """Raises StoreError."""
        if self.since is None:
            seen = last_seen(reader, self.now)
            self.since, self.first = seen or first_look(reader, self.now), seen is None
        if (now := self._clock()) - self.now >= READ_AGAIN:
            self.now = now
        return collect(reader, reader.paths, since=self.since, now=self.now,
                       measure=self._measure)  # fmt: skip

    def _measure(self, folder: Path) -> int:
        """Bytes below a folder, as they were within the last minute."""
        walked, size = self._sizes.get(folder, (float("-inf"), 0))
        if time.monotonic() - walked >= SIZES_FOR:
            size = tree_bytes(folder)
            self._sizes[folder] = (time.monotonic(), size)
        return size


class ReportScreen(JobActs[None]):
    """What ended, what failed first, and below it what it cost and what is left."""

    place = "report"
    CSS_PATH = "report.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,o", "open_job", "Open job", id="report.open",
                tooltip="The job under the cursor"),
        Binding("s", "seen", "Seen", id="report.seen",
                tooltip="Count all this as read: the next report begins now"),
    ]  # fmt: skip

    def compose_body(self) -> ComposeResult:
        yield Still(id="heading")
        yield Rows(id="ended")
        with VerticalScroll(id="rest", can_focus=False):
            yield Still(id="lines")

    def on_mount(self) -> None:
        self._away = Away(self.dashboard.clock)

    def ask_follower(self) -> None:
        self.dashboard.follow(None, reading=self._away.read)

    @property
    def _report(self) -> Report | None:
        page = self.dashboard.snapshot.page_of(self._away.read)
        return page if isinstance(page, Report) else None

    @property
    def selected_job(self) -> JobView | None:
        found, chosen = self._report, self.query_one(Rows).chosen
        jobs = ended(found) if found is not None else []
        return next((job for job in jobs if str(job.id) == chosen), None)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        page, found = snapshot.page_of(self._away.read), self._report
        if isinstance(page, Fault):
            self.query_one("#lines", Still).show(Text(page.words, style("bad")))
        if found is None:
            return
        self.dashboard.report_read_at = None if self._away.unread else found.now
        self.query_one("#heading", Still).show(heading(found, self._away.first))
        jobs, table = ended(found), self.query_one(Rows)
        table.display = bool(jobs)
        table.show(heads(self.size.width), {str(job.id): _cells(job) for job in jobs})
        self._describe()

    @on(Rows.Chosen)
    def _describe(self) -> None:
        """What the table has no room for, and the figures of the whole."""
        found, job, app = self._report, self.selected_job, self.dashboard
        if found is None:
            return
        said = [] if job is None else [_line(f"Job {job.id}", wording.outcome(job) or job.state)]
        width = self.query_one("#rest").scrollable_content_region.width
        told = (
            _hung(line, app.console, width)
            for line in (*said, *lines(found, app.snapshot.finish, readonly=app.readonly))
        )
        self.query_one("#lines", Still).show(Text("\n").join(told))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "seen" and self.dashboard.readonly:
            return False
        return super().check_action(action, parameters) if self.is_mounted else False

    @on(DataTable.RowSelected)
    def action_open_job(self) -> None:
        if (job := self.selected_job) is not None:
            self.dashboard.open_job(job.id)

    def action_seen(self) -> None:
        away, found = self._away, self._report
        if found is None:
            return
        read_at = found.now
        before = None if away.first else away.since
        away.unread = False

        def take_back(store: Store) -> None:
            store.set_setting(SEEN, before)
            away.unread = True

        def act(store: Store) -> Outcome:
            store.set_setting(SEEN, read_at)
            return Outcome("Read: the next report begins here.", (take_back,))

        self.change(act)


def leave_word(store: Store, read_at: float) -> None:
    """The next report begins where the last one was read, here or in another dashboard. Raises
    StoreError."""
    store.set_setting(SEEN, max(store.setting(SEEN) or 0.0, read_at))


def greeting(paths: Paths, now: float) -> str:
    """What ended since the person last read a report; "" if nothing did, or none was ever read.
    Reads the store. Raises StoreError."""
    from obstui.store import Reader

    with Reader.open(paths) as reader:
        if (seen := last_seen(reader, now)) is None:
            return ""
        states = [job.state for job in reader.jobs(ended_since=seen)]
    failed = sum(state in ("failed", "quarantined") for state in states)
    if not states:
        return ""
    return (f"Since your last report: {states.count('succeeded')} finished, {failed} failed. "
            "6 shows it.")  # fmt: skip


def ended(found: Report) -> list[JobView]:
    """What needs a person first, then the newest first."""
    jobs = [*reversed(found.failed), *reversed(found.other), *reversed(found.succeeded)]
    return jobs[:SHOWN_JOBS]


def heads(width: int) -> list[Head]:
    """What ended is told in `width` cells: "what" gets a third of those that the rest leaves."""
    room = max(32, width - 6 - 13 - 4 * 2 - 1)  # the air around columns, the scrollbar
    what = 16 + (room - 32) // 3
    return [Head("job", "job", 6), Head("state", "state", 13, right=False),
            Head("what", "what", what, right=False),
            Head("why", "why or result", room - what, right=False)]  # fmt: skip


def heading(found: Report, first: bool) -> Text:
    """One line: since when, and how much of what."""
    words = Text(no_wrap=True, overflow="ellipsis")
    begins = "The last day" if found.now - found.since < 2 * FIRST_LOOK else "Everything so far"
    words.append(begins if first else "While you were away", style("strong"))
    words.append("   " if first else f"  since {when(found.since, found.now)}   ", style("muted"))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(shares(found.succeeded).items()))
    words.append(f"{len(found.succeeded)} finished", style("good" if kinds else "muted"))
    for jobs, word, look in ((found.failed, "failed", "bad"), (found.other, "not run", "muted")):
        if jobs:
            words.append(f"  {len(jobs)} {word}", style(look))
    words.append(f"   {kinds}", style("muted"))
    return words


def lines(found: Report, finish: Finish | None, *, readonly: bool) -> Iterator[Text]:
    """The best sizes, the cost, what is left and when that will be done, where anybody can tell."""
    for best in found.best:
        fewer = 1 - best.params / best.dense_params if best.dense_params else 0.0
        yield _line(
            "Best" if best.good else "Nearest",
            f"{one_line(best.base, limit=40)} as {one_line(best.model, limit=40)}: "
            f"{params(best.params)} parameters, {fewer:.0%} fewer ({best.quality}; "
            f"job {best.job_id})",
            "good" if best.good else "warn",
        )
    hours = [f"{duration(seconds)} on {one_line(device, limit=40)}"
             for device, seconds in sorted(found.device_seconds.items())]  # fmt: skip
    yield _line("Cost", ", ".join(hours) or "no device time")
    if found.lost:
        yield _line("Lost", lost_words(found.lost), "warn")
    whole = "" if found.all_bytes is None else f"; {size(found.all_bytes)} in the state folder"
    yield _line("Disk", f"{size(found.disk_bytes)} by these jobs{whole}")
    yield _line("Left", _left(found, finish))
    for stop in found.stops:
        yield _line("Stopped", one_line(stop if readonly else wording.by_key(stop)), "warn")


def _left(found: Report, finish: Finish | None) -> str:
    counts = found.counts
    running = sum(counts[state] for state in ("starting", "running", "pausing", "cancelling"))
    shown = {"running": running} | {s: counts[s] for s in ("queued", "held", "paused")}
    words = ", ".join(f"{count} {state}" for state, count in shown.items() if count) or "nothing"
    if finish is None or not finish.jobs:
        return words
    if finish.p50 is not None and finish.p90 is not None:
        words += f"; done by {_clock(finish.p50, found.now)}"
        if finish.unknown:
            return f"{words} at the earliest"
        return f"{words}, nine times of ten by {_clock(finish.p90, found.now)}"
    return f"{words}; when it ends is unknown"


def _clock(at: float, now: float) -> str:
    day = when(at, now)
    return day if ":" in day else f"{time.strftime('%H:%M', time.localtime(at))} on {day}"


def _line(label: str, words: str, look: str = "text") -> Text:
    return Text.assemble((f"{label:{_LABEL}}", style("muted")), (words, style(look)))


def _hung(line: Text, console: Console, width: int) -> Text:
    """The line with what does not fit below its own words, not below their label."""
    words = line[_LABEL:].wrap(console, max(16, width - _LABEL))
    return line[:_LABEL].append_text(Text("\n" + " " * _LABEL).join(words))


def _cells(job: JobView) -> tuple[Text, ...]:
    return (
        cell(str(job.id), "muted"),
        Text(f"{state_glyph(job.state)} {job.state}", state_style(job.state), no_wrap=True),
        cell(one_line(job.name or job.kind, limit=80), right=False),
        cell(one_line(wording.outcome(job), limit=300), right=False),
    )
