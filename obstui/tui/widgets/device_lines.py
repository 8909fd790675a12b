"""A device and its worker in words: what it does, how it feels, what holds it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from obstui.telemetry import Reading, published
from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.machine import process_name, session_of
from obstui.tui.theme import style
from obstui.tui.widgets.bars import progress_bar
from obstui.tui.widgets.status_line import device_name

if TYPE_CHECKING:
    from obstui.config import Settings
    from obstui.store import Reader, StopView, WorkerView
    from obstui.tui.follow import Snapshot

SILENT_AFTER = 60.0
"""A worker says something every five seconds; after a minute without, that is worth a word."""

_LABEL = 10


@dataclass(frozen=True, slots=True)
class User:
    """A process that computes on a device; `ours`: of the job that runs there."""

    device: str
    pid: int
    name: str
    bytes: int
    ours: bool


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of one device; `worker` is the last that served it."""

    id: str
    worker: WorkerView | None
    reading: Reading | None
    stop: StopView | None

    @property
    def alive(self) -> bool:
        return self.worker is not None and self.worker.alive

    @property
    def job_id(self) -> int | None:
        return self.worker.job_id if self.worker is not None and self.worker.alive else None

    @property
    def name(self) -> str:
        return device_name(self.worker) if self.worker is not None else one_line(self.id, limit=48)

    @property
    def state(self) -> tuple[str, str, str]:
        """Glyph, word, style."""
        if not self.alive:
            return "✗", "no worker", "warn"
        assert self.worker is not None
        if self.stop is not None:
            return "‖", "stopped", "pause"
        if self.worker.state == "draining":
            return "◑", "draining", "pause"
        return ("●", "busy", "accent") if self.job_id is not None else ("○", "idle", "good")


def devices(snapshot: Snapshot) -> list[Device]:
    """Every device that has had a worker or has a stop."""
    stops = {stop.scope: stop for stop in snapshot.stops if stop.scope != "*"}
    workers = {worker.device: worker for worker in snapshot.workers}
    return [
        Device(name, workers.get(name), snapshot.machine.devices.get(name), stops.get(name))
        for name in dict.fromkeys([*workers, *stops])
    ]


def read_users(reader: Reader) -> tuple[User, ...]:
    """Who computes on the devices. Raises StoreError."""
    users = []
    for worker in reader.workers():
        reading = published(reader.paths.telemetry(worker.device), worker.seen_at)
        child = None
        if worker.job_id is not None and (attempts := reader.attempts(worker.job_id)):
            child = attempts[-1].pid
        for pid, used in reading.users if reading else ():
            ours = child is not None and session_of(pid) == child
            users.append(User(worker.device, pid, process_name(pid), used, ours))
    return tuple(users)


def device_lines(
    device: Device,
    snapshot: Snapshot,
    users: Sequence[User],
    settings: Settings,
    now: float,
    width: int,
) -> list[Text]:
    """Everything about one device."""
    name = one_line(device.id, limit=48)
    lines = [Text.assemble((device.name, style("strong")), (f"  {name}", style("faint")))]
    lines += _holding_up(device, snapshot, now)
    lines += _gauges(device, settings, width)
    lines += _users(device, users, settings)
    lines += _worker(device, now)
    return lines


def _line(label: str, *parts: tuple[str, str]) -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", style("muted")), *parts)


def _holding_up(device: Device, snapshot: Snapshot, now: float) -> list[Text]:
    """Why nothing starts on it, and what ends that."""
    lines = []
    for stop in snapshot.stops:
        if stop.scope == "*":
            words, key, does = "the queue is paused", "P", "lets it go on"
        elif stop.scope == device.id:
            words, key, does = "stopped:", "l", "lifts it"
        else:
            continue
        reason = one_line(stop.reason.partition(";")[0], limit=200)
        until = f", until {formats.when(stop.until, now)}" if stop.until is not None else ""
        since = f" (since {formats.when(stop.since, now)}{until})"
        line = _line("held up", (f"{words} {reason}{since}", style("warn")))
        if stop.until is None or stop.scope == "*":
            line.append("  ").append(key, style("accent")).append(f" {does}", style("muted"))
        else:
            line.append("  it ends by itself when that is over", style("muted"))
        lines.append(line)
    if not device.alive:
        line = _line("held up", ("No worker serves it.", style("warn")))
        lines.append(line.append("  w", style("accent")).append(" starts one", style("muted")))
    return lines


def _gauges(device: Device, settings: Settings, width: int) -> list[Text]:
    reading = device.reading
    if reading is None:
        why = (
            "a processor: its memory is the computer's, and no job is refused for its heat"
            if device.id == "cpu"
            else "nobody tells (the driver or NVML does not answer)"
            if device.alive
            else "unknown without a worker"
        )
        return [_line("readings", (why, style("muted")))]
    room = min(40, max(8, width - 40))
    used = reading.total - reading.free
    gib = 1 << 30
    memory = _line("VRAM").append_text(progress_bar(used / reading.total, room))
    memory.append(f"  {used / gib:.1f} of {reading.total / gib:.1f} GiB", style("text"))
    lines = [memory]
    if reading.utilisation is not None:
        busy = _line("busy").append_text(progress_bar(reading.utilisation / 100, room))
        lines.append(busy.append(f"  {reading.utilisation} %", style("text")))
    heat = _line("heat")
    if reading.temperature is None:
        heat.append("not told", style("muted"))
    else:
        near = reading.temperature >= settings.hot - 5
        heat.append(f"{reading.temperature} °C", style("warn" if near else "text"))
        heat.append(f"  jobs make way at {settings.hot} °C", style("muted"))
    if reading.power is not None:
        heat.append(" · ", style("faint")).append(f"{reading.power:.0f} W", style("text"))
    return [*lines, heat]


def _users(device: Device, users: Sequence[User], settings: Settings) -> list[Text]:
    """The processes on the device; those of other programs may make a job give way."""
    lines: list[Text] = []
    for user in users:
        if user.device != device.id:
            continue
        foreign = not user.ours and user.bytes >= settings.foreign_gib * (1 << 30)
        whose = "this job" if user.ours else "another program"
        line = _line(
            "" if lines else "used by",
            (f"{one_line(user.name, limit=30)} (pid {user.pid})", style("text")),
            (f"  {formats.size(user.bytes)}, {whose}", style("muted")),
        )
        if foreign:
            line.append(": jobs make way", style("warn"))
        lines.append(line)
    return lines


def _worker(device: Device, now: float) -> list[Text]:
    worker = device.worker
    if worker is None:
        return []
    up = formats.duration(formats.calm(now - worker.started_at))
    where = f"pid {worker.pid} on {one_line(worker.host, limit=40)}"
    line = _line("worker", (where, style("text")))
    if not worker.alive:
        ended = formats.when(worker.seen_at, now)
        return [line.append(f"  gone; last heard of at {ended}", style("warn"))]
    line.append(f"  up for {up}", style("muted"))
    silent = now - worker.seen_at
    if silent > SILENT_AFTER:
        line.append(f"  silent for {formats.duration(silent)}", style("warn"))
    else:
        line.append("  its heart beats", style("good"))
    return [line]
