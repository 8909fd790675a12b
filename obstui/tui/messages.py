"""Facts that reach the app from its threads, one class for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from obstui.tui.follow import Snapshot


class StoreRead(Message, bubble=False):
    """The store changed and was read. Only the newest one matters."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StoreRead)


class WorkerAsked(Message, bubble=False):
    """The attempt to start a worker is over; `fault` is the sentence that says why it failed."""

    def __init__(self, fault: str | None) -> None:
        super().__init__()
        self.fault = fault
