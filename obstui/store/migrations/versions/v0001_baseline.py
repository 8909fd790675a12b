"""Jobs, attempts, events, dependencies, workers."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_LIVE = "'starting', 'running', 'pausing', 'cancelling'"
_TERMINAL = "'succeeded', 'failed', 'cancelled', 'skipped', 'quarantined'"

_TABLES = (
    f"""
    CREATE TABLE job (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        ulid VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        spec JSON NOT NULL,
        spec_version INTEGER NOT NULL,
        spec_hash VARCHAR NOT NULL,
        priority INTEGER NOT NULL,
        not_before FLOAT,
        state VARCHAR NOT NULL,
        desired VARCHAR NOT NULL,
        urgent INTEGER NOT NULL,
        reason VARCHAR,
        error VARCHAR,
        worker VARCHAR,
        device VARCHAR,
        attempt INTEGER NOT NULL,
        losses INTEGER NOT NULL,
        version INTEGER NOT NULL,
        created_at FLOAT NOT NULL,
        started_at FLOAT,
        finished_at FLOAT,
        progress JSON,
        result JSON,
        CONSTRAINT ck_job_state CHECK (state IN ('held', 'queued', 'paused', {_LIVE}, {_TERMINAL})),
        CONSTRAINT ck_job_desired CHECK (desired IN ('run', 'pause', 'cancel')),
        CONSTRAINT ck_job_owned CHECK (NOT (state IN ({_LIVE}))
            OR (worker IS NOT NULL AND device IS NOT NULL AND attempt > 0)),
        CONSTRAINT ck_job_unowned CHECK ((state IN ({_LIVE})) OR worker IS NULL),
        CONSTRAINT ck_job_finished CHECK ((state IN ({_TERMINAL})) = (finished_at IS NOT NULL)),
        CONSTRAINT uq_job_ulid UNIQUE (ulid)
    )
    """,
    "CREATE INDEX ix_job_claim ON job (priority DESC, id) WHERE state = 'queued'",
    """
    CREATE TABLE attempt (
        job_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        worker VARCHAR NOT NULL,
        device VARCHAR NOT NULL,
        boot_id VARCHAR NOT NULL,
        pid INTEGER,
        start_ticks INTEGER,
        started_at FLOAT NOT NULL,
        finished_at FLOAT,
        state VARCHAR,
        reason VARCHAR,
        error VARCHAR,
        exit_code INTEGER,
        CONSTRAINT pk_attempt PRIMARY KEY (job_id, number),
        CONSTRAINT fk_attempt_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE event (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        job_id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        at FLOAT NOT NULL,
        kind VARCHAR NOT NULL,
        payload JSON NOT NULL,
        CONSTRAINT fk_event_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_event_job_id ON event (job_id)",
    """
    CREATE TABLE dependency (
        job_id INTEGER NOT NULL,
        parent_id INTEGER NOT NULL,
        CONSTRAINT pk_dependency PRIMARY KEY (job_id, parent_id),
        CONSTRAINT fk_dependency_job_id_job
            FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_dependency_parent_id ON dependency (parent_id)",
    """
    CREATE TABLE worker (
        id VARCHAR NOT NULL,
        device VARCHAR NOT NULL,
        device_name VARCHAR NOT NULL,
        pid INTEGER NOT NULL,
        host VARCHAR NOT NULL,
        started_at FLOAT NOT NULL,
        seen_at FLOAT NOT NULL,
        state VARCHAR NOT NULL,
        job_id INTEGER,
        CONSTRAINT pk_worker PRIMARY KEY (id),
        CONSTRAINT uq_worker_device UNIQUE (device)
    )
    """,
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
