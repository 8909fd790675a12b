"""The workers and their devices: what each does, what holds it up, and how to mend that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable

from obstui.store.stops import BY_HAND, QUEUE
from obstui.telemetry import Reading
from obstui.text import one_line
from obstui.tui.aside import aside
from obstui.tui.follow import Fault
from obstui.tui.formats import when
from obstui.tui.screens.confirm import Confirm, Question
from obstui.tui.screens.view import View
from obstui.tui.theme import style
from obstui.tui.widgets.bars import progress_bar
from obstui.tui.widgets.device_lines import Device, device_lines, devices, read_users
from obstui.tui.widgets.sheet import Head, Rows, cell
from obstui.tui.widgets.still import Still
from obstui.tui.writer import sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.tui.follow import Snapshot

_HEADS = (
    Head("device", "device", 24, right=False),
    Head("state", "state", 12, right=False),
    Head("memory", "memory", 13, right=False),
    Head("job", "job", 8, right=False),
)
"""The last one takes what else there is."""

_ROOMY = 75
"""Cells below which a device's name gives way to its job; the lines below tell it in full."""


class WorkersScreen(View[None]):
    """The devices in a table, the chosen one in full below."""

    place = "workers"
    CSS_PATH = "workers.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("P,p", "pause_queue", "Pause queue", id="workers.pause",
                tooltip="Let no job start, or let them start again; what runs goes on"),
        Binding("l", "lift", "Lift stop", id="workers.lift",
                tooltip="Let jobs start again on this device"),
        Binding("d", "drain", "Drain", id="workers.drain",
                tooltip="The workers finish their jobs, take no others, and end"),
        Binding("S", "stop", "Stop", id="workers.stop",
                tooltip="The workers put their jobs back at the next boundary, and end"),
        Binding("enter,o", "open_job", "Open job", id="workers.open",
                tooltip="The job that this device works on"),
    ]  # fmt: skip

    def compose_body(self) -> ComposeResult:
        yield Rows(id="devices")
        yield Still(id="nobody")
        with VerticalScroll(id="about", can_focus=False):
            yield Still(id="device")

    def ask_follower(self) -> None:
        self.dashboard.follow(None, reading=read_users)

    @property
    def _devices(self) -> list[Device]:
        return devices(self.dashboard.snapshot)

    @property
    def chosen(self) -> Device | None:
        """The device under the cursor."""
        tables = self.query(Rows)  # empty while the screen comes and goes
        key = tables.first().chosen if tables else None
        return next((device for device in self._devices if device.id == key), None)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        found = devices(snapshot)
        table = self.query_one(Rows)
        table.display = bool(found)
        *fixed, job = _HEADS
        if self.size.width < _ROOMY:
            fixed[0] = replace(fixed[0], width=14)
        left = self.size.width - sum(head.width + 2 for head in fixed) - 3  # air, the scrollbar
        heads = (*fixed, replace(job, width=max(job.width, left)))
        table.show(heads, {device.id: _cells(device, snapshot) for device in found})
        self.query_one("#nobody", Still).show(
            Text(_nobody(snapshot, self.dashboard.clock()), style("muted"))
            if snapshot.read and not found and not snapshot.fault else ""
        )  # fmt: skip
        self._describe()
        self.refresh_bindings()

    @on(Rows.Chosen)
    def _describe(self) -> None:
        device, app = self.chosen, self.dashboard
        lines = Text()
        if device is not None:
            page = app.snapshot.page_of(read_users)
            users = page if isinstance(page, tuple) else ()
            width = max(40, self.size.width - 4)
            lines = Text("\n").join(
                device_lines(device, app.snapshot, users, app.settings, app.clock(), width)
            )
            if isinstance(page, Fault):
                lines.append(f"\n{page.words}", style("bad"))
        self.query_one("#device", Still).show(lines)
        self.refresh_bindings()

    # -- what a person can do ----------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        writes = ("pause_queue", "lift", "drain", "stop")
        if action in writes and self.dashboard.readonly:
            return False
        if action in ("drain", "stop"):
            return self.dashboard.snapshot.worker_alive or None
        if action in ("lift", "open_job"):
            device = self.chosen
            wanted = device and (device.stop if action == "lift" else device.job_id)
            return wanted is not None or None
        return super().check_action(action, parameters)

    @on(DataTable.RowSelected)
    def action_open_job(self) -> None:
        if (device := self.chosen) is not None and device.job_id is not None:
            self.dashboard.open_job(device.job_id)

    def action_pause_queue(self) -> None:
        paused = any(stop.scope == QUEUE for stop in self.dashboard.snapshot.stops)
        if paused:
            self.dashboard.change(lambda store: store.go(QUEUE), "The queue goes on.")
        else:
            self.dashboard.change(
                lambda store: store.stop(QUEUE, BY_HAND), "The queue is paused; what runs goes on."
            )

    def action_lift(self) -> None:
        device = self.chosen
        if device is not None and device.stop is not None:
            scope = device.id
            self.dashboard.change(lambda store: store.go(scope), "Jobs may start on it again.")

    def action_drain(self) -> None:
        self._have_done(_drain, "The workers end after their jobs.")

    def action_stop(self) -> None:
        alive = [device for device in self._devices if device.alive]
        jobs = [str(device.job_id) for device in alive if device.job_id is not None]
        told = (
            f"Job {', '.join(jobs)} goes to its next boundary and back into the queue."
            if len(jobs) == 1
            else f"Jobs {', '.join(jobs)} go to their next boundary and back into the queue."
            if jobs
            else "Queued jobs wait until a worker is started again."
        )
        amount = "the worker" if len(alive) == 1 else f"{len(alive)} workers"
        question = Question(f"Stop {amount}?", told, yes="Stop", no="Keep working")
        self.app.push_screen(Confirm(question), self._stop_answered)

    def _stop_answered(self, yes: bool | None) -> None:
        if yes:
            self.notify("Stopping at the next boundary ...", markup=False, timeout=5)
            self._have_done(_stop, "The workers have stopped; queued jobs wait.")

    @work(group="workers", exit_on_error=False, description="stop or drain the workers")
    async def _have_done(self, act: Callable[[Paths], object], said: str) -> None:
        """Do what may take minutes, away from the screen."""
        app = self.dashboard
        try:
            await aside(lambda: act(app.paths))
        except Exception as err:
            app.notify(sentence(err), severity="error", markup=False)
        else:
            app.notify(said, markup=False)


def _drain(paths: Paths) -> object:
    from obstui.worker import launch

    return launch.drain(paths)


def _stop(paths: Paths) -> object:
    from obstui.worker import launch

    return launch.stop(paths)


def _nobody(snapshot: Snapshot, now: float) -> str:
    """In place of the table: a worker that was stopped leaves nothing but its jobs."""
    begun = [job for job in snapshot.jobs if job.started_at is not None]
    if not begun:
        return "No worker has run here yet."
    last = max(begun, key=lambda job: job.started_at or 0.0)
    ended = f" {when(last.finished_at, now)}" if last.finished_at is not None else ""
    return f"No worker is running. The last job that one took: {last.id}, {last.state}{ended}."


def _cells(device: Device, snapshot: Snapshot) -> tuple[Text, Text, Text, Text]:
    job = snapshot.job(device.job_id)
    title = f"{device.job_id} {one_line(snapshot.title(job), limit=200)}" if job else ""
    glyph, words, look = device.state
    return (
        cell(device.name, "text" if device.alive else "muted", right=False),
        Text(f"{glyph} {words}", style(look)),
        _memory(device.reading),
        cell(title or str(device.job_id or ""), right=False),
    )


def _memory(reading: Reading | None) -> Text:
    if reading is None or not reading.total:
        return Text()
    used = (reading.total - reading.free) / reading.total
    return progress_bar(used, 8).append(f" {used:4.0%}", style("muted"))
