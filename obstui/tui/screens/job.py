"""One job in full: where it is, the map of its layers, its results and pictures, its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher, DataTable

from obstui.tui import images
from obstui.tui.screens.job_acts import JobActs
from obstui.tui.shots import ShotRow, rows_of_shots
from obstui.tui.theme import style
from obstui.tui.widgets import job_lines
from obstui.tui.widgets.bars import memory_line
from obstui.tui.widgets.layer_map import LayerMap
from obstui.tui.widgets.log_tail import LogTail
from obstui.tui.widgets.picture import PictureRow
from obstui.tui.widgets.result_tables import models_text, result_text
from obstui.tui.widgets.still import Still
from obstui.tui.widgets.target_table import TargetTable, target_words

if TYPE_CHECKING:
    from obstui.store import JobView
    from obstui.tui.facts import JobFacts
    from obstui.tui.follow import Snapshot

TABS = ("overview", "targets", "log")


class JobScreen(JobActs[None]):
    """Follows one job; leaves on Escape. Keys 1, 2, 3 change what the lower part shows."""

    CSS_PATH = "job.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "back", "Back", id="job.back", tooltip="Back to the queue"),
        Binding("1", "tab('overview')", "Overview", id="job.overview", show=False,
                tooltip="The layers, results and pictures"),
        Binding("2", "tab('targets')", "Targets", id="job.targets", show=False,
                tooltip="Every target with its kept units and errors"),
        Binding("3", "tab('log')", "Log", id="job.log", show=False, tooltip="The job's log"),
        Binding("t", "next_tab", "Next tab", id="job.tab", tooltip="Go to the next of the three"),
        Binding("left,h", "column(-1)", "Picture before", id="job.left", show=False,
                tooltip="Mark the picture to the left"),
        Binding("right,l", "column(1)", "Picture after", id="job.right", show=False,
                tooltip="Mark the picture to the right"),
        Binding("up,k", "row(-1)", "Prompt before", id="job.up", show=False,
                tooltip="The pictures of the prompt before"),
        Binding("down,j", "row(1)", "Prompt after", id="job.down", show=False,
                tooltip="The pictures of the next prompt"),
        Binding("enter", "picture", "Enlarge", id="job.picture",
                tooltip="The marked picture, as large as it fits"),
        Binding("i", "image_mode", "Image mode", id="job.images",
                tooltip="Half-blocks, letters or no pictures"),
    ]  # fmt: skip

    def __init__(self, job_id: int) -> None:
        super().__init__()
        self.job_id = job_id
        self._tab = "overview"
        self._row = self._column = 0
        self._mode = images.MODES[0]
        self._rows: list[ShotRow] = []

    # -- what there is -----------------------------------------------------------------------

    def compose_body(self) -> ComposeResult:
        with Vertical(id="facts"):
            for name in ("head", "asked", "status", "memory", "note", "tabs"):
                yield Still(id=f"job-{name}")
        with ContentSwitcher(initial="overview", id="switch"):
            with Vertical(id="overview"):
                yield Still(id="job-result")
                yield LayerMap(id="job-map")
                yield Still(id="job-legend")
                yield Still(id="job-pointed")
                yield Still(id="job-caption")
                yield PictureRow(id="job-pictures")
                tail = LogTail(id="job-tail")
                tail.can_focus = False
                yield tail
            yield TargetTable(id="targets")
            yield LogTail(id="log")

    @property
    def selected_job(self) -> JobView | None:
        return self.dashboard.snapshot.job(self.job_id)

    def ask_follower(self) -> None:
        self.dashboard.follow(self.job_id, open_job=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("column", "row", "picture", "image_mode"):
            return bool(self._rows) and self._tab == "overview"
        if parameters == ("targets",):
            return self._has_targets
        return super().check_action(action, parameters)

    @property
    def _has_targets(self) -> bool:
        return bool(self.query("#job-map")) and bool(self.query_one(LayerMap).targets)

    # -- showing -----------------------------------------------------------------------------

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        job = snapshot.job(self.job_id)
        width = self.query_one("#facts").content_size.width
        if not width:
            return
        if job is None:
            words = f"Job {self.job_id} is not in the store." if snapshot.read else ""
            self._still("head").show(Text(words, style("muted")))
            return
        facts = snapshot.facts if snapshot.focus == job.id else None
        self._show_facts(job, snapshot, facts, width)
        self._show_layers(job, facts)
        self._still("result").show(self._result(job, facts, width))
        await self._show_pictures(job, facts)
        self._show_log(snapshot, job)
        self._still("tabs").show(self._tabs())
        self.refresh_bindings()

    def _still(self, name: str) -> Still:
        return self.query_one(f"#job-{name}", Still)

    def _show_facts(
        self, job: JobView, snapshot: Snapshot, facts: JobFacts | None, width: int
    ) -> None:
        app = self.dashboard
        self._still("head").show(job_lines.headline(job, snapshot.title(job), width))
        self._still("asked").show(job_lines.asked(job, width))
        status = job_lines.status(job, snapshot, app.clock(), width, readonly=app.readonly)
        self._still("status").show(status)
        memory = (job.progress or {}).get("memory")
        self._still("memory").show(memory_line(memory, width) if job.live else "")
        note = facts.notes[-1] if facts and facts.notes else ""
        self._still("note").show(Text(f"Note: {note}", style("warn")) if note else "")

    def _result(self, job: JobView, facts: JobFacts | None, width: int) -> Text:
        if job.live and facts and facts.models:
            return models_text(facts.models, width)
        return result_text(job.kind, job.result, width)

    def _show_layers(self, job: JobView, facts: JobFacts | None) -> None:
        layers = self.query_one(LayerMap)
        first = not layers.targets
        layers.show(facts, str((job.progress or {}).get("detail") or "") if job.live else "")
        self.query_one(TargetTable).show(facts)
        self._still("legend").show(layers.legend() if layers.targets else "")
        if first and layers.targets and self._tab == "overview":
            layers.focus()

    async def _show_pictures(self, job: JobView, facts: JobFacts | None) -> None:
        at_end = self._row >= len(self._rows) - 1
        self._rows = rows_of_shots(job, facts)
        if job.live and at_end:
            self._row = len(self._rows) - 1  # follow the newest until the person steps back
        self._row = max(0, min(self._row, len(self._rows) - 1))
        await self._draw_row()
        self.query_one(PictureRow).retry()

    async def _draw_row(self) -> None:
        row = self._rows[self._row] if self._rows else ShotRow("", ())
        self._column = max(0, min(self._column, len(row.shots) - 1))
        self._still("caption").show(Text(row.caption, style("text"), no_wrap=True))
        pictures = self.query_one(PictureRow)
        pictures.set_class(bool(row.shots), "-filled")
        self.query_one("#job-tail").set_class(bool(row.shots), "-hidden")
        await pictures.show(row.shots, marked=self._column if row.shots else None, mode=self._mode)

    def _show_log(self, snapshot: Snapshot, job: JobView) -> None:
        if snapshot.focus == job.id:
            self.query_one("#job-tail", LogTail).show(snapshot.log)
            self.query_one("#log", LogTail).show(snapshot.log)

    def _tabs(self) -> Text:
        line = Text()
        for number, name in enumerate(TABS, 1):
            if name == "targets" and not self._has_targets:
                continue
            line.append(f"{number} ", style("accent"))
            here = name == self._tab
            line.append(name, f"{style('strong')} underline" if here else style("muted"))
            line.append("   ")
        return line

    @on(LayerMap.Pointed)
    def _pointed(self) -> None:
        layers = self.query_one(LayerMap)
        target = layers.pointed
        width = layers.size.width
        self._still("pointed").show(target_words(target, layers.level, width) if target else "")
        self._still("legend").show(layers.legend() if layers.targets else "")

    # -- acting ------------------------------------------------------------------------------

    def action_back(self) -> None:
        self.dismiss()

    def action_tab(self, name: str) -> None:
        if name == "targets" and not self._has_targets:
            return
        self._tab = name
        self.query_one(ContentSwitcher).current = name
        focus: dict[str, Any] = {"targets": TargetTable, "log": "#log", "overview": LayerMap}
        self.query_one(focus[name]).focus()
        self._still("tabs").show(self._tabs())
        self.refresh_bindings()

    def action_next_tab(self) -> None:
        names = [name for name in TABS if name != "targets" or self._has_targets]
        self.action_tab(names[(names.index(self._tab) + 1) % len(names)])

    async def action_column(self, step: int) -> None:
        self._column += step
        await self._draw_row()

    async def action_row(self, step: int) -> None:
        self._row = max(0, min(len(self._rows) - 1, self._row + step))
        await self._draw_row()

    async def action_image_mode(self) -> None:
        place = images.MODES.index(self._mode) + 1
        self._mode = images.MODES[place % len(images.MODES)]
        await self._draw_row()

    def action_picture(self) -> None:
        from obstui.tui.screens.picture import PictureScreen

        rows = self._rows
        self.app.push_screen(PictureScreen(rows, self._row, self._column), self._picture_left)

    async def _picture_left(self, place: tuple[int, int] | None) -> None:
        if place is not None:
            self._row, self._column = place
            await self._draw_row()

    @on(DataTable.RowSelected)
    def _row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
