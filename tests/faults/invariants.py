"""What must be true of a store at any moment, asked behind the store's back."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from obstui.config import Paths
from obstui.store.reader import held

QUESTIONS = {
    "two live attempts of one job": """
        SELECT job_id FROM attempt WHERE finished_at IS NULL GROUP BY job_id HAVING count(*) > 1""",
    "two live jobs on one device": """
        SELECT device FROM job WHERE state IN ('starting', 'running', 'pausing', 'cancelling')
        GROUP BY device HAVING count(*) > 1""",
    "a finished job with an open attempt": """
        SELECT job.id FROM job JOIN attempt ON job_id = job.id
        WHERE job.finished_at IS NOT NULL AND attempt.finished_at IS NULL""",
    "a job that failed without a reason": """
        SELECT id FROM job WHERE reason IS NULL AND state IN ('failed', 'skipped', 'quarantined')
        """,
    "a job that succeeded twice": """
        SELECT job_id FROM event WHERE kind = 'state' AND payload ->> 'to' = 'succeeded'
        GROUP BY job_id HAVING count(*) > 1""",
    "a child that started before its parent succeeded": """
        SELECT job.id FROM job JOIN dependency ON job_id = job.id JOIN job AS parent
        ON parent.id = parent_id WHERE parent.state <> 'succeeded'
        AND job.state IN ('starting', 'running', 'pausing', 'cancelling', 'succeeded')""",
    "a broken reference": "PRAGMA foreign_key_check",
}


def violations(paths: Paths) -> list[str]:
    """Every broken invariant, in words; one transaction, so that no answer is torn."""
    found = []
    with closing(sqlite3.connect(paths.db, timeout=30)) as conn:
        conn.execute("BEGIN")
        for what, question in QUESTIONS.items():
            if rows := conn.execute(question).fetchall():
                found.append(f"{what}: {rows[:5]}")
        live = conn.execute(
            "SELECT id, device FROM job WHERE state IN ('starting', 'running', 'pausing')"
        ).fetchall()
        conn.execute("COMMIT")
        (sound,) = conn.execute("PRAGMA quick_check").fetchone()
    if sound != "ok":
        found.append(f"a damaged file: {sound}")
    # A worker that died a moment ago leaves its row until the next has recovered it.
    unowned = [job for job, device in live if not held(paths.lock(device))]
    if len(unowned) > len({device for _, device in live}):
        found.append(f"running without a worker: {unowned}")
    return found
