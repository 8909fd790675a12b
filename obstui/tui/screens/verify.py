"""Whether a variant's files are those that were saved: read in a thread, told one by one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Label
from textual.worker import get_current_worker

from obstui.lookup import check_there
from obstui.models import Check, verify
from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.theme import style
from obstui.tui.widgets.reading import Reading
from obstui.tui.widgets.still import Still
from obstui.tui.writer import sentence

_TELL_EVERY = 0.25  # seconds


class _ClosedError(Exception):
    """Nobody waits for the verdict any more."""


class VerifyScreen(ModalScreen[None]):
    """Closing it ends the reading."""

    CSS_PATH = "verify.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Close", id="verify.close",
                tooltip="Close; what is still unread stays unread"),
    ]  # fmt: skip

    class Told(Message, bubble=False):
        """Something was compared; or all was (None); or it cannot be, and why."""

        def __init__(self, check: Check | str | None) -> None:
            super().__init__()
            self.check = check

    class Read(Message, bubble=False):
        """So many bytes of so many have been read in `seconds`."""

        def __init__(self, done: int, total: int, seconds: float) -> None:
            super().__init__()
            self.done, self.total, self.seconds = done, total, seconds

    def __init__(self, variant: str, folder: str) -> None:
        super().__init__()
        self._variant, self._folder = variant, Path(folder)
        self._checks: list[Check] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Label(f"Verify {one_line(self._variant, limit=60)}", id="title", markup=False)
            with Reading(id="list"):
                yield Still(id="checks")
            yield Still(id="verdict")

    def on_mount(self) -> None:
        self._conclude(Text("Reading the files …", style("muted")))
        self._read()

    @work(thread=True, group="verify", exclusive=True, exit_on_error=False)
    def _read(self) -> None:
        worker = get_current_worker()
        began = said = time.monotonic()

        def told(done: int, total: int) -> None:
            nonlocal said
            if worker.is_cancelled:
                raise _ClosedError
            if (now := time.monotonic()) - said >= _TELL_EVERY:
                said = now
                self.post_message(self.Read(done, total, now - began))

        try:
            for check in verify(check_there(self._variant, self._folder), told):
                self.post_message(self.Told(check))
        except _ClosedError:
            return
        except Exception as err:
            self.post_message(self.Told(sentence(err)))
        else:
            self.post_message(self.Told(None))

    def on_verify_screen_told(self, event: Told) -> None:
        if isinstance(event.check, Check):
            self._checks.append(event.check)
            lines = Text("\n").join(_line(check) for check in self._checks)
            self.query_one("#checks", Still).show(lines)
        elif isinstance(event.check, str):
            self._conclude(Text(event.check, style("bad")))
        elif all(check.ok for check in self._checks):
            words = "✓ All is as it was saved.  Esc closes."
            self._conclude(Text(words, style("good")))
        else:
            words = "✗ This is not what was saved: make it or copy it again.  Esc closes."
            self._conclude(Text(words, style("bad")))

    def on_verify_screen_read(self, event: Read) -> None:
        """The last words before the verdict."""
        left = event.seconds * (event.total - event.done) / max(1, event.done)
        words = f"Read {formats.size(event.done)} of {formats.size(event.total)}, "
        words += f"about {formats.duration(formats.calm(left))} left.  Esc ends it."
        self._conclude(Text(words, style("muted")))

    def _conclude(self, words: Text) -> None:
        self.query_one("#verdict", Still).show(words)


def _line(check: Check) -> Text:
    """What is wrong is said whole; a good hash needs no more than its beginning."""
    what = (one_line(check.what, limit=80), style("text"))
    if check.ok:
        words = one_line(check.words, limit=28)
        return Text.assemble(("✓ ", style("good")), what, (f"  {words}", style("muted")))
    words = one_line(check.words, limit=300)
    return Text.assemble(("✗ ", style("bad")), what, (f"  {words}", style("bad")))
