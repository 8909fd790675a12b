"""The pane beside (or below) the table: how the selected job stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical

from obstui.tui.shots import rows_of_shots
from obstui.tui.theme import style
from obstui.tui.widgets import job_lines
from obstui.tui.widgets.bars import memory_line
from obstui.tui.widgets.layer_map import LayerMap
from obstui.tui.widgets.log_tail import LogTail
from obstui.tui.widgets.picture import PictureRow
from obstui.tui.widgets.plan_panel import PlanPanel
from obstui.tui.widgets.result_tables import result_text
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.store import JobView
    from obstui.tui.facts import JobFacts
    from obstui.tui.follow import Snapshot
    from obstui.tui.screens.view import View


class JobDetail(Vertical):
    """Shows one job; what has nothing to say takes no room, the log takes the rest."""

    DEFAULT_CSS = """
    JobDetail { padding: 0 1; }
    JobDetail Still { width: 1fr; }
    JobDetail #pane-pictures { display: none; }
    """

    def compose(self) -> ComposeResult:
        yield Still(id="pane-head")
        yield Still(id="pane-asked")
        yield Still(id="pane-status")
        yield Still(id="pane-placed")
        yield Still(id="pane-notes")
        yield Still(id="pane-memory")
        yield PlanPanel(id="pane-plan")
        yield Still(id="pane-result")
        layers = LayerMap(id="pane-map")
        layers.can_focus = False
        yield layers
        yield Still(id="pane-legend")
        yield PictureRow(id="pane-pictures")
        yield LogTail(id="pane-log")

    def on_resize(self, event: events.Resize) -> None:
        """Its lines are made for a width."""
        self.call_later(cast("View[object]", self.screen).show_newest)

    async def show(
        self, snapshot: Snapshot, job_id: int | None, now: float, *, readonly: bool
    ) -> None:
        """Bring the pane up to date with this job, or say that there is none."""
        width = self.content_size.width
        if not width:
            return
        job = snapshot.job(job_id)
        if job is None:
            await self._show_nothing(snapshot)
            return
        facts = snapshot.facts
        facts = facts if facts and facts.job_id == job.id else None
        head = job_lines.headline(job, snapshot.title(job), width)
        self._still("head").show(head)
        self._still("asked").show(job_lines.asked(job, width))
        self._still("status").show(job_lines.status(job, snapshot, now, width, readonly=readonly))
        self._still("placed").show(job_lines.placed(job, snapshot))
        self._still("notes").show(job_lines.notes(facts))
        memory = (job.progress or {}).get("memory") if job.live else None
        self._still("memory").show(memory_line(memory, width))
        self.query_one(PlanPanel).show_job(job if self.screen.has_class("-wide") else None)
        self._still("result").show(result_text(job.kind, job.result, width))
        self.set_class(job.result is not None, "-finished")
        self.set_class(job.state in ("failed", "quarantined", "skipped"), "-broken")
        self._show_layers(job, facts, width)
        await self._show_pictures(job, facts)
        self.query_one("#pane-log", LogTail).show(snapshot.log.lines if facts else ())

    def _still(self, name: str) -> Still:
        return self.query_one(f"#pane-{name}", Still)

    async def _show_nothing(self, snapshot: Snapshot) -> None:
        words = "No job is selected." if snapshot.jobs else ""
        self._still("head").show(Text(words, style("muted")))
        for name in ("asked", "status", "placed", "notes", "memory", "result", "legend"):
            self._still(name).show("")
        self.query_one(PlanPanel).show_job(None)
        self.query_one("#pane-map", LayerMap).show(None)
        self.query_one("#pane-log", LogTail).show(())
        await self.query_one("#pane-pictures", PictureRow).show(())

    def _show_layers(self, job: JobView, facts: JobFacts | None, width: int) -> None:
        layers = self.query_one("#pane-map", LayerMap)
        detail = str((job.progress or {}).get("detail") or "") if job.live else ""
        layers.show(facts, detail, live=job.live)
        self._still("legend").show(layers.legend(width) if layers.targets else "")

    async def _show_pictures(self, job: JobView, facts: JobFacts | None) -> None:
        row = self.query_one("#pane-pictures", PictureRow)
        rows = rows_of_shots(job, facts)
        # A job under way shows its newest pictures, a finished one its first.
        shots = (rows[-1] if job.live else rows[0]).shots[:4] if rows else ()
        row.set_class(bool(shots), "-filled")
        await row.show(shots)
        row.retry()
