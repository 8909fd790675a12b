"""What the job in the form will take, worked out in a thread while the person writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message
from textual.timer import Timer
from textual.worker import get_current_worker

from obstui.specs import BadSpec
from obstui.text import one_line
from obstui.tui import form, machine
from obstui.tui.formats import duration, params, size
from obstui.tui.theme import style
from obstui.tui.widgets.device_lines import devices
from obstui.tui.widgets.still import Still
from obstui.tui.writer import sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.plan import Duration, Plan
    from obstui.tui.app import Dashboard

DEBOUNCE = 0.3
HISTORY = 500  # finished jobs looked through for one like it


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan, how long the like took here, the bytes free on the store's disk if it tells."""

    plan: Plan
    time: Duration | None
    free: int | None


def work_out(paths: Paths, kind: str, answers: Mapping[str, Any]) -> Forecast:
    """Reads prompt files, model sizes and the store: never on the UI thread. Raises BadSpec,
    CannotPlan and StoreError."""
    from obstui import plan
    from obstui.specs import parse
    from obstui.store import Reader

    form.options(answers)
    made = plan.make(parse(form.spec_data(kind, answers)))
    with Reader.open(paths) as reader:
        time = plan.past(reader.jobs(states=("succeeded",), limit=HISTORY), made)
    return Forecast(made, time, machine.free_bytes(paths.home))


class PlanPanel(VerticalScroll):
    """The plan in full; says `Planned` with its short form."""

    class Planned(Message):
        """A plan was made; or `fault` says in a sentence why none can be."""

        def __init__(self, summary: Text, fault: str = "") -> None:
            super().__init__()
            self.summary, self.fault = summary, fault

    DEFAULT_CSS = "PlanPanel { scrollbar-size-vertical: 1; }"
    can_focus = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._soon: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Still(id="plan-lines")

    def ask(self, kind: str, answers: Mapping[str, Any]) -> None:
        """Plan this soon, unless something else is asked before."""
        if self._soon is not None:
            self._soon.stop()
        self._soon = self.set_timer(DEBOUNCE, lambda: self._work_out(kind, answers))

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False, description="plan")
    def _work_out(self, kind: str, answers: Mapping[str, Any]) -> None:
        try:
            found: Forecast | Exception = work_out(cast("Dashboard", self.app).paths, kind, answers)
        except Exception as err:
            found = err
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show, found)

    def _show(self, found: Forecast | Exception) -> None:
        if not self.is_attached:
            return
        lines = self.query_one("#plan-lines", Still)
        if isinstance(found, Exception):
            words = sentence(found)
            fault = words if isinstance(found, BadSpec) else ""
            lines.show(Text.assemble(("Plan\n\n", "bold"), (words, style("muted"))))
            self.post_message(self.Planned(Text(f"No plan: {words}", style("muted")), fault))
            return
        total, name = self._device
        lines.show(Text("\n").join(plan_lines(found, total, name)))
        self.post_message(self.Planned(summary(found, total)))

    @property
    def _device(self) -> tuple[int, str]:
        """Bytes of the largest GPU that a worker serves, and its name; 0 where none is known."""
        snapshot = cast("Dashboard", self.app).snapshot
        return max(
            ((device.reading.total, device.name) for device in devices(snapshot)
             if device.reading is not None and device.alive),
            default=(0, ""),
        )  # fmt: skip


def summary(found: Forecast, total: int) -> Text:
    """One line: size, memory, time."""
    made = found.plan
    parts = [f"about {duration(found.time.seconds)}" if found.time else "time unknown"]
    needed = made.choice.forecast.needed
    line = Text("Plan: ", style("muted"))
    line.append(f"needs {size(needed)} VRAM", style(_fit(needed, total)))
    line.append(f" of {size(total)}" if total else "", style("muted"))
    parts.append(f"disk {size(sum(made.disk.values()))}")
    parts.append(f"smallest {params(min(level.params for level in made.levels))}")
    return line.append(" · " + " · ".join(parts), style("muted"))


def plan_lines(found: Forecast, total: int, device: str) -> Iterator[Text]:
    """The plan in 46 columns; `total` is the GPU's memory in bytes, 0 where there is none."""
    made = found.plan
    yield Text("Plan", "bold")
    yield Text()
    yield _row(("model", 14), ("params", 9), ("removed", 9), ("FLOP/pass", 13), look="muted")
    for level in made.levels:
        name = one_line(level.name, limit=14)
        removed = f"{level.removed:.1%}" if level.removed else "–"
        yield _row((name, 14), (params(level.params), 9), (removed, 9), (_flop(level.flops), 13))
    yield Text()
    needed = made.choice.forecast.needed
    yield Text.assemble(
        ("VRAM ", style("muted")), (size(needed), style(_fit(needed, total))),
        (f" needed, {size(total)} on {one_line(device, limit=18)}" if total
         else " needed; no GPU is known here", style("muted")),
    )  # fmt: skip
    most = max((moment.total for moment in made.choice.forecast.moments), default=1)
    for moment in made.choice.forecast.moments:
        bar = "█" * max(1, round(12 * moment.total / most))
        yield Text.assemble(
            (f"  {one_line(moment.phase, limit=18):18}", style("text")),
            (f"{size(moment.total):>10}  ", style("text")), (bar, style("accent")),
        )  # fmt: skip
    yield _row(("  driver, spare", 20), (size(needed - most), 10), look="muted")
    yield Text()
    room = sum(made.disk.values())
    full = found.free is not None and room > found.free
    yield Text.assemble(
        ("Disk ", style("muted")), (size(room), style("bad" if full else "text")),
        ("" if found.free is None else f" of {size(found.free)} free", style("muted")),
    )  # fmt: skip
    for name, octets in made.disk.items():
        yield _row((f"  {one_line(name, limit=30)}", 32), (size(octets), 12))
    yield Text()
    yield Text.assemble(("Work ", style("muted")), (_passes(found), style("text")))
    time = "unknown until one like it has run here"
    if found.time:
        time = f"about {duration(found.time.seconds)}, as {found.time.jobs} before it took"
    yield Text.assemble(("Time ", style("muted")), (time, style("text")))
    if made.assumed:
        yield Text()
        yield Text("The model is not here: figures of SDXL 1.0.", style("muted"))


def _passes(found: Forecast) -> str:
    made = found.plan
    return f"{made.passes:,} passes, {_flop(made.flops)}" if made.passes else "none: weights alone"


def _fit(needed: int, total: int) -> str:
    return "bad" if total and needed > total else "good" if total else "text"


def _row(*cells: tuple[str, int], look: str = "text") -> Text:
    (first, width), *rest = cells
    words = f"{first:<{width}}" + "".join(f"{words:>{wide}}" for words, wide in rest)
    return Text(words, style(look), no_wrap=True)


def _flop(number: float) -> str:
    for scale, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if number >= scale:
            return f"{number / scale:.2f} {unit}FLOP"
    return f"{number / 1e6:.2f} MFLOP"
