"""Stops: of the whole queue or of one device, by a person or by the circuit breaker."""

from __future__ import annotations

from sqlalchemy import Connection, delete, or_, select

from obstui.store.connection import Access
from obstui.store.tables import jobs, stops
from obstui.store.transitions import stop_scope
from obstui.store.views import LIVE, Claim
from obstui.text import one_line
from obstui.windows import is_open

QUEUE = "*"
"""The scope of a stop of every device."""
BY_HAND = "by hand; obstui resume --queue lets it go on"
"""The reason of a stop that a person asked for."""


def stopped(conn: Connection, device: str, now: float) -> bool:
    """Whether no job may start on the device."""
    query = select(stops.c.scope).where(
        stops.c.scope.in_((QUEUE, device)), or_(stops.c.until.is_(None), stops.c.until > now)
    )
    return conn.execute(query).first() is not None


class Stops(Access):
    """Who may stop the queue, and what a running job must obey besides its own `desired`."""

    def stop(
        self, scope: str, reason: str, *, until: float | None = None, urgent: bool = False
    ) -> None:
        """Let nothing start on a device, or on any (`QUEUE`), until `go` or the time `until`. What
        runs there ends as it will; with `urgent` it is checkpointed and queued again."""
        with self._write() as conn:
            stop_scope(
                conn,
                scope,
                one_line(reason, limit=300),
                now=self._clock(),
                until=until,
                urgent=urgent,
            )

    def go(self, scope: str) -> bool:
        """End a stop. False if there was none."""
        with self._write() as conn:
            return conn.execute(delete(stops).where(stops.c.scope == scope)).rowcount == 1

    def must_stop(self, claim: Claim, *, ran: float) -> str | None:
        """Why a running job must stop though nobody asked it to: "window" (its time window has
        closed), "queue_paused" (an urgent stop), "timeout" (`ran` seconds are over its maximum
        runtime); None if it may go on. Cheap: takes no lock that a writer could wait for."""
        now = self._clock()
        with self._read() as conn:
            job = conn.execute(
                select(jobs.c.window, jobs.c.max_runtime).where(
                    jobs.c.id == claim.job_id,
                    jobs.c.attempt == claim.attempt,
                    jobs.c.worker == claim.worker,
                    jobs.c.state.in_(LIVE),
                )
            ).one_or_none()
            urgent = conn.execute(
                select(stops.c.scope).where(
                    stops.c.scope.in_((QUEUE, claim.device)), stops.c.urgent == 1
                )
            ).first()
        if job is None:
            return None
        if job.max_runtime is not None and ran > job.max_runtime:
            return "timeout"
        if urgent is not None:
            return "queue_paused"
        if job.window is not None and not is_open(job.window, now):
            return "window"
        return None
