"""Keys that come faster than they are acted upon, as a slow line delivers them: one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import ClassVar, TypeVar

from textual.app import App
from textual.dom import DOMNode
from textual.events import Event, Key, Paste
from textual.message_pump import MessagePump
from textual.widgets import Input, TextArea

PATIENCE = 5.0
"""Seconds that a key waits for the one before it: what leaves the screen may never answer."""
LOOK_EVERY = 0.01

Result = TypeVar("Result")


class TypeAhead(App[Result]):
    """Gives a key on when the one before it has been acted upon.

    Textual gives a key to whatever has the focus when it arrives. Of three keys in one packet the
    second would still go to the table that the first has left.
    """

    KEYS_WAIT_FOR: ClassVar[frozenset[str]] = frozenset()
    """Groups of workers that may lead to another screen, or change what is selected."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        """How many things were done that the screen has to show: counted up once they are."""
        self._ahead: deque[Key | Paste] = deque()
        self._typing = False

    @property
    def up_to_date(self) -> bool:
        """Whether the screen shows what it has asked for."""
        return True

    async def on_event(self, event: Event) -> None:
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await super().on_event(event)
        elif letter := self._letter_behind_escape(event):
            await self.on_event(Key("escape", None))
            await self.on_event(Key(letter, letter))
        elif self._typing:
            self._ahead.append(event)
        else:
            self._typing = True
            before = self._before
            try:
                await super().on_event(event)
            finally:
                self.run_worker(self._type_on(before), group="type-ahead")

    def _letter_behind_escape(self, event: Key | Paste) -> str | None:
        """A terminal that reads Esc and a letter in one go, and tmux up to half a second later,
        calls it alt and the letter; only who writes text may have meant that."""
        if not isinstance(event, Key) or not event.key.startswith("alt+"):
            return None
        meant = event.key in self.active_bindings or isinstance(self.focused, Input | TextArea)
        return None if meant else event.character

    @property
    def _before(self) -> tuple[DOMNode, int]:
        """What a key that comes now is given to, and how many changes came before it."""
        return self.focused or self.screen, self.changes

    async def _type_on(self, before: tuple[DOMNode, int]) -> None:
        try:
            await self._acted_upon(*before)
            while self._ahead:
                before = self._before
                await super().on_event(self._ahead.popleft())
                await self._acted_upon(*before)
        finally:
            self._typing = False

    async def _acted_upon(self, target: DOMNode, changes: int) -> None:
        """A key climbs from its target to the app, which looks up what it is bound to; the message
        of the widget that acts, if there is one, climbs again; then a new screen may have come, at
        once or when a worker is done. Who has the keys now can do nothing with them before there
        is something to see."""
        try:
            async with asyncio.timeout(PATIENCE):
                for _ in range(2):
                    for node in target.ancestors_with_self:
                        await _read(node)
                await _read(self.screen)
                while any(worker.group in self.KEYS_WAIT_FOR for worker in self.workers):
                    await asyncio.sleep(LOOK_EVERY)
                if self._before != (target, changes):
                    while not self.up_to_date:
                        await asyncio.sleep(LOOK_EVERY)
                    await _read(self)
        except TimeoutError:
            pass


async def _read(node: MessagePump) -> None:
    """Until the node has read what it has been sent so far."""
    done = asyncio.Event()
    if node.call_later(done.set):
        await done.wait()
