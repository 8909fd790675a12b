"""What jobs took that succeeded: what later ones are forecast by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from obstui.estimate import parted, ready
from obstui.store.tables import attempts, events, jobs, one_of
from obstui.store.views import PastRun


def read_past_runs(conn: Connection, limit: int) -> list[PastRun]:
    """See `Reader.past_runs`."""
    took = func.sum(attempts.c.finished_at - attempts.c.started_at)
    query = (
        select(jobs, took.label("seconds"))
        .join(attempts, attempts.c.job_id == jobs.c.id)
        .where(jobs.c.state == "succeeded")
        .group_by(jobs.c.id)
        .order_by(jobs.c.id.desc())
        .limit(limit)
    )
    rows = [row for row in conn.execute(query) if row.seconds and row.seconds > 0]
    phases, warm = _phases(conn, [row.id for row in rows]), _warm(conn)
    found = (_past_run(row, phases.get(row.id, []), warm=row.id in warm) for row in rows)
    return [run for run in found if run is not None]


def _phases(conn: Connection, ids: list[int]) -> dict[int, list[tuple[float, dict[str, Any]]]]:
    """The times and payloads of the phases of the jobs that needed one attempt: what a later one
    finds done by the first cannot be told from what it takes over from other jobs."""
    query = (
        select(events.c.job_id, events.c.at, events.c.payload)
        .join(jobs, and_(jobs.c.id == events.c.job_id, jobs.c.attempt == 1))
        .where(one_of(ids), events.c.kind == "phase")
        .order_by(events.c.id)
    )
    found: dict[int, list[tuple[float, dict[str, Any]]]] = {}
    for row in conn.execute(query):
        found.setdefault(row.job_id, []).append((row.at, row.payload))
    return found


def _warm(conn: Connection) -> set[int]:
    """The jobs that a process took at their first attempt which had run another job before."""
    process = (attempts.c.boot_id, attempts.c.pid, attempts.c.start_ticks)
    turn = func.row_number().over(partition_by=process, order_by=attempts.c.started_at)
    turns = select(attempts.c.job_id, attempts.c.number, attempts.c.pid, turn.label("turn"))
    known = turns.where(attempts.c.pid.is_not(None)).subquery()
    later = select(known.c.job_id).where(known.c.number == 1, known.c.turn > 1)
    return set(conn.execute(later).scalars())


def _past_run(
    row: Row[Any], phases: list[tuple[float, dict[str, Any]]], *, warm: bool
) -> PastRun | None:
    run = PastRun(row.spec, row.seconds, row.device)
    if not phases:
        return run
    parts = parted(phases, row.started_at, row.finished_at)
    return parts and replace(
        run,
        steady=parts[0],
        growing=parts[1],
        ready=ready(phases, row.started_at),
        warm=warm,
    )
