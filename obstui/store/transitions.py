"""The state machine: which changes of a job's state exist, and the one door they all go through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or

from obstui.store.endings import INTERRUPTED
from obstui.store.errors import NotFound, Refused
from obstui.store.tables import attempts, dependencies, events, jobs, outbox, stops
from obstui.store.views import LIVE, TERMINAL
from obstui.text import one_line, plain

JobRow = Row[Any]

ALLOWED: Mapping[str, frozenset[str]] = {
    "held": frozenset({"queued", "cancelled"}),
    "queued": frozenset({"starting", "held", "cancelled", "skipped"}),
    "paused": frozenset({"queued", "cancelled"}),
    # An attempt that ends without its own word (its worker died, or the person's wish overtook
    # it) may go from any live state to where the wish or the recovery puts it.
    "starting": frozenset(
        {"running", "failed", "succeeded", "cancelled", "paused", "queued", "quarantined"}
    ),
    "running": frozenset(
        {"pausing", "cancelling"}
        | {"failed", "succeeded", "cancelled", "paused", "queued", "quarantined"}
    ),
    "pausing": frozenset(
        {"cancelling", "failed", "succeeded", "cancelled", "paused", "queued", "quarantined"}
    ),
    "cancelling": frozenset(
        {"failed", "succeeded", "cancelled", "paused", "queued", "quarantined"}
    ),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "skipped": frozenset({"queued"}),
    "quarantined": frozenset({"queued"}),
}

BROKEN = tuple(state for state in TERMINAL if state != "succeeded")
"""States of a parent with which its children cannot start."""

MAX_LOSSES = 2
"""Attempts that may be lost in a row, without one new unit of work, before a job is poison."""

_BACK_OFF = (0.0, 60.0, 300.0)
# Ends that say nothing about the job: they are not held against it.
_UNCOUNTED = frozenset(
    {None, "user", "drain", "gpu_busy", "gpu_lost", "disk_full"}
    | {"window", "queue_paused", "thermal", "foreign_gpu", "oom_gpu", "oom_host"}
    | {"stuck_in_driver", "no_process"}
)

MAX_REBOOTS = 5
"""Restarts of the computer in a row that a job may be lost to: seldom its fault, but it can be."""

BREAKER_FAILURES, BREAKER_SECONDS, BREAKER_STOP = 3, 600.0, 1800.0
"""So many failures alike on one device in so many seconds, and it is not the jobs' fault: the
device is stopped for so many seconds."""


def find(conn: Connection, job_id: int) -> JobRow:
    """The row of a job. Raises NotFound."""
    row = None
    if 0 < job_id < 2**63:  # beyond that SQLite cannot even be asked
        row = conn.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {job_id}.")
    return row


def record(
    conn: Connection, job_id: int, attempt: int, kind: str, payload: dict[str, Any], now: float
) -> None:
    """Append one event."""
    conn.execute(
        insert(events).values(job_id=job_id, attempt=attempt, at=now, kind=kind, payload=payload)
    )


def record_state(
    conn: Connection,
    job_id: int,
    attempt: int,
    change: tuple[str | None, str],
    *,
    reason: str | None,
    who: str,
    now: float,
) -> None:
    """The event of one transition, written in the transaction that made it."""
    payload = {"from": change[0], "to": change[1], "reason": reason, "who": who}
    record(conn, job_id, attempt, "state", payload, now)


def move(
    conn: Connection,
    job: JobRow,
    to: str,
    *,
    who: str,
    now: float,
    reason: str | None = None,
    **values: Any,
) -> None:
    """Change a job's state: row, event, and what follows for its children, in one transaction.

    `job` is the row as read in this transaction. Raises Refused where no such transition exists.
    """
    if to not in ALLOWED[job.state]:
        raise Refused(f"Job {job.id} is {job.state}: it cannot become {to}.")
    if to not in LIVE:
        values |= {"worker": None}
        if to not in TERMINAL:
            values |= {"device": None}
    changed = conn.execute(
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.version == job.version)
        .values(
            state=to,
            reason=reason,
            version=job.version + 1,
            finished_at=now if to in TERMINAL else None,
            **values,
        )
    )
    if changed.rowcount != 1:
        raise RuntimeError(f"job {job.id} changed inside our transaction")
    record_state(conn, job.id, job.attempt, (job.state, to), reason=reason, who=who, now=now)
    if to in ("failed", "quarantined"):
        told = {"job_id": job.id, "name": job.name, "reason": reason, "error": values.get("error")}
        notify(conn, f"job-{job.id}-{job.attempt}-{to}", to, told, now)
    if to in BROKEN:
        _skip_children(conn, job.id, to, now)
    elif to == "queued" and job.state in BROKEN:
        _unskip_children(conn, job.id, now)


def notify(conn: Connection, key: str, kind: str, payload: dict[str, Any], now: float) -> None:
    """Put a notice in the outbox, in the transaction of what it tells; each `key` only once."""
    row = insert_or(outbox).values(key=key, at=now, kind=kind, payload=payload, tries=0, due_at=now)
    conn.execute(row.on_conflict_do_nothing(index_elements=["key"]))


def stop_scope(
    conn: Connection,
    scope: str,
    reason: str,
    *,
    now: float,
    until: float | None = None,
    urgent: bool = False,
) -> None:
    """Let nothing start on a device, or on any ("*")."""
    row = {"scope": scope, "reason": reason, "since": now, "until": until, "urgent": int(urgent)}
    conn.execute(
        insert_or(stops).values(row).on_conflict_do_update(index_elements=["scope"], set_=row)
    )


def _children(conn: Connection, job_id: int, state: str) -> list[JobRow]:
    query = (
        select(jobs)
        .join(dependencies, dependencies.c.job_id == jobs.c.id)
        .where(dependencies.c.parent_id == job_id, jobs.c.state == state)
        .order_by(jobs.c.id)
    )
    return list(conn.execute(query).all())


def _skip_children(conn: Connection, job_id: int, state: str, now: float) -> None:
    for child in _children(conn, job_id, "queued"):
        move(
            conn,
            child,
            "skipped",
            who=f"job {job_id}",
            now=now,
            reason="dep_failed",
            error=f"Job {job_id}, whose result it needs, is {state}.",
        )


def _unskip_children(conn: Connection, job_id: int, now: float) -> None:
    for child in _children(conn, job_id, "skipped"):
        if not broken_parents(conn, child.id):
            move(conn, child, "queued", who=f"job {job_id}", now=now, error=None)


def broken_parents(conn: Connection, job_id: int) -> list[str]:
    """Why a job cannot start, ever, as things are: "job 12 failed", one for each parent."""
    query = (
        select(dependencies.c.parent_id, jobs.c.state)
        .outerjoin(jobs, jobs.c.id == dependencies.c.parent_id)
        .where(dependencies.c.job_id == job_id)
        .order_by(dependencies.c.parent_id)
    )
    return [
        f"job {row.parent_id} " + (f"is {row.state}" if row.state else "was removed")
        for row in conn.execute(query).all()
        if row.state is None or row.state in BROKEN
    ]


def unfinished_children(conn: Connection, job_id: int) -> Sequence[JobRow]:
    """The jobs that wait for a job, or run on what it made."""
    query = (
        select(jobs)
        .join(dependencies, dependencies.c.job_id == jobs.c.id)
        .where(dependencies.c.parent_id == job_id, jobs.c.state.not_in(TERMINAL))
    )
    return list(conn.execute(query).all())


def check_unneeded(conn: Connection, job_id: int) -> None:
    """Raises Refused for a job that an unfinished one needs."""
    if children := unfinished_children(conn, job_id):
        child = children[0]
        raise Refused(
            f"Job {job_id} is needed by job {child.id}, which is {child.state}: cancel that first."
        )


def wish(conn: Connection, job: JobRow, desired: str, *, who: str, now: float) -> None:
    """Tell a live job's worker what the person wants. A second cancel is urgent."""
    urgent = desired == job.desired == "cancel"
    conn.execute(
        update(jobs)
        .where(jobs.c.id == job.id)
        .values(desired=desired, urgent=urgent, version=job.version + 1)
    )
    payload = {"desired": desired, "urgent": urgent, "who": who}
    record(conn, job.id, job.attempt, "desired", payload, now)


def end_attempt(
    conn: Connection,
    job: JobRow,
    to: str,
    *,
    who: str,
    now: float,
    reason: str | None = None,
    error: str | None = None,
    result: dict[str, Any] | None = None,
    exit_code: int | None = None,
    not_before: float | None = None,
    signature: str | None = None,
) -> str:
    """Close the attempt of a live job and give the job up; returns the state it took.

    A job that goes back to the queue obeys what was wished of it meanwhile (cancel, pause), and
    is quarantined when it was lost for the third time in a row without one new unit of work.
    """
    error = plain(error, limit=4000) if error else None
    cause = reason
    if to in ("queued", "paused"):
        to = {"cancel": "cancelled", "pause": "paused"}.get(job.desired, "queued")
    values: dict[str, Any] = {"desired": "run", "urgent": False, "not_before": None}
    if to in ("cancelled", "paused") and job.desired != "run":
        reason = "user"
    elif to == "queued" and reason not in _UNCOUNTED:
        rebooted = reason == "host_reboot"
        counter, most = ("reboots", MAX_REBOOTS) if rebooted else ("losses", MAX_LOSSES)
        values[counter] = lost = job._mapping[counter] + 1
        if lost > most:
            error = error or (
                f"{lost} attempts in a row were lost ({reason}) without finishing one more unit."
            )
            to, reason = "quarantined", "poison"
        elif counter == "losses":
            delay = _BACK_OFF[lost - 1]
            values["not_before"] = now + delay if delay else None
    if to == "queued" and not_before is not None:
        values["not_before"] = not_before
    if to == "succeeded":
        values |= {"losses": 0, "reboots": 0}
    conn.execute(
        update(attempts)
        .where(attempts.c.job_id == job.id, attempts.c.number == job.attempt)
        .values(
            finished_at=now,
            state=INTERRUPTED if to in ("queued", "quarantined") else to,
            reason=cause or reason,
            error=error,
            exit_code=exit_code,
            signature=signature,
        )
    )
    if to == "failed" and signature:
        _break_circuit(conn, job.device, signature, error, now)
    move(conn, job, to, who=who, now=now, reason=reason, error=error, result=result, **values)
    return to


def _break_circuit(
    conn: Connection, device: str, signature: str, error: str | None, now: float
) -> None:
    """Stop a device on which jobs fail one after the other for the same cause."""
    alike = conn.execute(
        select(func.count()).where(
            attempts.c.device == device,
            attempts.c.signature == signature,
            attempts.c.state == "failed",
            attempts.c.finished_at > now - BREAKER_SECONDS,
            attempts.c.finished_at <= now,
        )
    ).scalar_one()
    if alike >= BREAKER_FAILURES:
        cause = one_line(error or signature, limit=200)
        reason = f"{alike} jobs in a row failed alike on it: {cause}"
        stop_scope(conn, device, reason, now=now, until=now + BREAKER_STOP)
        notify(conn, f"stop-{device}-{now:.0f}", "stop", {"device": device, "reason": reason}, now)
