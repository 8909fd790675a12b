"""One job in full: where it is, the map of its layers, its results and pictures, its log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import ContentSwitcher, DataTable

from obstui.text import one_line
from obstui.tui import images
from obstui.tui.replay import Replay
from obstui.tui.screens.job_acts import JobActs
from obstui.tui.shots import ShotRow, picture_at, rows_of_shots, with_preview
from obstui.tui.theme import style
from obstui.tui.widgets import job_lines
from obstui.tui.widgets.asked import asked_text
from obstui.tui.widgets.layer_map import LayerMap
from obstui.tui.widgets.log_tail import LogTail
from obstui.tui.widgets.log_view import LogLines, LogView
from obstui.tui.widgets.picture import Picture, PictureRow, Shot
from obstui.tui.widgets.plan_panel import PlanPanel
from obstui.tui.widgets.reading import Reading
from obstui.tui.widgets.result_tables import latency_text, models_text, result_text
from obstui.tui.widgets.sheet import Rows
from obstui.tui.widgets.still import Still, in_its_place
from obstui.tui.widgets.tab_line import TabLine
from obstui.tui.widgets.target_table import TargetTable, target_words
from obstui.tui.widgets.telemetry import Span, live_span, newest, telemetry
from obstui.tui.widgets.time_line import replay_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstui.store import JobView
    from obstui.tui.facts import JobFacts
    from obstui.tui.follow import Snapshot

TABS = {"overview": ("O", "Overview"), "targets": ("A", "All targets"),
        "settings": ("S", "Settings"), "log": ("L", "Log")}  # fmt: skip
"""The key and the label of each."""

PLAY_EVERY = 0.25
PLAY_STEPS = 80  # a story is played in twenty seconds


class JobScreen(JobActs[None]):
    """Follows one job, or goes through its story; leaves on Escape. O, A, S and L change what the
    lower part shows."""

    CSS_PATH = "job.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "back", "Back", id="job.back", tooltip="Back to the queue"),
        Binding("O", "tab('overview')", "Overview", id="job.overview", show=False,
                tooltip="The layers, results and pictures"),
        Binding("A", "tab('targets')", "All targets", id="job.targets", show=False,
                tooltip="Every target with its kept units and errors"),
        Binding("S", "tab('settings')", "Settings", id="job.settings", show=False,
                tooltip="What the job was asked to do, its notes and its attempts"),
        Binding("L", "tab('log')", "Log", id="job.log", show=False, tooltip="The job's log"),
        Binding("t", "next_tab", "Next tab", id="job.tab", show=False,
                tooltip="Go to the next part"),
        Binding("a", "attempt", "Attempt", id="job.attempt",
                tooltip="The story and the log of the attempt before"),
        Binding("left_square_bracket", "replay(-1)", "Replay", id="job.replay-back",
                key_display="[", tooltip="Go back through what the job recorded"),
        Binding("right_square_bracket", "replay(1)", "On", id="job.replay-on", show=False,
                key_display="]", tooltip="Replay: on to the next thing recorded"),
        Binding("left_curly_bracket", "replay_phase(-1)", "Phase before", id="job.phase-back",
                show=False, key_display="{", tooltip="Replay: to the beginning of the phase"),
        Binding("right_curly_bracket", "replay_phase(1)", "Next phase", id="job.phase-on",
                show=False, key_display="}", tooltip="Replay: to the next phase"),
        Binding("space", "play", "Play", id="job.play", show=False,
                tooltip="Replay: play the story, or stop"),
        Binding("end", "replay_end", "To the end", id="job.replay-end", show=False,
                tooltip="End the replay"),
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
        Binding("enter", "layers", "Layers", id="job.layers",
                tooltip="The marked target in the variant's layer table: which heads went"),
        Binding("b", "ab", "A/B", id="job.ab",
                tooltip="The marked picture against another model's: flip, difference, distances"),
        Binding("i", "image_mode", "Image mode", id="job.images",
                tooltip="Half-blocks, letters or no pictures"),
    ]  # fmt: skip

    def __init__(self, job_id: int, *, tab: str = "") -> None:
        """`tab`: the one to begin with, once there is something in it."""
        super().__init__()
        self.job_id = job_id
        self._begins_with = tab if tab in TABS else ""
        self._tab = "overview"
        self._row = self._column = 0
        self._mode = images.MODES[0]
        self._rows: list[ShotRow] = []
        self._has_targets = False
        self._attempt: int | None = None
        self._replay: Replay | None = None
        self._playing: Timer | None = None

    # -- what there is -----------------------------------------------------------------------

    def compose_body(self) -> ComposeResult:
        with Vertical(id="facts"):
            for name in ("head", "asked", "status", "memory", "note"):
                yield Still(id=f"job-{name}")
            yield TabLine(id="job-tabs")
        with ContentSwitcher(initial="overview", id="switch"):
            with Vertical(id="overview"):
                plan = PlanPanel(id="job-plan")
                plan.can_focus = True
                yield plan
                yield Still(id="job-result")
                yield LayerMap(id="job-map")
                yield Still(id="job-legend")
                yield Still(id="job-pointed")
                yield Still(id="job-caption")
                yield PictureRow(id="job-pictures")
                yield LogTail(id="job-tail")
            yield TargetTable(id="targets")
            with Reading(id="settings"):
                yield Still(id="job-settings")
            yield LogView(id="log")

    def on_mount(self) -> None:
        self._mode = self.dashboard.pictures.grid
        self.dashboard.remembered.put("job open", self.job_id)
        self.dashboard.remembered.put("job tab", self._begins_with)

    @property
    def selected_job(self) -> JobView | None:
        return self.dashboard.snapshot.job(self.job_id)

    def ask_follower(self) -> None:
        self.dashboard.follow(self.job_id, open_job=True, attempt=self._attempt)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("column", "row", "picture", "ab", "image_mode"):
            return bool(self._rows) and self._tab == "overview"
        if action == "layers":
            return self._tab in ("overview", "targets") and self._variant is not None
        if parameters == ("targets",):
            return self._has_targets
        if action in ("replay", "replay_phase"):
            facts = self.dashboard.snapshot.facts
            return facts is not None and facts.began is not None
        if action in ("play", "replay_end"):
            return self._replay is not None
        if action == "attempt":
            return (job := self.selected_job) is not None and job.attempt > 1
        return super().check_action(action, parameters)

    @property
    def _variant(self) -> str | None:
        """What the finished prune made at the sparsity that the map shows."""
        job = self.selected_job if self.is_mounted else None
        level = self.query_one(LayerMap).level if job is not None else None
        made = (job.result or {}).get("variants") if job is not None and level else None
        return next((str(v["id"]) for v in made or () if float(v["sparsity"]) == float(level or 0)),
                    None)  # fmt: skip

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
        facts = self._facts(snapshot)
        if self._replay is not None:
            job = replace(job, result=None)  # the pictures of then, not those of the end
        self._show_facts(job, snapshot, facts, width)
        self._show_plan(job)
        self._show_layers(job, facts)
        self._show_hidden()
        self._still("result").show(self._result(job, facts, width))
        await self._show_pictures(job, facts)
        self._show_log(snapshot, job)
        if self._begins_with and (self._begins_with != "targets" or self._has_targets):
            begin, self._begins_with = self._begins_with, ""
            self.action_tab(begin)
        self._show_tabs()
        self.refresh_bindings()

    def _facts(self, snapshot: Snapshot) -> JobFacts | None:
        """The job's story, as far as it is replayed."""
        if self._replay is not None:
            return self._replay.then
        return snapshot.facts if snapshot.focus == self.job_id else None

    def _still(self, name: str) -> Still:
        return self.query_one(f"#job-{name}", Still)

    def _show_facts(
        self, job: JobView, snapshot: Snapshot, facts: JobFacts | None, width: int
    ) -> None:
        app = self.dashboard
        self._still("head").show(job_lines.headline(job, snapshot.title(job), width))
        self._still("asked").show(job_lines.asked(job, width))
        if self._replay is not None and facts is not None:
            playing = self._playing is not None
            status = replay_lines(self._replay, facts, width, playing=playing)
        else:
            status = job_lines.status(job, snapshot, app.clock(), width, readonly=app.readonly)
        self._still("status").show(status)
        self._still("memory").show(self._telemetry(job, snapshot, facts, width))
        self._still("note").show(job_lines.note(facts.notes if facts else (), width))

    def _show_plan(self, job: JobView) -> None:
        plan = self.query_one(PlanPanel)
        plan.show_job(job)
        if plan.display and self.focused is None and self._tab == "overview":
            plan.focus()

    @in_its_place
    def _telemetry(
        self, job: JobView, snapshot: Snapshot, facts: JobFacts | None, width: int
    ) -> Text:
        if facts is None or facts.began is None or facts.ended is None:
            return Text()
        samples = facts.samples
        if self._replay is not None:
            span = Span(self._replay.began, self._replay.ended, self._replay.at)
        elif job.live and facts.attempt == job.attempt:
            now = self.dashboard.clock()
            span = live_span(facts.began, now)
            if (latest := newest(job.progress, now)) is not None:
                samples = (*samples, latest)
        else:
            span = Span(facts.began, facts.ended, facts.ended)
        return telemetry(samples, span, width, forecast=facts.forecast or snapshot.forecast)

    def _result(self, job: JobView, facts: JobFacts | None, width: int) -> Text:
        if (job.live or self._replay) and facts and facts.models:
            return models_text(facts.models, width)
        if (job.live or self._replay) and facts and facts.latency:
            return latency_text(facts.latency, width)
        return result_text(job.kind, job.result, width)

    def _show_layers(self, job: JobView, facts: JobFacts | None) -> None:
        layers = self.query_one(LayerMap)
        first = not layers.targets
        live = job.live and self._replay is None
        at_work = str((job.progress or {}).get("detail") or "") if live else ""
        layers.show(facts, at_work, live=live or self._replay is not None)
        self._has_targets = bool(layers.targets)
        self._pointed()
        if first and layers.targets and self._tab == "overview":
            layers.focus()

    async def _show_pictures(self, job: JobView, facts: JobFacts | None) -> None:
        at_end = self._row >= len(self._rows) - 1
        self._rows = rows_of_shots(job, facts)
        preview = self._preview(job)
        if preview is not None:
            self._rows = with_preview(self._rows, preview)
        if (job.live or self._replay) and at_end:
            self._row = len(self._rows) - 1  # follow the newest until the person steps back
        self._row = max(0, min(self._row, len(self._rows) - 1))
        await self._draw_row()
        self.query_one(PictureRow).retry()
        if preview is not None:
            for picture in self.query(Picture):
                if picture.path == preview.path:
                    picture.reload()

    def _preview(self, job: JobView) -> Shot | None:
        """The picture being made; not over a slow line, where each would cost seconds."""
        progress = job.progress or {}
        path = progress.get("preview")
        if not path or not job.live or self._replay or self.dashboard.appearance.low_bandwidth:
            return None
        detail = one_line(progress.get("detail") or "", limit=80)
        return Shot(detail.rpartition(", ")[2] or "being made", str(path), str(path))

    async def _draw_row(self) -> None:
        row = self._rows[self._row] if self._rows else ShotRow("", ())
        self._column = max(0, min(self._column, len(row.shots) - 1))
        self._still("caption").show(Text(row.caption, style("text"), no_wrap=True))
        pictures = self.query_one(PictureRow)
        pictures.set_class(bool(row.shots), "-filled")
        self.query_one("#job-tail").set_class(bool(row.shots), "-hidden")
        await pictures.show(row.shots, marked=self._column if row.shots else None, mode=self._mode)

    def _show_hidden(self) -> None:
        """The tabs that are drawn only while they are seen: to compare hundreds of cells would cost
        most of a snapshot's time."""
        job, snapshot = self.selected_job, self.dashboard.snapshot
        facts = self._facts(snapshot)
        if self._tab == "targets":
            self.query_one(TargetTable).tell(facts)
        elif self._tab == "settings" and job is not None:
            notes = facts.notes if facts else ()
            told = asked_text(job, snapshot.attempts, notes, self.dashboard.clock())
            self._still("settings").show(told)

    def _show_log(self, snapshot: Snapshot, job: JobView) -> None:
        if snapshot.focus == job.id:
            log = snapshot.log
            if self._replay is not None:
                log = log.up_to(self._replay.at, self._replay.ended)
            self.query_one("#job-tail", LogTail).show(log.lines)
            self.query_one("#log", LogView).show(log)

    def _show_tabs(self) -> None:
        """The tabs, and which attempt is shown where there were several."""
        tabs = {name: words for name, words in TABS.items()
                if name != "targets" or self._has_targets}  # fmt: skip
        more, job, facts = Text(), self.selected_job, self.dashboard.snapshot.facts
        if job is not None and job.attempt > 1 and facts is not None:
            more.append("a ", style("accent"))
            more.append(f"attempt {facts.attempt} of {job.attempt}", style("muted"))
        if self._tab == "targets":
            more.append_text(self.query_one(TargetTable).hint())
        self.query_one(TabLine).tell(tabs, self._tab, more)

    @on(TabLine.Clicked)
    async def _tab_clicked(self, event: TabLine.Clicked) -> None:
        await self.run_action(f"tab('{event.name}')")

    @on(LayerMap.Pointed)
    def _pointed(self) -> None:
        layers = self.query_one(LayerMap)
        target = layers.pointed
        width = self.size.width - 4  # the map's own comes only with its layout
        self._still("pointed").show(
            target_words(target, layers.level, width, live=layers.live) if target else ""
        )
        self._still("legend").show(layers.legend(width) if layers.targets else "")

    # -- acting ------------------------------------------------------------------------------

    async def action_back(self) -> None:
        if self._replay is not None:
            await self.action_replay_end()
        else:
            self.dismiss()

    async def action_attempt(self) -> None:
        """The attempt before the one shown; after the first the newest again."""
        job, facts = self.selected_job, self.dashboard.snapshot.facts
        if job is None or facts is None:
            return
        self._stop_playing()
        self._replay = None
        self._attempt = facts.attempt - 1 or None
        self.ask_follower()

    async def action_replay(self, count: int) -> None:
        self._stop_playing()
        await self._move(lambda replay: replay.step(count))

    async def action_replay_phase(self, direction: int) -> None:
        self._stop_playing()
        await self._move(lambda replay: replay.jump(direction))

    async def action_replay_end(self) -> None:
        self._stop_playing()
        self._replay = None
        await self.show_newest()

    async def action_play(self) -> None:
        if self._playing is not None:
            self._stop_playing()
        elif self._replay is not None:
            if self._replay.over:
                self._replay = replace(self._replay, at=self._replay.began)
            slow = 4 if self.dashboard.appearance.low_bandwidth else 1
            self._playing = self.set_interval(PLAY_EVERY * slow, self._play_on)
        await self.show_newest()

    async def _play_on(self) -> None:
        if self._replay is None or self._replay.over or not self.is_current:
            self._stop_playing()
            await self.show_newest()
            return
        slow = 4 if self.dashboard.appearance.low_bandwidth else 1
        count = max(1, len(self._replay.moments) * slow // PLAY_STEPS)
        await self._move(lambda replay: replay.step(count))

    def _stop_playing(self) -> None:
        if self._playing is not None:
            self._playing.stop()
            self._playing = None

    async def _move(self, to: Callable[[Replay], Replay]) -> None:
        facts = self.dashboard.snapshot.facts
        if self._replay is None and facts is not None and facts.job_id == self.job_id:
            self._replay = Replay.of(facts)
        if self._replay is None:
            self.notify("Nothing was recorded to go through.", markup=False, timeout=2)
            return
        self._replay = to(self._replay)
        await self.show_newest()

    def action_tab(self, name: str) -> None:
        if name == "targets" and not self._has_targets:
            return
        self._tab = name
        self.dashboard.remembered.put("job tab", name)
        self._show_hidden()
        self.query_one(ContentSwitcher).current = name
        focus: dict[str, Any] = {
            "targets": TargetTable, "log": LogLines, "overview": LayerMap, "settings": "#settings",
        }  # fmt: skip
        plan = self.query_one(PlanPanel)
        part = plan if name == "overview" and plan.display else self.query_one(focus[name])
        part.focus()
        self._show_tabs()
        self.refresh_bindings()

    def action_next_tab(self) -> None:
        names = [name for name in TABS if name != "targets" or self._has_targets]
        self.action_tab(names[(names.index(self._tab) + 1) % len(names)])

    async def action_column(self, step: int) -> None:
        self._column += step
        await self._draw_row()

    @on(PictureRow.Picked)
    async def _picked(self, event: PictureRow.Picked) -> None:
        """The first click marks a picture, the second enlarges it."""
        if event.place == self._column:
            self.action_picture()
        else:
            self._column = event.place
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
        screen = PictureScreen(rows, self._row, self._column, self._compare)
        self.app.push_screen(screen, self._picture_left)

    def action_ab(self) -> None:
        self._compare(self._rows[self._row].shots[self._column].path)

    def _compare(self, path: str) -> None:
        from obstui.tui.screens.ab import ABScreen

        job, snapshot = self.selected_job, self.dashboard.snapshot
        if job is not None and (picture := picture_at(job, snapshot.facts, path)):
            self.app.push_screen(ABScreen(picture))

    async def _picture_left(self, place: tuple[int, int] | None) -> None:
        if place is not None:
            self._row, self._column = place
            await self._draw_row()

    def action_layers(self) -> None:
        from obstui.tui.screens.layers import LayersScreen

        if (variant := self._variant) is not None:
            pointed = self.query_one(LayerMap).pointed
            name = pointed.name if pointed else None
            if self._tab == "targets":
                name = self.query_one(TargetTable).chosen
            self.app.push_screen(LayersScreen(variant, target=name))

    @on(DataTable.RowSelected)
    def _row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.action_layers()

    @on(Rows.Chosen)
    def _columns_moved(self) -> None:
        self._show_tabs()
