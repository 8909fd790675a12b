"""The dashboard application: it holds no state that the store does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
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
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.events import Event, Key, Paste
from textual.screen import ModalScreen, Screen

from obstui.config import Settings
from obstui.tui import attention, theme
from obstui.tui.appearance import Appearance
from obstui.tui.aside import aside
from obstui.tui.follow import Follower, Reading, Snapshot
from obstui.tui.images import Display
from obstui.tui.keymap import doubled, wrong_ids
from obstui.tui.looks import Looks
from obstui.tui.messages import StoreRead, WorkerAsked
from obstui.tui.places import PLACES
from obstui.tui.remembered import Remembered
from obstui.tui.screens.confirm import Confirm, Question
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.screens.view import View, Whole
from obstui.tui.theme import style
from obstui.tui.writer import Declined, Writer, sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import Store
    from obstui.store.search import Listing
    from obstui.tui.acts import Outcome
    from obstui.tui.form import Opening

TERMINAL_EVERY = 5.0
STORE_WAITS = 0.5
"""Seconds that a store which cannot be written now may hold the exit up."""

_CLOSE = Question("Close the dashboard?", "The answers in the form are gone then.",
                  yes="Close", no="Go on writing")  # fmt: skip

StartWorker = Callable[["Paths"], object]


def start_worker(paths: Paths) -> object:
    """Start a worker of this store for every GPU, else for the processor; those that live stay.
    Raises Problem for the first that cannot be started, once all have been tried."""
    from obstui.errors import Problem
    from obstui.worker import gpu, launch

    faults = []
    for device in gpu.devices():
        try:
            launch.start(paths, device.id)
        except Problem as err:
            faults.append(err)
    if faults:
        raise faults[0]
    return None


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


def settle_memory() -> None:
    """What is loaded by now stays: to look through it for garbage stops the screen each time."""
    gc.collect()
    gc.freeze()


class Dashboard(Looks):
    """Shows the store's newest snapshot on whatever screen is on top, and passes wishes on."""

    TITLE = "obstui"
    # Textual loads the CSS of pushed screens, but not that of the first one.
    CSS_PATH = "screens/queue.tcss"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    # Enter runs what the palette lists: it must be what was found for the text that stands there.
    KEYS_WAIT_FOR = frozenset({"submit", "form", "acts", "store", "models", "ab", "ask",
                               CommandPalette._GATHER_COMMANDS_GROUP})  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "start_worker", "Start worker", id="app.worker",
                tooltip="Start the worker that carries the jobs out"),
        Binding("question_mark,f1", "keys", "Keys", id="app.help",
                tooltip="What every key does here"),
        *(
            Binding(place.key, f"go('{place.name}')", place.label, id=f"go.{place.name}",
                    show=False, tooltip=place.tooltip)
            for place in PLACES
        ),
        Binding("colon", "command_palette", "Commands", id="app.palette", show=False,
                key_display=":", tooltip="Find a command by its name"),
        Binding("T", "next_theme", "Theme", id="app.theme", show=False,
                tooltip="The next theme: " + ", ".join(theme.THEMES)),
        Binding("Z", "density", "Density", id="app.density", show=False,
                tooltip="More air between the lines, or less"),
        Binding("q", "leave", "Quit", id="app.quit",
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
        pictures: Display | None = None,
        appearance: Appearance | None = None,
        settings: Settings | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        super().__init__(
            appearance or Appearance(),
            settings or Settings(),
            remembered or Remembered(None if readonly else paths.home / "dashboard.json"),
        )
        self._left_at = self.remembered.get("place", "queue"), self.remembered.get("job open", 0)
        self.pictures = pictures or Display()
        self.paths, self.readonly, self.clock = paths, readonly, clock
        self.snapshot = Snapshot()
        self.worker_starting = False
        self._watch = watch
        self._start_worker = None if readonly else start_worker
        self._worker_fault: str | None = None
        self._worker_asked = False
        self.undoable: list[Outcome] = []
        self.told_tmux = False
        self.report_read_at: float | None = None
        self._follower = Follower(
            self,
            paths,
            create=self._start_worker is not None,
            clock=clock,
            seldom=self.appearance.low_bandwidth,
        )
        self._writer = Writer(paths)
        self._title = ""
        self.set_keymap(self.settings.keys)

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
        self._tell_terminal(attention.KEEP_TITLE)
        self.call_after_refresh(self._follower.start)  # the first paint comes before the store
        self.call_after_refresh(self._return)
        if not self.readonly:
            self.call_after_refresh(self._greet)

    @work(thread=True, group="greet", exit_on_error=False, description="what happened meanwhile")
    def _greet(self) -> None:
        """Say what ended while the person was away; a toast, for it must not take the focus."""
        from obstui.errors import Problem
        from obstui.tui.screens.report import greeting

        with contextlib.suppress(Problem):  # an unreadable store has a banner of its own
            if words := greeting(self.paths, self.clock()):
                self.call_from_thread(self.notify, words, markup=False, timeout=10)

    async def _return(self) -> None:
        """Go where the person was last."""
        if self.remembered.fault:
            self.notify(self.remembered.fault, markup=False)
        keys = self.settings.keys
        for fault in (wrong_ids(keys), doubled(keys)) if keys else ():
            if fault:
                self.notify(fault, severity="warning", markup=False, timeout=10)
        place, job_id = self._left_at
        if self._watch is not None:
            return
        if any(known.name == place for known in PLACES):
            await self.action_go(place)
        if job_id:
            self.open_job(job_id, tab=self.remembered.get("job tab", ""))

    def _tell_terminal(self, sequence: str) -> None:
        """Write what is no part of the picture."""
        if sequence and self._driver is not None and not self.is_headless:
            self._driver.write(sequence)

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
        self._tell_terminal(attention.RESTORE_TITLE)
        self._follower.stop()
        self._writer.close()
        self.remembered.close()

    # -- the store ---------------------------------------------------------------------------

    async def on_event(self, event: Event) -> None:
        """Who sees nothing but that the terminal is too small can only leave."""
        typed = isinstance(event, Key | Paste)
        if typed and isinstance(screen := self.screen, Whole) and screen.too_small:
            if isinstance(event, Key) and event.key in ("q", "ctrl+q"):
                self.exit()
            return
        await super().on_event(event)

    async def on_store_read(self, event: StoreRead) -> None:
        before, self.snapshot = self.snapshot, event.snapshot
        if not (before.read or self.is_headless):
            self.call_after_refresh(settle_memory)
        self._want_worker()
        self._tell_ends(before)
        await self._show()

    def _tell_ends(self, before: Snapshot) -> None:
        """Have the window's title tell the state, and call the person when a job has ended."""
        if (title := attention.title(self.snapshot)) != self._title:
            self._title = title
            self._tell_terminal(title)
        how = self.settings.attention
        if how != "none" and (jobs := attention.ended(before, self.snapshot)):
            self._tell_terminal(attention.call(how, self.snapshot, jobs))

    async def _show(self) -> None:
        for screen in tuple(self.screen_stack):
            if isinstance(screen, View):
                await screen.show_newest()

    def follow(
        self,
        job_id: int | None,
        *,
        open_job: bool = False,
        attempt: int | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Have this job's events and log, and what `reading` reads, in the snapshots to come."""
        self._follower.focus(job_id, open_job=open_job, attempt=attempt, reading=reading)

    def seek(self, listing: Listing) -> None:
        """Have the queue list these jobs in the snapshots to come."""
        self._follower.seek(listing)

    @property
    def up_to_date(self) -> bool:
        """Whether the newest snapshot answers the newest wish of the screen."""
        snapshot = self.snapshot
        return snapshot.read and (bool(snapshot.fault) or self._follower.answered(snapshot))

    @work(group="store", exit_on_error=False)
    async def change(self, act: Callable[[Store], object], said: str) -> None:
        """Carry a wish to the store; say so once it is there."""
        try:
            await self.write(act)
        except Declined as err:
            self.notify(str(err), severity="error", markup=False)
        else:
            self.notify(said, markup=False, timeout=3)

    async def write(self, act: Callable[[Store], Any]) -> Any:
        """The value of a change to the store. Raises Declined."""
        if self.readonly:
            raise Declined("This dashboard is read-only.")
        value = await self._writer.call(act)
        self._changed()
        return value

    def _changed(self) -> None:
        self.changes += 1
        self._follower.ask()

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

    @work(group="worker", exit_on_error=False, description="start a worker")
    async def _ask_for_worker(self, start: StartWorker) -> None:
        try:
            await aside(lambda: start(self.paths))
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
        if action == "leave":  # in a form a letter is an answer, though perhaps in no field
            return not any(hasattr(type(screen), "unsaved") for screen in self.screen_stack)
        if action == "start_worker":
            asked = self._start_worker is not None and not self.worker_starting
            # Among the workers it starts those that are missing; what lives is left alone.
            wanted = not self.snapshot.worker_alive or self.place == "workers"
            return asked and self.snapshot.read and wanted
        return super().check_action(action, parameters)

    # -- screens -----------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """The place that we are in, whatever lies above it."""
        names = (screen.place for screen in reversed(self.screen_stack) if isinstance(screen, View))
        return next((name for name in names if name), "queue")

    async def action_go(self, name: str) -> None:
        """Show a place; what lay above the queue is left."""
        if isinstance(self.screen, ModalScreen) or hasattr(type(self.screen), "unsaved"):
            return  # a question or a form wants its answer first
        place = next(place for place in PLACES if place.name == name)
        if isinstance(self.screen, View) and self.screen.place == name:
            return
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        if place.factory is not None:
            await self.push_screen(place.factory())

    def open_job(self, job_id: int, *, tab: str = "") -> None:
        from obstui.tui.screens.job import JobScreen

        self.push_screen(JobScreen(job_id, tab=tab))

    def new_job(self, opening: Opening | None = None) -> None:
        from obstui.tui.screens.new_job import NewJobScreen

        self.push_screen(NewJobScreen(opening), self._job_queued)

    @work(group="form", exclusive=True, exit_on_error=False, description="read a picture")
    async def like_picture(self, path: str, refuse: Callable[[str], None]) -> None:
        """The form with a picture's settings; `refuse` gets the sentence if it has none."""
        from obstui.tui import recipe

        try:
            opening = await asyncio.to_thread(recipe.opening, path)
        except recipe.NotOurs as err:
            refuse(str(err))
        else:
            self.new_job(opening)

    async def filtered_out(self, job_id: int) -> bool:
        """Whether the queue does not list this job, for it is no such job as its filter wants."""
        home = self.screen_stack[0]
        return isinstance(home, QueueScreen) and await home.hides(job_id)

    def _job_queued(self, job_id: int | None) -> None:
        home = self.screen_stack[0]
        if job_id is not None and isinstance(home, QueueScreen):
            home.choose(job_id)

    def action_keys(self) -> None:
        from obstui.tui.screens.keys import KeysScreen

        if not isinstance(self.screen, KeysScreen):
            self.push_screen(KeysScreen(self.screen))

    async def action_leave(self) -> None:
        await self.action_quit()

    async def action_quit(self) -> None:
        """Close, but not over a form that somebody has filled in, whatever lies above it."""
        if getattr(self.screen, "question", None) is _CLOSE:
            return
        if any(getattr(screen, "unsaved", False) for screen in self.screen_stack):
            self.push_screen(Confirm(_CLOSE), self._answered)
        else:
            self._leave()

    def _answered(self, yes: bool | None) -> None:
        if yes:
            self._leave()

    @work(group="leave", exclusive=True, exit_on_error=False, description="leave")
    async def _leave(self) -> None:
        """Leave word of what has been read, unless that would keep the person waiting."""
        if not self.readonly and (read_at := self.report_read_at) is not None:
            from obstui.tui.screens.report import leave_word

            try:
                async with asyncio.timeout(STORE_WAITS):
                    await self._writer.call(lambda store: leave_word(store, read_at))
            except TimeoutError:
                self._writer.close(patience=0)
            except Declined:
                pass
        self.exit()

    def action_help_quit(self) -> None:
        """ctrl+c: people press it to leave; say how, for it must not end anything by surprise."""
        self.notify("q closes the dashboard; the jobs go on.", markup=False, timeout=3)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action that has a key can be found by its name."""
        for name in theme.THEMES:
            yield SystemCommand(
                f"Theme: {name}", "Wear these colours", _runner(self, f"theme('{name}')", self)
            )
        from obstui.tui.screens.keys import key_name

        seen = set()
        for key, (node, binding, enabled, tooltip) in screen.active_bindings.items():
            if not enabled or binding.system or not binding.id or binding.action in seen:
                continue
            seen.add(binding.action)
            yield SystemCommand(
                binding.description,
                f"{key_name(key, self.appearance)}: {tooltip or binding.tooltip}",
                _runner(self, binding.action, node),
            )


def _runner(app: Dashboard, action: str, node: object) -> Callable[[], Any]:
    async def run() -> None:
        await app.run_action(action, node)  # type: ignore[arg-type]

    return run
