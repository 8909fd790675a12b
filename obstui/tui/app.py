"""The dashboard application: it holds no state that the store does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from obstui.tui.follow import Follower, Reading, Snapshot
from obstui.tui.messages import StoreRead, WorkerAsked
from obstui.tui.places import PLACES
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.screens.view import View
from obstui.tui.theme import DARK, style
from obstui.tui.writer import Declined, Writer, sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import Store

TERMINAL_EVERY = 5.0

StartWorker = Callable[["Paths"], object]


def start_worker(paths: Paths) -> object:
    """Start the worker of this store, in a session of its own."""
    from obstui.worker import launch

    return launch.start(paths)


def terminal_gone() -> bool:
    """Whether the terminal we read from has hung up."""
    if sys.__stdin__ is None:
        return False
    try:
        poll = select.poll()
        poll.register(sys.__stdin__.fileno(), 0)  # hang-ups and errors are always told
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


class Dashboard(App[None]):
    """Shows the store's newest snapshot on whatever screen is on top, and passes wishes on."""

    TITLE = "obstui"
    # Textual loads the CSS of pushed screens, but not that of the first one.
    CSS_PATH = "screens/queue.tcss"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"), (40, "-narrow"), (76, "-normal"), (130, "-wide"),
    ]  # fmt: skip
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-flat"), (12, "-short"), (22, "-medium"), (38, "-tall"),
    ]  # fmt: skip
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "start_worker", "Start worker", id="app.worker",
                tooltip="Start the worker that carries the jobs out"),
        Binding("question_mark,f1", "keys", "Keys", id="app.help", key_display="?",
                tooltip="What every key does here"),
        *(
            Binding(place.key, f"go('{place.name}')", place.label, id=f"go.{place.name}",
                    show=False, tooltip=place.tooltip)
            for place in PLACES
        ),
        Binding("colon", "command_palette", "Commands", id="app.palette", show=False,
                key_display=":", tooltip="Find a command by its name"),
        Binding("q", "quit", "Quit", id="app.quit",
                tooltip="Close the dashboard; the jobs go on"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit-anywhere", show=False, priority=True,
                tooltip="Close the dashboard; the jobs go on"),
    ]  # fmt: skip

    def __init__(
        self,
        paths: Paths,
        *,
        readonly: bool = False,
        watch: int | None = None,
        clock: Callable[[], float] = time.time,
        start_worker: StartWorker | None = start_worker,
    ) -> None:
        super().__init__()
        self.paths, self.readonly, self.clock = paths, readonly, clock
        self.snapshot = Snapshot()
        self.worker_starting = False
        self._watch = watch
        self._start_worker = None if readonly else start_worker
        self._worker_fault: str | None = None
        self._worker_asked = False
        self._follower = Follower(self, paths, create=self._start_worker is not None)
        self._writer = Writer(paths)
        self.animation_level = "none"
        self.register_theme(DARK)
        self.theme = DARK.name

    def get_default_screen(self) -> Screen[None]:
        return QueueScreen(self._watch)

    # -- life --------------------------------------------------------------------------------

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: a test
                loop.add_signal_handler(number, self._leave_at_once)
        if not self.is_headless:
            self.set_interval(TERMINAL_EVERY, self._check_terminal)
        self.call_after_refresh(self._follower.start)  # the first paint comes before the store

    def _check_terminal(self) -> None:
        """A terminal that went without a signal leaves a reader that spins for ever."""
        if terminal_gone():
            self._leave_at_once()

    def _leave_at_once(self) -> None:
        """The terminal is gone, or someone ends us. Nothing here needs saving; should writing to a
        dead terminal hold the exit up, the process ends without it."""
        patience = 0.5 if terminal_gone() else 2.0
        last_resort = threading.Timer(patience, os._exit, (0,))
        last_resort.daemon = True
        last_resort.start()
        self.exit()

    def on_unmount(self) -> None:
        self._follower.stop()
        self._writer.close()

    # -- the store ---------------------------------------------------------------------------

    async def on_store_read(self, event: StoreRead) -> None:
        self.snapshot = event.snapshot
        self._want_worker()
        await self._show()

    async def _show(self) -> None:
        if isinstance(self.screen, View):
            await self.screen.show_newest()

    def follow(
        self, job_id: int | None, *, open_job: bool = False, reading: Reading | None = None
    ) -> None:
        """Have this job's events and log, and what `reading` reads, in the snapshots to come."""
        self._follower.focus(job_id, open_job=open_job, reading=reading)

    @property
    def up_to_date(self) -> bool:
        """Whether the newest snapshot answers the newest wish of the screen."""
        snapshot = self.snapshot
        return snapshot.read and (bool(snapshot.fault) or self._follower.answered(snapshot))

    @work(group="store", exit_on_error=False)
    async def change(self, act: Callable[[Store], object], said: str) -> None:
        """Carry a wish to the store; say so once it is there."""
        try:
            await self._writer.call(act)
        except Declined as err:
            self.notify(str(err), severity="error", markup=False)
        else:
            self.notify(said, markup=False, timeout=3)
        self._follower.ask()

    async def write(self, act: Callable[[Store], Any]) -> Any:
        """The value of a change to the store. Raises Declined."""
        value = await self._writer.call(act)
        self._follower.ask()
        return value

    # -- the worker --------------------------------------------------------------------------

    def _want_worker(self) -> None:
        """Start a worker once, if none lives. Later deaths are for the person to decide about."""
        if self.snapshot.worker_alive:
            self._worker_fault, self._worker_asked = None, True
        elif self.snapshot.read and not self.snapshot.fault and not self._worker_asked:
            self.action_start_worker()

    def action_start_worker(self) -> None:
        if self._start_worker is None or self.worker_starting:
            return
        self._worker_asked = self.worker_starting = True
        self._worker_fault = None
        self._ask_for_worker(self._start_worker)

    @work(thread=True, group="worker", exit_on_error=False)
    def _ask_for_worker(self, start: StartWorker) -> None:
        try:
            start(self.paths)
        except Exception as err:
            self.post_message(WorkerAsked(sentence(err)))
        else:
            self.post_message(WorkerAsked(None))

    async def on_worker_asked(self, event: WorkerAsked) -> None:
        self.worker_starting, self._worker_fault = False, event.fault
        self._follower.ask()
        await self._show()

    @property
    def banner(self) -> Text:
        """What is wrong with the store or the worker, and the key that mends it; else empty."""
        snapshot = self.snapshot
        if snapshot.fault:
            return Text(snapshot.fault, style("text"))
        if snapshot.worker_alive or not snapshot.read or self.worker_starting:
            return Text()
        if self._start_worker is None:
            waiting = snapshot.counts.get("queued", 0)
            return Text("No worker is running: queued jobs wait." if waiting else "", style("text"))
        words = self._worker_fault or "No worker is running: queued jobs wait."
        return Text.assemble((words, style("text")), ("  w", style("accent")), " starts one.")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "start_worker":
            asked = self._start_worker is not None and not self.worker_starting
            return asked and self.snapshot.read and not self.snapshot.worker_alive
        return super().check_action(action, parameters)

    # -- screens -----------------------------------------------------------------------------

    async def action_go(self, name: str) -> None:
        """Show a place; what lay above the queue is left."""
        if not isinstance(self.screen, View):
            return  # a question or a form wants its answer first
        place = next(place for place in PLACES if place.name == name)
        if self.screen.place == name:
            return
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        if place.factory is not None:
            await self.push_screen(place.factory())

    def open_job(self, job_id: int) -> None:
        from obstui.tui.screens.job import JobScreen

        self.push_screen(JobScreen(job_id))

    def new_job(self) -> None:
        from obstui.tui.screens.new_job import NewJobScreen

        self.push_screen(NewJobScreen(), self._job_queued)

    def _job_queued(self, job_id: int | None) -> None:
        home = self.screen_stack[0]
        if job_id is not None and isinstance(home, QueueScreen):
            home.choose(job_id)

    def action_keys(self) -> None:
        from obstui.tui.screens.keys import KeysScreen

        if not isinstance(self.screen, KeysScreen):
            self.push_screen(KeysScreen(self.screen))

    def action_help_quit(self) -> None:
        """ctrl+c: people press it to leave; say how, for it must not end anything by surprise."""
        self.notify("q closes the dashboard; the jobs go on.", markup=False, timeout=3)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action that has a key can be found by its name."""
        seen = set()
        for node, binding, enabled, tooltip in screen.active_bindings.values():
            if not enabled or binding.system or not binding.id or binding.action in seen:
                continue
            seen.add(binding.action)
            yield SystemCommand(
                binding.description,
                tooltip or binding.tooltip,
                _runner(self, binding.action, node),
            )


def _runner(app: App[None], action: str, node: object) -> Callable[[], Any]:
    async def run() -> None:
        await app.run_action(action, node)  # type: ignore[arg-type]

    return run
