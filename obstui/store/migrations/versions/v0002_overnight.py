"""Sweeps, places in the queue, time windows, maximum runtimes, stops, notices, settings."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

# Only additions: a table that SQLite has to copy would lose its children, its AUTOINCREMENT and its
# CHECKs on the way, unless each is written out again.
_CHANGES = (
    """
    CREATE TABLE sweep (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name VARCHAR NOT NULL,
        created_at FLOAT NOT NULL
    )
    """,
    "ALTER TABLE job ADD COLUMN rank FLOAT",
    "ALTER TABLE job ADD COLUMN window VARCHAR",
    "ALTER TABLE job ADD COLUMN max_runtime FLOAT",
    "ALTER TABLE job ADD COLUMN reboots INTEGER DEFAULT 0 NOT NULL",
    """
    ALTER TABLE job ADD COLUMN sweep_id INTEGER
        CONSTRAINT fk_job_sweep_id_sweep REFERENCES sweep (id) ON DELETE SET NULL
    """,
    "CREATE INDEX ix_job_sweep_id ON job (sweep_id)",
    "DROP INDEX ix_job_claim",
    """
    CREATE INDEX ix_job_claim ON job (priority DESC, coalesce(rank, id), id)
        WHERE state = 'queued'
    """,
    "ALTER TABLE attempt ADD COLUMN signature VARCHAR",
    """
    CREATE TABLE stop (
        scope VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        since FLOAT NOT NULL,
        until FLOAT,
        urgent INTEGER NOT NULL,
        CONSTRAINT pk_stop PRIMARY KEY (scope)
    )
    """,
    """
    CREATE TABLE outbox (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        "key" VARCHAR NOT NULL,
        at FLOAT NOT NULL,
        kind VARCHAR NOT NULL,
        payload JSON NOT NULL,
        tries INTEGER NOT NULL,
        due_at FLOAT,
        CONSTRAINT uq_outbox_key UNIQUE ("key")
    )
    """,
    """
    CREATE TABLE setting (
        "key" VARCHAR NOT NULL,
        value JSON NOT NULL,
        CONSTRAINT pk_setting PRIMARY KEY ("key")
    )
    """,
)


def upgrade() -> None:
    for statement in _CHANGES:
        op.execute(statement)
