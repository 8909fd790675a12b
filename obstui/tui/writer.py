"""The one thread that changes the store on the person's behalf."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import Store

T = TypeVar("T")


class Declined(Exception):
    """The store said no; the message is the sentence to show."""


class Writer:
    """Runs acts on a Store, one after another, off the UI thread.

    The thread is a daemon so that a store locked by someone else cannot keep a closed dashboard
    alive; `close` waits a moment for what is under way.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._acts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._store: Store | None = None

    async def call(self, act: Callable[[Store], T]) -> T:
        """The value of `act`. Raises Declined."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._acts.put(lambda: self._perform(act, future))
        return await asyncio.wrap_future(future)

    def close(self, patience: float = 2.0) -> None:
        """Finish what was asked, or give up after `patience` seconds."""
        if self._thread is not None:
            self._acts.put(None)
            self._thread.join(patience)
            self._thread = None

    def _run(self) -> None:
        while (act := self._acts.get()) is not None:
            act()
        if self._store is not None:
            self._store.close()

    def _perform(self, act: Callable[[Store], T], future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            value = act(self._opened())
        except Exception as err:
            future.set_exception(Declined(sentence(err)))
        else:
            future.set_result(value)

    def _opened(self) -> Store:
        if self._store is None:
            from obstui.store import Store

            self._store = Store.open(self._paths)
        return self._store


def sentence(err: Exception) -> str:
    """What to show for an exception: our own errors speak for themselves, others are named."""
    from obstui.errors import Problem
    from obstui.text import one_line

    if isinstance(err, Problem):
        return one_line(err, limit=400)
    return one_line(f"Something unforeseen happened ({type(err).__name__}): {err}", limit=400)
