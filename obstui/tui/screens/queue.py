"""Home: the jobs that were asked for, and how the selected one stands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import DataTable, Input

from obstui.errors import Problem
from obstui.tui import acts, holds
from obstui.tui.aside import aside
from obstui.tui.screens.choice import Choice, Selections
from obstui.tui.screens.job_acts import JobActs
from obstui.tui.theme import style
from obstui.tui.widgets.filter_line import FilterLine
from obstui.tui.widgets.job_columns import COLUMNS, USUAL
from obstui.tui.widgets.job_detail import JobDetail
from obstui.tui.widgets.job_table import JobTable
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import JobView
    from obstui.store.search import Term
    from obstui.tui.acts import Act
    from obstui.tui.follow import Snapshot

_SORTS = ("queue", "id", "name", "state", "finished", "time")
_WRITING = ("new_job", "mark", "mark_all", "hold", "move")
_OVER_JOBS = ("filter", "sort", "reverse", "columns", "mark", "mark_all", "move", "table", "end")


class QueueScreen(JobActs[None]):
    """The table and the detail pane: side by side where there is room, else one above the other."""

    place = "queue"
    AUTO_FOCUS = "JobTable"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new_job", "New job", id="queue.new", tooltip="Queue a job"),
        Binding("slash", "filter", "Filter", id="queue.filter", key_display="/",
                tooltip="Show only jobs like state:failed kind:prune sparsity>0.2 age<1d text"),
        Binding("s", "sort", "Sort", id="queue.sort", show=False,
                tooltip="Sort by the next column: queue, id, name, state, ended, time"),
        Binding("S", "reverse", "Reverse", id="queue.reverse", show=False,
                tooltip="Sort the other way round"),
        Binding("o", "columns", "Columns", id="queue.columns", show=False,
                tooltip="Choose the columns"),
        Binding("space", "mark", "Mark", id="queue.mark", show=False,
                tooltip="Mark the job: keys then act on all marked ones, after one question"),
        Binding("asterisk", "mark_all", "Mark all", id="queue.mark-all", show=False,
                key_display="*", tooltip="Mark all jobs that the filter finds"),
        Binding("escape", "clear", "Unmark", id="queue.clear", show=False,
                tooltip="Forget the marks, then the filter"),
        Binding("P", "hold", "Pause the queue", id="queue.hold", show=False,
                tooltip="Pause or drain the whole queue, or let what is stopped go on"),
        Binding("K,<", "move(-1)", "Move up", id="queue.move-up", show=False,
                tooltip="Before the job above it, of the same priority"),
        Binding("J,>", "move(1)", "Move down", id="queue.move-down", show=False,
                tooltip="Behind the job below it, of the same priority"),
        Binding("t", f"move({-acts.FAR})", "Move to the top", id="queue.move-top", show=False,
                tooltip="Before all jobs of the same priority"),
        Binding("j,down", "table('cursor_down')", "Down", id="queue.down", show=False,
                tooltip="The job below"),
        Binding("k,up", "table('cursor_up')", "Up", id="queue.up", show=False,
                tooltip="The job above"),
        Binding("pagedown", "table('page_down')", "Page down", id="queue.page-down", show=False,
                tooltip="A page further down"),
        Binding("pageup", "table('page_up')", "Page up", id="queue.page-up", show=False,
                tooltip="A page further up"),
        Binding("g,home", "end(0)", "First", id="queue.first", show=False, tooltip="The first job"),
        Binding("G,end", "end(-1)", "Last", id="queue.last", show=False, tooltip="The last job"),
    ]  # fmt: skip

    def __init__(self, watch: int | None = None) -> None:
        super().__init__()
        self._watch = watch
        self._terms: tuple[Term, ...] = ()
        self._fault = ""
        self._sort, self._reverse = "queue", False
        self._marks: set[int] = set()
        self._landing: int | None = None
        self._filtered_from: int | None = None

    def compose_body(self) -> ComposeResult:
        yield Still(id="holds")
        yield FilterLine("JobTable", id="filter")
        with Container(id="body"):
            yield JobTable(id="jobs")
            yield Still(id="empty")
            yield JobDetail(id="detail")

    def on_mount(self) -> None:
        if self._watch is not None:
            self.choose(self._watch)
        else:
            self._return()
        self.watch(self.query_one(JobTable), "scroll_y", self._remember, init=False)

    def _return(self) -> None:
        """Look as the person left it."""
        kept = self.dashboard.remembered.get
        table = self.query_one(JobTable)
        chosen = [key for key in kept("queue columns", list(USUAL)) if isinstance(key, str)]
        table.chosen_columns = frozenset(chosen)
        self._sort, self._reverse = kept("queue sort", "queue"), kept("queue reversed", False)
        if self._sort not in _SORTS:
            self._sort = "queue"
        if text := kept("queue filter", ""):
            self.query_one(FilterLine).put(text)
        if job_id := kept("queue job", 0):
            table.choose(job_id, kept("queue line", 0))
        if text or job_id or self._order_words():
            self._fault = self._read_filter(text)
            self._seek(around=job_id or None)

    def _remember(self) -> None:
        keep = self.dashboard.remembered.put
        keep("queue columns", sorted(self.query_one(JobTable).chosen_columns))
        keep("queue sort", self._sort)
        keep("queue reversed", self._reverse)
        keep("queue filter", self.query_one(FilterLine).text)
        keep("queue job", self.query_one(JobTable).job_id or 0)
        keep("queue line", self.query_one(JobTable).line)

    # -- what is shown -----------------------------------------------------------------------

    @property
    def selected_job(self) -> JobView | None:
        if not self.is_mounted:
            return None
        return self.dashboard.snapshot.job(self.query_one(JobTable).job_id)

    def choose(self, job_id: int) -> None:
        """Select this job, now or as soon as it is in the table."""
        self.query_one(JobTable).choose(job_id)
        self._seek(around=job_id)

    async def hides(self, job_id: int) -> bool:
        """Whether the filter keeps this job out of the table."""
        terms = self._terms
        return bool(terms) and await asyncio.to_thread(_hides, self.dashboard.paths, terms, job_id)

    def ask_follower(self) -> None:
        self.dashboard.follow(self.query_one(JobTable).job_id)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        now = self.dashboard.clock()
        found = snapshot.found
        table = self.query_one(JobTable)
        empty = found is not None and not found.jobs
        self.query_one("#empty", Still).show(self._empty_words(snapshot) if empty else "")
        table.display = not empty
        self.set_class(empty and not self._terms, "-empty")
        table.marks = self._marks
        table.show(snapshot, now)
        self._land(snapshot)
        lines = holds.lines(snapshot, now, readonly=self.dashboard.readonly)
        self.query_one("#holds", Still).show(lines)
        self.query_one(FilterLine).tell(self._found_words(snapshot), self._fault)
        detail = self.query_one(JobDetail)
        await detail.show(snapshot, table.job_id, now, readonly=self.dashboard.readonly)
        self.refresh_bindings()

    def _found_words(self, snapshot: Snapshot) -> Text:
        found, parts = snapshot.found, []
        if found is None:
            return Text()
        if self._marks:
            parts.append(Text(f"{len(self._marks):,} marked (Esc unmarks)", style("warn")))
        if (words := self._order_words()) and not self.query_one(JobTable).tells_order:
            parts.append(Text(words, style("muted")))
        total = sum(snapshot.counts.values())
        if found.listing.terms:
            parts.append(Text(f"{found.total:,} of {total:,}", style("text")))
        elif len(found.jobs) < found.total:
            first = found.listing.offset + 1
            span = f"{first:,}–{first + len(found.jobs) - 1:,} of {found.total:,} jobs"
            parts.append(Text(span, style("muted")))
        return Text(" · ", style("faint")).join(parts)

    def _order_words(self) -> str:
        back = ", reversed" if self._reverse else ""
        return f"by {self._sort}{back}" if self._sort != "queue" or back else ""

    def _empty_words(self, snapshot: Snapshot) -> Text:
        if snapshot.fault:
            return Text("")
        if snapshot.found is not None and snapshot.found.listing.terms:
            return Text("No job is like that. Esc clears the filter.", style("muted"))
        if self.dashboard.readonly:
            return Text("The queue is empty.", style("muted"))
        return Text.assemble(
            ("The queue is empty.\n\n", style("strong")),
            ("n", style("accent")),
            (" queues a job. Try it with ", style("muted")),
            ("ctrl+s", style("accent")),
            (
                " right after:\nthe form begins with a prune of the small bundled model.\n\n",
                style("muted"),
            ),
            ("obstui demo", style("text")),
            (" in a shell goes the whole way, from prune to pictures.", style("muted")),
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _WRITING and self.dashboard.readonly:
            return False
        if action in _OVER_JOBS and self.has_class("-empty"):
            return False
        if action == "filter":
            return not isinstance(self.focused, Input)
        if action == "clear":
            return True if self._marks or self._terms or self._fault else None
        return super().check_action(action, parameters)

    # -- which jobs --------------------------------------------------------------------------

    def _seek(self, *, around: int | None = None, offset: int = 0) -> None:
        from obstui.store.search import Listing

        self.dashboard.seek(
            Listing(self._terms, self._sort, self._reverse, offset=offset, around=around)
        )

    def action_filter(self) -> None:
        self._filtered_from = self.query_one(JobTable).job_id
        self.query_one(FilterLine).open()

    @on(FilterLine.Changed)
    async def _filter_changed(self, event: FilterLine.Changed) -> None:
        before = self._terms
        self._fault = self._read_filter(event.text)
        if self._fault and event.done:  # the rows below are not what was asked for
            self.query_one(FilterLine).open()
        if before != self._terms:
            # Half a word may find nothing: the job selected before is selected again when it can.
            if self._filtered_from is not None:
                self.query_one(JobTable).choose(self._filtered_from)
            self._seek(around=self._filtered_from or self.query_one(JobTable).job_id)
        self._remember()
        await self.show_newest()

    def _read_filter(self, text: str) -> str:
        """What is wrong with it; then the filter before stays in force."""
        from obstui.store.errors import BadFilter
        from obstui.store.search import parse

        try:
            self._terms = parse(text)
        except BadFilter as err:
            return str(err)
        return ""

    async def action_clear(self) -> None:
        if self._marks:
            self._marks.clear()
            await self.show_newest()
        else:
            self.query_one(FilterLine).action_close()

    def action_sort(self) -> None:
        self._sort_by(_SORTS[(_SORTS.index(self._sort) + 1) % len(_SORTS)])

    def action_reverse(self) -> None:
        self._sort_by(self._sort, reverse=not self._reverse)

    @on(DataTable.HeaderSelected)
    def _head_clicked(self, event: DataTable.HeaderSelected) -> None:
        key = str(event.column_key.value)
        if key in _SORTS:
            self._sort_by(key, reverse=key == self._sort and not self._reverse)

    def _sort_by(self, sort: str, *, reverse: bool = False) -> None:
        self._sort, self._reverse = sort, reverse
        self._seek(around=self.query_one(JobTable).job_id)
        self._remember()

    @on(JobTable.EndReached)
    def _end_reached(self, event: JobTable.EndReached) -> None:
        found = self.dashboard.snapshot.found
        if found is not None:
            begin = found.listing.offset + event.step * found.listing.limit // 2
            self._seek(offset=max(0, min(begin, found.total - found.listing.limit)))

    def action_end(self, row: int) -> None:
        """The first job of all (`row` 0) or the last (-1)."""
        self._landing = row
        self._land(self.dashboard.snapshot)
        if self._landing is not None and (found := self.dashboard.snapshot.found):
            self._seek(offset=0 if row == 0 else max(0, found.total - found.listing.limit))

    def _land(self, snapshot: Snapshot) -> None:
        found = snapshot.found
        if self._landing is None or found is None:
            return
        begin = found.listing.offset
        if begin == 0 if self._landing == 0 else begin + len(found.jobs) >= found.total:
            self.query_one(JobTable).choose_row(self._landing)
            self._landing = None

    def action_columns(self) -> None:
        table = self.query_one(JobTable)
        options = [(c.key, c.words or c.label) for c in COLUMNS if not c.always]

        async def chosen(keys: frozenset[str] | None) -> None:
            if keys is not None:
                table.chosen_columns = keys | {c.key for c in COLUMNS if c.always}
                self._remember()
                await self.show_newest()
                if left_out := table.left_out:
                    words = f"No room in this width for: {', '.join(left_out)}."
                    self.notify(words, markup=False, timeout=5)

        self.app.push_screen(Selections("Columns", options, table.chosen_columns), chosen)

    # -- marks -------------------------------------------------------------------------------

    @property
    def any_marked(self) -> bool:
        return bool(self._marks)

    async def marked_jobs(self) -> Mapping[int, str]:
        if not self._marks:
            return {}
        return await asyncio.to_thread(_states, self.dashboard.paths, None, frozenset(self._marks))

    async def action_mark(self) -> None:
        table = self.query_one(JobTable)
        if (job_id := table.job_id) is not None:
            self._marks ^= {job_id}
            await self.show_newest()
            table.action_cursor_down()

    async def action_mark_all(self) -> None:
        self._fault = self._read_filter(self.query_one(FilterLine).text)  # also the last letters
        states = await asyncio.to_thread(_states, self.dashboard.paths, self._terms, None)
        self._marks |= states.keys()
        await self.show_newest()

    def _carry_out(self, act: Act, targets: Mapping[int, str]) -> None:
        self._marks.clear()
        super()._carry_out(act, targets)

    # -- acts --------------------------------------------------------------------------------

    async def action_move(self, places: int) -> None:
        await self.perform(acts.shift(places))

    def action_hold(self) -> None:
        """Pause, drain, or let go on: one window for all that holds the queue up."""
        snapshot = self.dashboard.snapshot

        async def chosen(key: str | None) -> None:
            if key == holds.DRAIN:
                words = await aside(lambda: holds.drain(self.dashboard.paths))
                self.notify(words, markup=False)
            elif key is not None:
                self.change(lambda store: holds.carry_out(key, store))

        self.app.push_screen(Choice("The queue", holds.options(snapshot)), chosen)

    @on(JobTable.Chosen)
    async def _job_chosen(self) -> None:
        self.ask_follower()
        self._remember()
        await self.show_newest()

    @on(DataTable.RowSelected)
    def action_open_job(self) -> None:
        if (job := self.selected_job) is not None:
            self.dashboard.open_job(job.id)

    def action_new_job(self) -> None:
        self.dashboard.new_job()

    async def action_table(self, action: str) -> None:
        await self.query_one(JobTable).run_action(action)


def _states(
    paths: Paths, terms: tuple[Term, ...] | None, among: frozenset[int] | None
) -> dict[int, str]:
    from obstui.store import Reader

    with Reader.open(paths) as reader:
        return reader.states(terms or (), among=among)


def _hides(paths: Paths, terms: tuple[Term, ...], job_id: int) -> bool:
    from obstui.store import Reader

    try:
        with Reader.open(paths) as reader:
            return job_id not in reader.states(terms, among=[job_id])
    except Problem:
        return False
