"""What a job will take, worked out in a thread: of one in the form, or of one that waits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.message import Message
from textual.timer import Timer
from textual.worker import get_current_worker

from obstui.text import one_line
from obstui.tui import machine
from obstui.tui.formats import duration, params, room, size
from obstui.tui.theme import style
from obstui.tui.widgets.device_lines import devices
from obstui.tui.widgets.reading import Reading
from obstui.tui.widgets.still import Still
from obstui.tui.writer import sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.plan import Duration, Plan
    from obstui.specs import BadSpec, Spec
    from obstui.store import JobView
    from obstui.tui.app import Dashboard
    from obstui.tui.form import Asked

DEBOUNCE = 0.3
HISTORY = 500  # finished jobs looked through for one like it
PLANNED = 50  # different jobs of a sweep; a plan takes some milliseconds


@dataclass(frozen=True, slots=True)
class Together:
    """So many jobs, and the sums: seconds, None where some job's time is unknown, and bytes of
    disk. Both are None for more than `PLANNED` different jobs."""

    jobs: int
    seconds: float | None
    disk: int | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """A plan, how long the like took here, the bytes free on the store's disk if it tells. Of a
    sweep it is the plan of the job that needs the most memory, and what all take `together`.
    `remarks`: what the person should know before they queue it."""

    plan: Plan
    time: Duration | None
    free: int | None
    together: Together | None = None
    remarks: tuple[str, ...] = ()

    @property
    def disk(self) -> int:
        """Bytes."""
        return sum(self.plan.disk.values())


def work_out(paths: Paths, asked: Sequence[Spec]) -> Forecast:
    """Reads model sizes and the store: never on the UI thread. Raises NoSuchModel, CannotPlan and
    StoreError."""
    from obstui import plan
    from obstui.lookup import check_model
    from obstui.specs import PipelineSpec
    from obstui.store import Reader

    for model in {spec.model for spec in asked if isinstance(spec, PipelineSpec)}:
        check_model(model)
    # Names and seeds change nothing of what a job takes.
    alike = Counter(spec.model_copy(update={"name": "", "seed": 0}) for spec in asked)
    plans = [plan.make(spec) for spec, _ in zip(alike, range(PLANNED), strict=False)]
    with Reader.open(paths) as reader:
        past = reader.past_runs(HISTORY)
    free = machine.free_bytes(paths.home)
    found = [Forecast(made, plan.past(past, made), free) for made in plans]
    largest = max(found, key=lambda each: each.plan.choice.forecast.needed)
    return replace(largest, together=_together(alike, found)) if len(asked) > 1 else largest


def _remarks(asked: Asked, found: Forecast) -> Iterator[str]:
    if asked.remark:
        yield asked.remark
    if (limit := asked.max_runtime) and found.time and found.time.seconds > limit:
        needs = duration(found.time.seconds)
        yield f"It takes about {needs}, but may run at most {duration(limit)}: it would fail."


def _together(alike: Counter[Any], found: Iterable[Forecast]) -> Together:
    """The sums; a calibration that several jobs of the sweep share counts once, and so does the
    loading of a model that one job leaves loaded for the next."""
    from obstui.finish import finds_calibrated

    jobs = alike.total()
    if len(alike) > PLANNED:
        return Together(jobs, None, None)
    seconds, disk = 0.0, 0
    loaded: set[str] = set()
    calibrated = finds_calibrated(spec.model_dump(mode="json") for spec in alike)
    for count, each, again in zip(alike.values(), found, calibrated, strict=True):
        disk += count * (each.disk - (each.plan.shared_disk if again else 0))
        time = each.time
        seconds += count * (time.steady + (0.0 if again else time.growing)) if time else math.nan
        model = each.plan.spec.model
        seconds -= (count - (model not in loaded)) * time.saved if time else 0.0
        loaded.add(model)
    return Together(jobs, None if math.isnan(seconds) else seconds, disk)


Ask = Callable[[], "Asked"]


def _asked(spec: dict[str, Any], max_runtime: float | None) -> Asked:
    from obstui.specs import parse
    from obstui.tui.form import Asked

    return Asked([parse(spec)], max_runtime)


class PlanPanel(Reading):
    """The plan in full; says `Planned` with its short form."""

    class Planned(Message):
        """A plan was made; or `fault` says why none can be."""

        def __init__(self, summary: Text, fault: BadSpec | None = None) -> None:
            super().__init__()
            self.summary, self.fault = summary, fault

    DEFAULT_CSS = "PlanPanel { scrollbar-size-vertical: 1; }"
    can_focus = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._soon: Timer | None = None
        self._asked: Ask | None = None
        self._answered: Ask | None = None
        self._job: tuple[object, ...] | None = None

    @property
    def at_work(self) -> bool:
        """Whether what it shows is not yet what it was asked for."""
        return self._asked is not self._answered

    def compose(self) -> ComposeResult:
        yield Still(id="plan-lines")

    def show_job(self, job: JobView | None) -> None:
        """The plan of a job that has yet to begin; of any other there is more to see."""
        waits = job is not None and job.state in ("queued", "held") and not job.attempt
        self.display = waits
        planned = (job.id, job.spec, job.max_runtime) if job is not None and waits else None
        if planned == self._job:
            return
        self._job = planned
        self._asked = self._answered = None
        self.query_one("#plan-lines", Still).show("")
        if job is not None and planned is not None:
            self.ask(partial(_asked, job.spec, job.max_runtime))

    def ask(self, jobs: Ask, refusal: Callable[[Exception], str] = sentence) -> None:
        """Plan these soon, unless others are asked for before. `jobs` is called in a thread;
        `refusal` says why there is no plan."""
        if self._soon is not None:
            self._soon.stop()
        self._asked = jobs
        self._soon = self.set_timer(DEBOUNCE, lambda: self._work_out(jobs, refusal))

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False, description="plan")
    def _work_out(self, jobs: Ask, refusal: Callable[[Exception], str]) -> None:
        try:
            asked = jobs()
            made = work_out(cast("Dashboard", self.app).paths, asked.jobs)
            found: Forecast | Exception = replace(made, remarks=tuple(_remarks(asked, made)))
        except Exception as err:
            found = err
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show, jobs, found, refusal)

    def _show(
        self, jobs: Ask, found: Forecast | Exception, refusal: Callable[[Exception], str]
    ) -> None:
        if not self.is_attached or jobs is not self._asked:
            return
        self._answered = jobs
        lines = self.query_one("#plan-lines", Still)
        if isinstance(found, Exception):
            from obstui.specs import BadSpec

            words = refusal(found)
            lines.show(Text.assemble(("Plan\n\n", "bold"), (f"None yet: {words}", style("muted"))))
            fault = found if isinstance(found, BadSpec) else None
            self.post_message(self.Planned(Text(f"No plan yet: {words}", style("muted")), fault))
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
    """One line: size, memory, time; and one for each remark."""
    made, together = found.plan, found.together
    needed = made.choice.forecast.needed
    line = Text("Plan, if it is SDXL: " if made.assumed else "Plan: ", style("muted"))
    if together:
        line = Text(f"Queues {together.jobs:,} jobs: ", style("warn"))
    kind = "VRAM" if total else "memory"
    line.append(f"needs {size(needed)} {kind}", style(_fit(needed, total)))
    line.append(f" of {size(total)}" if total else "", style("muted"))
    seconds, disk = found.time.seconds if found.time else None, found.disk
    parts = [f"smallest {params(min(level.params for level in made.levels))}"]
    if together:
        seconds, disk, parts = together.seconds, together.disk or 0, []
    if disk:
        parts.insert(0, f"disk {size(disk)}")
    parts.insert(0, "time unknown" if seconds is None else f"about {duration(seconds)}")
    line.no_wrap, line.overflow = True, "ellipsis"
    line.append(" · " + " · ".join(parts), style("muted"))
    for remark in found.remarks:
        line.append(f"\n{remark}", style("warn"))
    return line


def plan_lines(found: Forecast, total: int, device: str) -> Iterator[Text]:
    """The plan in 46 columns; `total` is the GPU's memory in bytes, 0 where there is none."""
    made = found.plan
    yield Text("Plan", "bold")
    for remark in found.remarks:
        yield Text(remark, style("warn"))
    if found.together:
        yield from _together_lines(found.together, found)
    yield Text()
    time = "unknown until one like it has run here"
    if found.time:
        jobs = found.time.jobs
        like = "an earlier job" if jobs == 1 else f"{jobs} earlier jobs"
        time = f"about {duration(found.time.seconds)}, like {like}"
    yield Text.assemble(("Time ", style("muted")), (time, style("text")))
    yield Text.assemble(("Work ", style("muted")), (_work_words(found), style("text")))
    if made.samples and made.guided:
        yield Text("     guidance takes two samples a step", style("muted"))
    yield Text()
    yield _row(("model", 14), ("params", 9), ("removed", 9), ("FLOP/sample", 13), look="muted")
    for level in made.levels:
        name = one_line(level.name, limit=14)
        removed = f"{level.removed:.1%}" if level.removed else "–"
        yield _row((name, 14), (params(level.params), 9), (removed, 9), (_flop(level.flops), 13))
    yield Text()
    yield from _memory_lines(found, total, device)
    yield Text()
    yield _disk_line(found.disk, found.free)
    for name, octets in made.disk.items():
        yield _row((f"  {one_line(name, limit=30)}", 32), (size(octets), 12))
    if made.assumed:
        yield Text()
        yield Text("The model is not here: figures of SDXL 1.0.", style("muted"))


def _together_lines(together: Together, found: Forecast) -> Iterator[Text]:
    yield Text()
    yield Text(f"Queues {together.jobs:,} jobs, one sweep", style("strong"))
    if together.disk is None:
        words = f"Time and disk of over {PLANNED} different jobs\nare not added up."
        yield Text(words, style("muted"))
    else:
        time = "unknown until the like of each has run"
        if together.seconds is not None:
            time = f"about {duration(together.seconds)}, one after the other"
        yield Text.assemble(("Time ", style("muted")), (time, style("text")))
        yield _disk_line(together.disk, found.free)
    yield Text()
    yield Text("The job that needs the most memory", style("strong"))


def _memory_lines(found: Forecast, total: int, device: str) -> Iterator[Text]:
    forecast = found.plan.choice.forecast
    needed = forecast.needed
    yield Text.assemble(
        ("VRAM " if total else "Memory ", style("muted")),
        (size(needed), style(_fit(needed, total))),
        (f" needed, {size(total)} on {one_line(device, limit=18)}" if total
         else " needed; no GPU is known here", style("muted")),
    )  # fmt: skip
    most = max((moment.total for moment in forecast.moments), default=1)
    for moment in forecast.moments:
        bar = "█" * max(1, round(12 * moment.total / most))
        yield Text.assemble(
            (f"  {one_line(moment.phase, limit=18):18}", style("text")),
            (f"{size(moment.total):>10}  ", style("text")), (bar, style("accent")),
        )  # fmt: skip
    yield _row(("  driver, spare", 20), (size(needed - most), 10), look="muted")


def _disk_line(octets: int, free: int | None) -> Text:
    full = free is not None and octets > free
    return Text.assemble(
        ("Disk ", style("muted")), (size(octets), style("bad" if full else "text")),
        ("" if free is None else f" of {room(free)} free", style("muted")),
    )  # fmt: skip


def _work_words(found: Forecast) -> str:
    made = found.plan
    if not made.samples:
        return "none: weights alone"
    return f"{made.samples:,} samples in {made.passes:,} passes, {_flop(made.flops)}"


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
