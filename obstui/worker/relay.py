"""The child's facts and progress, on their way into the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from obstui.store import Store, StoreError
from obstui.store.views import Claim

_log = logging.getLogger(__name__)

PROGRESS_EVERY = 0.5
_FACTS_AT_ONCE = 500


class Relay:
    """Facts are appended at once and in order; of the progress only the newest is kept, and written
    at most twice a second. While the store does not answer, both wait here.

    `fenced` becomes True when the store says that the attempt is no longer ours: nothing more may
    be written, and the child must go.
    """

    def __init__(
        self, store: Store, claim: Claim, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._claim = claim
        self._clock = clock
        self._facts: list[tuple[str, dict[str, Any]]] = []
        self._progress: dict[str, Any] | None = None
        self._next_progress = 0.0
        self.fenced = False

    def take(self, message: dict[str, Any]) -> bool:
        """Keep a message for the store; False if it is none of the store's business."""
        if message["type"] == "fact" and isinstance(event := message.get("event"), dict):
            payload = {key: value for key, value in event.items() if key != "type"}
            self._facts.append((str(event.get("type", "note")), payload))
        elif message["type"] == "progress" and isinstance(message.get("progress"), dict):
            self._progress = message["progress"]
        else:
            return False
        return True

    def note(self, text: str) -> None:
        """Add a sentence of the worker's own to the job's history."""
        self.keep("note", {"text": text})

    def keep(self, kind: str, payload: dict[str, Any]) -> None:
        """Add a fact of the worker's own to the job's history."""
        self._facts.append((kind, payload))

    def flush(self) -> bool:
        """Write what is due; whether no fact is left that could still be written."""
        try:
            while self._facts and not self.fenced:
                batch = self._facts[:_FACTS_AT_ONCE]
                self.fenced = not self._store.append(self._claim, batch)
                del self._facts[: len(batch)]
            if self._progress is not None and self._clock() >= self._next_progress:
                self._next_progress = self._clock() + PROGRESS_EVERY
                if not self.fenced:
                    self.fenced = not self._store.progress(self._claim, self._progress)
                self._progress = None
        except StoreError as err:
            _log.warning("job %d: the store does not answer: %s", self._claim.job_id, err)
        return self.fenced or not self._facts
