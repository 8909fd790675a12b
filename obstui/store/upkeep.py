"""What the housekeeping needs: notices on their way out, and small values that must survive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.sqlite import insert

from obstui.store.connection import Access
from obstui.store.tables import outbox, settings
from obstui.store.transitions import notify
from obstui.store.views import Notice

_RETRY_AFTER: Sequence[float] = (60.0, 300.0, 1800.0)
_KEEP_TOLD = 30 * 86400.0
"""Seconds a told notice stays, so that it is not told twice."""


class Upkeep(Access):
    """The outbox and the settings."""

    def notify(self, key: str, kind: str, payload: dict[str, Any]) -> None:
        """Put a notice in the outbox; one with a `key` that was used before changes nothing."""
        with self._write() as conn:
            notify(conn, key, kind, payload, self._clock())

    def notices(self, limit: int = 20) -> list[Notice]:
        """Notices to be told now, oldest first."""
        query = (
            select(outbox)
            .where(outbox.c.due_at.is_not(None), outbox.c.due_at <= self._clock())
            .order_by(outbox.c.id)
            .limit(limit)
        )
        with self._read() as conn:
            columns = Notice.__dataclass_fields__
            return [
                Notice(**{name: row._mapping[name] for name in columns})
                for row in conn.execute(query).all()
            ]

    def notice_sent(self, notice_id: int) -> None:
        """It was told. Notices told long ago are forgotten."""
        old = self._clock() - _KEEP_TOLD
        with self._write() as conn:
            conn.execute(update(outbox).where(outbox.c.id == notice_id).values(due_at=None))
            conn.execute(delete(outbox).where(outbox.c.due_at.is_(None), outbox.c.at < old))

    def notice_failed(self, notice_id: int) -> None:
        """It could not be told: it is due again after 1, 5 and 30 minutes, then given up."""
        with self._write() as conn:
            row = conn.execute(select(outbox).where(outbox.c.id == notice_id)).one_or_none()
            if row is None:
                return
            again = (
                self._clock() + _RETRY_AFTER[row.tries] if row.tries < len(_RETRY_AFTER) else None
            )
            conn.execute(
                update(outbox)
                .where(outbox.c.id == notice_id)
                .values(tries=row.tries + 1, due_at=again)
            )

    def set_setting(self, key: str, value: Any) -> None:
        """Keep a small JSON value; None removes it."""
        with self._write() as conn:
            if value is None:
                conn.execute(delete(settings).where(settings.c.key == key))
                return
            row = insert(settings).values(key=key, value=value)
            conn.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": value}))

    def setting(self, key: str) -> Any:
        """A value that was kept; None if there is none."""
        with self._read() as conn:
            query = select(settings.c.value).where(settings.c.key == key)
            return conn.execute(query).scalar_one_or_none()
