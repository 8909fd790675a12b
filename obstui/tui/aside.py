"""What may take minutes, in a thread that no closing dashboard waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def aside(act: Callable[[], T]) -> T:
    """The value of `act`; raises what it raises. Whoever stops waiting does not stop it.

    asyncio's own threads, and Textual's with them, are joined when the program ends: `q` while a
    worker is being stopped would hang until it has.
    """
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            value = act()
        except BaseException as err:
            future.set_exception(err)
        else:
            future.set_result(value)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await asyncio.wrap_future(future)
