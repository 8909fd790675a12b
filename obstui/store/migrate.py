"""An older store brought up to date: one process, one transaction, a backup before it.

The schema's version is the file's `user_version`, which SQLite commits with the transaction; a
process that is killed on the way leaves the old schema, the whole of it.
"""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from obstui.config import Paths
from obstui.store import backup
from obstui.store.connection import check, in_words, sole_preparer, writer_engine
from obstui.store.errors import StoreError
from obstui.store.tables import SCHEMA_VERSION

_KEPT = ("job", "attempt", "event", "dependency", "worker")


def migrate(paths: Paths) -> None:
    """Bring the store to this version's schema; nothing to do if another process just has.

    Raises StoreError, the store as it was.
    """
    with sole_preparer(paths):
        version = check(paths.db)
        if version == SCHEMA_VERSION:
            return
        try:
            copy = backup.back_up(paths, f"schema{version}")
        except OSError as err:
            raise StoreError(
                f"The store {paths.db} needs an update, and no backup can be made first "
                f"({err.strerror}): free some space or permit writing, then try again."
            ) from err
        engine = writer_engine(paths.db, foreign_keys=False)
        try:
            with in_words(paths.db), engine.begin() as conn:
                _upgrade(conn, version, copy)
        finally:
            engine.dispose()


def _upgrade(conn: Connection, version: int, copy: Path) -> None:
    before = _counts(conn)
    # The file's user_version is the one truth about its schema, so alembic keeps no table.
    scripts = ScriptDirectory(str(Path(__file__).with_name("migrations")))
    steps = list(scripts.iterate_revisions(f"{SCHEMA_VERSION:04d}", f"{version:04d}"))
    with Operations.context(MigrationContext.configure(conn)):
        for step in reversed(steps):
            step.module.upgrade()
    dangling = conn.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if dangling or _counts(conn) != before:
        raise StoreError(
            f"The store's update from schema {version} to {SCHEMA_VERSION} would have lost rows: "
            f"nothing was changed, and a backup is at {copy}. Please report this."
        )
    conn.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _counts(conn: Connection) -> dict[str, int]:
    return {
        table: conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in _KEPT
    }
