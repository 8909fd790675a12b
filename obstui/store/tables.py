"""The tables. Rows never leave the store: readers get the plain values of `views`."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    func,
    select,
    text,
)
from sqlmodel import Field, SQLModel

from obstui.store.views import LIVE, STATES, TERMINAL

SCHEMA_VERSION = 2
DESIRES = ("run", "pause", "cancel")


def _among(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


class _Json(JSON):
    """JSON whose None is SQL's NULL (plain JSON would store the text "null")."""

    def __init__(self) -> None:
        super().__init__(none_as_null=True)


class _Row(SQLModel):
    # Every constraint gets a name, because a migration can only change what it can name.
    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Job(_Row, table=True):
    """A job. People write `desired`; while a worker owns the row, only it writes `state`."""

    __table_args__ = (
        CheckConstraint(_among("state", STATES), name="state"),
        CheckConstraint(_among("desired", DESIRES), name="desired"),
        CheckConstraint(
            f"NOT ({_among('state', LIVE)})"
            " OR (worker IS NOT NULL AND device IS NOT NULL AND attempt > 0)",
            name="owned",
        ),
        CheckConstraint(f"({_among('state', LIVE)}) OR worker IS NULL", name="unowned"),
        CheckConstraint(
            f"({_among('state', TERMINAL)}) = (finished_at IS NOT NULL)", name="finished"
        ),
        # The claim's order; written as a literal so that SQLite can match the partial index.
        Index(
            "ix_job_claim",
            text("priority DESC"),
            text("coalesce(rank, id)"),
            "id",
            sqlite_where=text("state = 'queued'"),
        ),
        Index("ix_job_sweep_id", "sweep_id"),
        # Without AUTOINCREMENT the id of a removed job would come back as another's.
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    ulid: str = Field(unique=True)
    kind: str
    name: str
    spec: dict[str, Any] = Field(sa_type=_Json)
    spec_version: int
    spec_hash: str
    priority: int = 0
    not_before: float | None = None
    state: str
    desired: str = Field(default="run")
    urgent: bool = Field(default=False, sa_type=Integer)
    reason: str | None = None
    error: str | None = None
    worker: str | None = None
    device: str | None = None
    attempt: int = 0
    losses: int = 0
    version: int = 1
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    progress: dict[str, Any] | None = Field(default=None, sa_type=_Json)
    result: dict[str, Any] | None = Field(default=None, sa_type=_Json)
    # A place among the waiting jobs of the same priority; without one the id counts.
    rank: float | None = None
    window: str | None = None
    max_runtime: float | None = None
    # Attempts lost in a row to a restart of the computer: counted apart from `losses`.
    reboots: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    sweep_id: int | None = Field(
        default=None, sa_column_args=[ForeignKey("sweep.id", ondelete="SET NULL")]
    )


def _of_job(*, primary_key: bool = False) -> Any:
    return Field(sa_column_args=[ForeignKey("job.id", ondelete="CASCADE")], primary_key=primary_key)


class Attempt(_Row, table=True):
    """One run of a job by one worker: closed once, never overwritten."""

    job_id: int = _of_job(primary_key=True)
    number: int = Field(primary_key=True)
    worker: str
    device: str
    boot_id: str
    pid: int | None = None
    start_ticks: int | None = None
    started_at: float
    finished_at: float | None = None
    state: str | None = None
    reason: str | None = None
    error: str | None = None
    exit_code: int | None = None
    # What a failure has in common with others like it; for the circuit breaker.
    signature: str | None = None


class Event(_Row, table=True):
    """One fact. Only `id` orders events; `at` is for people."""

    __table_args__ = (Index(None, "job_id"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = _of_job()
    attempt: int
    at: float
    kind: str
    payload: dict[str, Any] = Field(sa_type=_Json)


class Dependency(_Row, table=True):
    """`job_id` starts only after `parent_id` has succeeded.

    The parent is no foreign key: a finished child may outlive its parent's row, and ids never
    come back.
    """

    job_id: int = _of_job(primary_key=True)
    parent_id: int = Field(primary_key=True, index=True)


class Worker(_Row, table=True):
    """A worker as it last described itself; whether it lives is the kernel's to say (its lock)."""

    id: str = Field(primary_key=True)
    device: str = Field(unique=True)
    device_name: str
    pid: int
    host: str
    started_at: float
    seen_at: float
    state: str
    job_id: int | None = None


class Sweep(_Row, table=True):
    """Jobs that were queued together under one name."""

    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    name: str
    created_at: float


class Stop(_Row, table=True):
    """Nothing starts on `scope`, a device or "*" for all of them, until this row goes or `until`
    has passed. `urgent`: what runs there is checkpointed too."""

    scope: str = Field(primary_key=True)
    reason: str
    since: float
    until: float | None = None
    urgent: bool = Field(default=False, sa_type=Integer)


class Outbox(_Row, table=True):
    """A notice, written in the transaction of what it tells; `key` keeps it from being told twice.

    No foreign key: what is to be told outlives the job's row.
    """

    __table_args__: ClassVar[Any] = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    at: float
    kind: str
    payload: dict[str, Any] = Field(sa_type=_Json)
    tries: int = 0
    due_at: float | None = None


class Setting(_Row, table=True):
    """Small values that must survive: when somebody last read the report, what to do when the
    queue is empty."""

    key: str = Field(primary_key=True)
    value: Any = Field(sa_type=_Json)


metadata = _Row.metadata


def _table(row: type[_Row]) -> Table:
    return metadata.tables[str(row.__tablename__)]


jobs = _table(Job)
attempts = _table(Attempt)
events = _table(Event)
dependencies = _table(Dependency)
workers = _table(Worker)
sweeps = _table(Sweep)
stops = _table(Stop)
outbox = _table(Outbox)
settings = _table(Setting)


def one_of(ids: Collection[int], column: ColumnElement[int] = jobs.c.id) -> ColumnElement[bool]:
    """The condition that a column holds one of these: one parameter, however many they are."""
    named = func.json_each(json.dumps(list(ids))).table_valued("value")
    return column.in_(select(named.c.value))
