"""Stores as earlier versions left them: their own tables, filled."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from obstui.specs import PruneSpec
from obstui.store.connection import APPLICATION_ID
from obstui.store.migrations.versions import v0001_baseline


def write_first(db: Path, *, jobs: int = 100, events: int = 10) -> None:
    """A store of schema 1 with `jobs` jobs: one paused, the others succeeded or queued by turns;
    each with an attempt, `events` events and, but for the first, a parent."""
    spec = json.dumps(PruneSpec().model_dump(mode="json"))
    with closing(sqlite3.connect(db)) as conn, conn:
        for statement in v0001_baseline._TABLES:
            conn.execute(statement)
        conn.executemany(
            "INSERT INTO job (ulid, kind, name, spec, spec_version, spec_hash, priority, state,"
            " desired, urgent, attempt, losses, version, created_at, finished_at)"
            " VALUES (?, 'prune', 'old', ?, 1, 'x', 0, ?, 'run', 0, 1, 0, 1, 1.0, ?)",
            [
                (f"U{n}", spec, state, 2.0 if state == "succeeded" else None)
                for n in range(jobs)
                for state in [("succeeded", "queued")[n % 2] if n else "paused"]
            ],
        )
        conn.executemany(
            "INSERT INTO attempt (job_id, number, worker, device, boot_id, started_at)"
            " VALUES (?, 1, 'w', 'cpu', 'b', 1.0)",
            [(n + 1,) for n in range(jobs)],
        )
        conn.executemany(
            "INSERT INTO event (job_id, attempt, at, kind, payload) VALUES (?, 1, 1.0, 'n', '{}')",
            [(n + 1,) for n in range(jobs) for _ in range(events)],
        )
        conn.executemany(
            "INSERT INTO dependency (job_id, parent_id) VALUES (?, 1)",
            [(n + 1,) for n in range(1, jobs)],
        )
        # Ids of removed rows must not come back after an update either.
        conn.execute("UPDATE sqlite_sequence SET seq = seq + 1000")
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute("PRAGMA user_version = 1")
    db.chmod(0o600)
