"""Older stores, brought up to date: nothing lost, by one process, old or new and no mixture."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Reader, Store, StoreError, backup, migrate
from obstui.store.migrations.versions import v0002_overnight
from obstui.store.tables import SCHEMA_VERSION
from tests.obstui.old_stores import write_first

Spawn = Callable[..., "subprocess.Popen[str]"]
TABLES = ("job", "attempt", "event", "dependency", "worker")


def ask(db: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(db)) as conn:
        return conn.execute(statement).fetchall()


def counts(db: Path) -> dict[str, int]:
    return {table: ask(db, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


def shape(db: Path) -> dict[str, Any]:
    """Columns, indexes, foreign keys, CHECKs and counters, without the order of the columns."""
    found: dict[str, Any] = {"version": ask(db, "PRAGMA user_version")}
    for name, sql in ask(db, "SELECT name, sql FROM sqlite_master WHERE type = 'table'"):
        found[name] = (
            sorted(row[1:] for row in ask(db, f"PRAGMA table_info({name})")),
            sorted(row[1:] for row in ask(db, f"PRAGMA index_list({name})")),
            sorted(row[2:] for row in ask(db, f"PRAGMA foreign_key_list({name})")),
            (sql or "").count("CHECK"),
            "AUTOINCREMENT" in (sql or ""),
        )
    indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    found["indexes"] = sorted((name, " ".join(sql.split())) for name, sql in ask(db, indexes))
    return found


def test_an_updated_store_is_as_a_fresh_one(paths: Paths) -> None:
    write_first(paths.db, jobs=10_000, events=10)
    before = counts(paths.db)
    with Store.open(paths) as store:
        assert counts(paths.db) == before
        assert store.enqueue(PruneSpec()).id == 11_001  # ids go on where they were
    fresh = Paths(paths.home / "fresh", paths.home / "fresh" / "jobs.db")
    Store.open(fresh).close()
    assert shape(paths.db) == shape(fresh.db)
    assert ask(paths.db, "PRAGMA integrity_check") == [("ok",)]
    assert ask(paths.db, "PRAGMA foreign_key_check") == []
    [copy] = backup.backups(paths.db)
    assert counts(copy) == before
    assert ask(copy, "PRAGMA user_version") == [(1,)]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700


def test_a_reader_updates_too_and_then_reads(paths: Paths) -> None:
    write_first(paths.db, jobs=6)
    with Reader.open(paths) as reader:
        assert [job.id for job in reader.jobs()] == [6, 5, 4, 3, 2, 1]
        assert reader.jobs()[0].window is None
    assert ask(paths.db, "PRAGMA user_version") == [(SCHEMA_VERSION,)]


HALF_WAY = """
import sys
from pathlib import Path
from alembic.operations import Operations
from obstui.config import Paths
from obstui.store import Store
home, stop_at = Path(sys.argv[1]), int(sys.argv[2])
execute, done = Operations.execute, 0
def counting(self, *args, **kwargs):
    global done
    execute(self, *args, **kwargs)
    done += 1
    if done == stop_at:
        print("there", flush=True)
        sys.stdin.read()
Operations.execute = counting
Store.open(Paths(home, home / "jobs.db"))
print("over", flush=True)
"""


@pytest.mark.parametrize("step", [1, 4, 7, len(v0002_overnight._CHANGES)])
def test_killed_on_the_way_it_is_the_old_store(spawn: Spawn, paths: Paths, step: int) -> None:
    write_first(paths.db, jobs=300)
    before, old = counts(paths.db), shape(paths.db)
    process = spawn(HALF_WAY, paths.home, str(step))
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n", process.communicate()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert shape(paths.db) == old
    assert counts(paths.db) == before
    with Store.open(paths):
        assert ask(paths.db, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
        assert counts(paths.db) == before


AT_ONCE = """
import os, sys
from pathlib import Path
from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Store
home = Path(sys.argv[1])
gate, opener = os.pipe()
children = []
for n in range(6):
    children.append(os.fork())
    if not children[-1]:
        os.close(opener)
        os.read(gate, 1)
        try:
            Store.open(Paths(home, home / "jobs.db")).enqueue(PruneSpec(name=f"new {n}"))
        except BaseException as err:
            print(repr(err), flush=True)
            os._exit(1)
        os._exit(0)
os.close(opener)
os.close(gate)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
"""


def test_six_processes_update_once(spawn: Spawn, paths: Paths) -> None:
    write_first(paths.db, jobs=200)
    process = spawn(AT_ONCE, paths.home)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert len(backup.backups(paths.db)) == 1
    assert counts(paths.db)["job"] == 206


def test_an_update_that_would_lose_rows_changes_nothing(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_first(paths.db, jobs=20)
    found = iter((20, 19))
    monkeypatch.setattr(migrate, "_counts", lambda conn: {"job": next(found)})
    old = shape(paths.db)
    with pytest.raises(StoreError, match=r"would have lost rows.*a backup is at"):
        Store.open(paths)
    assert shape(paths.db) == old


def test_the_command_line_refuses_a_newer_store_in_one_sentence(paths: Paths) -> None:
    with Store.open(paths) as store:
        store.enqueue(PruneSpec())
    with closing(sqlite3.connect(paths.db)) as conn:
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = paths.db.read_bytes()
    for command in (["ls"], ["prune"], ["cancel", "1"]):
        done = subprocess.run(
            [sys.executable, "-m", "obstui", "--db", str(paths.db), *command],
            capture_output=True,
            text=True,
            env={"OBSTUI_HOME": str(paths.home)},
            check=False,
        )
        assert done.returncode == 4
        assert done.stdout == ""
        assert "written by a newer obstui" in done.stderr
        assert done.stderr.count("\n") == 1
    assert paths.db.read_bytes() == before
