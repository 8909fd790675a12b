"""Home: all jobs, and how the selected one stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import DataTable

from obstui.tui.screens.job_acts import JobActs
from obstui.tui.theme import style
from obstui.tui.widgets.job_detail import JobDetail
from obstui.tui.widgets.job_table import JobTable
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.store import JobView
    from obstui.tui.follow import Snapshot


class QueueScreen(JobActs[None]):
    """The table and the detail pane: side by side where there is room, else one above the other."""

    place = "queue"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new_job", "New job", id="queue.new", tooltip="Queue a job"),
        Binding("j", "table('cursor_down')", "Down", id="queue.down", show=False,
                tooltip="The job below"),
        Binding("k", "table('cursor_up')", "Up", id="queue.up", show=False,
                tooltip="The job above"),
        Binding("g", "table('scroll_top')", "First", id="queue.first", show=False,
                tooltip="The first job"),
        Binding("G", "table('scroll_bottom')", "Last", id="queue.last", show=False,
                tooltip="The last job"),
    ]  # fmt: skip

    def __init__(self, watch: int | None = None) -> None:
        super().__init__()
        self._watch = watch

    def compose_body(self) -> ComposeResult:
        with Container(id="body"):
            yield JobTable(id="jobs")
            yield Still(id="empty")
            yield JobDetail(id="detail")

    def on_mount(self) -> None:
        if self._watch is not None:
            self.query_one(JobTable).choose(self._watch)

    @property
    def selected_job(self) -> JobView | None:
        if not self.is_mounted:
            return None
        return self.dashboard.snapshot.job(self.query_one(JobTable).job_id)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "new_job" and self.dashboard.readonly:
            return False
        return super().check_action(action, parameters)

    def choose(self, job_id: int) -> None:
        """Select this job, now or as soon as it is in the table."""
        self.query_one(JobTable).choose(job_id)

    def ask_follower(self) -> None:
        self.dashboard.follow(self.query_one(JobTable).job_id)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        now = self.dashboard.clock()
        table = self.query_one(JobTable)
        empty = snapshot.read and not snapshot.jobs
        self.query_one("#empty", Still).show(self._empty_words() if empty else "")
        table.display = not empty
        table.show(snapshot, now)
        detail = self.query_one(JobDetail)
        await detail.show(snapshot, table.job_id, now, readonly=self.dashboard.readonly)
        self.refresh_bindings()

    def _empty_words(self) -> Text:
        if self.dashboard.snapshot.fault:
            return Text("")
        if self.dashboard.readonly:
            return Text("The queue is empty.", style("muted"))
        return Text.assemble(
            ("The queue is empty.\n\n", style("strong")),
            ("n", style("accent")),
            (" queues a job.\n", style("muted")),
            ("obstui demo", style("text")),
            (" in a shell shows the whole way on the bundled model.", style("muted")),
        )

    @on(JobTable.Chosen)
    async def _job_chosen(self) -> None:
        self.ask_follower()
        await self.show_newest()

    @on(DataTable.RowSelected)
    def action_open_job(self) -> None:
        if (job := self.selected_job) is not None:
            self.dashboard.open_job(job.id)

    def action_new_job(self) -> None:
        self.dashboard.new_job()

    async def action_table(self, action: str) -> None:
        await self.query_one(JobTable).run_action(action)
