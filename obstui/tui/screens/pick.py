"""A window to find an answer in: what is known, filtered by what is written, or files and folders,
completed as they are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from obstui.text import one_line
from obstui.tui import pickable
from obstui.tui.aside import aside
from obstui.tui.pickable import Entry
from obstui.tui.theme import style
from obstui.tui.widgets.still import Still
from obstui.tui.writer import sentence

if TYPE_CHECKING:
    from obstui.tui.app import Dashboard

_TITLES: dict[pickable.Sort, str] = {
    "model": "A model: a name, or a path (/ or ~ begins one)",
    "file": "A file",
    "new": "A new folder",
}


class Pick(ModalScreen[str | None]):
    """Dismissed with the answer; None: nothing was picked."""

    CSS_PATH = "pick.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="pick.close", tooltip="Change nothing"),
        Binding("down", "move('cursor_down')", "Down", id="pick.down", priority=True,
                tooltip="The one below"),
        Binding("up", "move('cursor_up')", "Up", id="pick.up", priority=True,
                tooltip="The one above"),
        Binding("pagedown", "move('page_down')", "Page down", id="pick.page-down", priority=True,
                tooltip="A page down"),
        Binding("pageup", "move('page_up')", "Page up", id="pick.page-up", priority=True,
                tooltip="A page up"),
        Binding("tab", "complete", "Complete", id="pick.complete", priority=True,
                tooltip="Write out the marked one, and go on from there"),
    ]  # fmt: skip

    def __init__(self, sort: pickable.Sort, begin: str) -> None:
        """`begin`: what the field holds already."""
        super().__init__()
        self._sort, self._begin = sort, begin
        self._known: list[Entry] | None = None
        self._entries: list[Entry] = []
        self._answers: str | None = None
        self._waiting = False

    def compose(self) -> ComposeResult:
        begin = self._begin
        if self._sort == "model":
            begin = begin if pickable.is_path(begin) else ""
        elif not begin:
            begin = f"{_here()}{os.sep}"
        with Vertical(id="box"):
            yield Label(_TITLES[self._sort], id="title", markup=False)
            answer = Input(begin, id="written", compact=True, select_on_focus=False)
            answer.cursor_blink = False
            yield answer
            yield OptionList(id="found", markup=False)
            yield Still(id="note")
            yield Label("Enter takes it, Tab completes, Esc leaves.", id="hint", markup=False)

    def on_mount(self) -> None:
        self._look()

    @property
    def _written(self) -> str:
        return self.query_one("#written", Input).value

    @on(Input.Changed)
    def _look(self) -> None:
        self._find(self._written)

    @work(exclusive=True, group="find", exit_on_error=False, description="find what can be picked")
    async def _find(self, text: str) -> None:
        note = ""
        if self._sort == "model" and not pickable.is_path(text):
            try:
                if self._known is None:
                    paths = cast("Dashboard", self.app).paths
                    self._known = await aside(lambda: pickable.models(paths))
            except Exception as err:
                self._known, note = [], sentence(err)
            words = text.lower().split()
            found = [entry for entry in self._known if _has(entry, words)]
            if not found and not note:
                note = "No model here is called so; Enter takes it as it is written."
        else:
            found, note = await aside(lambda: pickable.below(text, self._sort))
            if self._sort == "new" and not text.endswith("/"):
                here = await aside(lambda: Path(text).expanduser().exists())
                found = found if here or not text else [Entry(text, "a new folder"), *found]
                note = "" if found else note
        self._show(text, found, note)

    def _show(self, text: str, found: list[Entry], note: str) -> None:
        self._entries, self._answers = found, text
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(_line(entry)) for entry in found])
        options.highlighted = 0 if found else None
        self.query_one("#note", Still).show(Text(one_line(note, limit=200), style("muted")))
        if self._waiting:
            self._take()

    @property
    def _marked(self) -> Entry | None:
        place = self.query_one(OptionList).highlighted
        return self._entries[place] if place is not None else None

    async def action_move(self, action: str) -> None:
        await self.query_one(OptionList).run_action(action)

    def action_complete(self) -> None:
        if (entry := self._marked) is not None:
            answer = self.query_one("#written", Input)
            answer.value = entry.answer
            answer.cursor_position = len(entry.answer)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _take(self) -> None:
        """The marked entry; a folder is gone into. What fits none is taken as it is written."""
        self._waiting = self._answers != self._written  # who types and presses Enter at once
        if self._waiting:
            return
        entry = self._marked
        if entry is not None and entry.inside:
            self.action_complete()
        elif entry is not None:
            self.dismiss(entry.answer)
        elif written := self._written.strip():
            self.dismiss(written)


def _has(entry: Entry, words: list[str]) -> bool:
    text = f"{entry.answer} {entry.words}".lower()
    return all(word in text for word in words)


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # somebody has deleted the folder that we were started in
        return Path.home()


def _line(entry: Entry) -> Text:
    name = entry.answer
    if pickable.is_path(name):
        name = name.rstrip("/").rpartition("/")[2] + "/" * name.endswith("/")
    line = Text(one_line(name, limit=200), no_wrap=True, overflow="ellipsis")
    line.append(f"  {one_line(entry.words, limit=100)}" if entry.words else "", style("muted"))
    return line
