"""Copies of the store that can be trusted, and the way back from one.

A copy is made by SQLite itself (VACUUM INTO) under another name and then renamed, so that whatever
stands in the folder is whole. Copying the live file by hand would tear it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import closing
from pathlib import Path

from obstui.config import Paths
from obstui.store.connection import (
    READER_WAITS,
    check,
    connect,
    in_words,
    sole_preparer,
    sync_folder,
)
from obstui.store.errors import NotFound, Refused, StoreError

KEEP_DAILY = 7
KEEP_AT_THE_END = 1
KEEP_BEFORE_UPDATES = 3
DAY = 24 * 3600.0

_NAME = re.compile(r"^\d{8}T\d{6}-(?P<why>[a-z0-9]+)\.db$")


def folder(db: Path) -> Path:
    """Where a store's backups are: next to it, under its own name."""
    return db.with_name(f"{db.name}.backups")


def backups(db: Path) -> list[Path]:
    """All backups of a store, newest first."""
    found = folder(db).iterdir() if folder(db).is_dir() else ()
    return sorted((path for path in found if _NAME.match(path.name)), reverse=True)


def is_backup(path: Path) -> bool:
    """Whether a file is itself a backup, of which there are no backups."""
    return path.parent.name.endswith(".backups") and bool(_NAME.match(path.name))


def back_up(paths: Paths, why: str = "daily") -> Path:
    """Copy the store (0600) and drop the oldest copies: 7 daily ones, that of a worker's last end
    and 3 from before updates stay. `why` ("daily", "end", else an update's word) is for the name.
    Raises StoreError, OSError."""
    where = folder(paths.db)
    where.mkdir(mode=0o700, exist_ok=True)
    for stale in where.glob(".*.new"):
        stale.unlink(missing_ok=True)  # of a process that was killed
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    copy = where / f"{stamp}-{why}.db"
    draft = where / f".{copy.name}.{os.getpid()}.new"
    # SQLite fills an empty file and keeps its mode; a file of its own making would be readable.
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with in_words(paths.db), closing(connect(paths.db, wait=READER_WAITS)) as conn:
            conn.execute("VACUUM INTO ?", (str(draft),))
        os.fsync(fd)
        os.rename(draft, copy)
    finally:
        os.close(fd)
        draft.unlink(missing_ok=True)
    sync_folder(where)
    _rotate(paths.db)
    return copy


def due(paths: Paths, now: float) -> bool:
    """Whether the newest daily backup is a day old, or there is none."""
    newest = next((p for p in backups(paths.db) if p.stem.endswith("-daily")), None)
    return newest is None or abs(now - newest.stat().st_mtime) >= DAY


def _rotate(db: Path) -> None:
    kept = {"daily": KEEP_DAILY, "end": KEEP_AT_THE_END, "update": KEEP_BEFORE_UPDATES}
    for path in backups(db):
        why = path.stem.partition("-")[2]
        why = why if why in kept else "update"
        kept[why] -= 1
        if kept[why] < 0:
            path.unlink(missing_ok=True)


def newest_good(db: Path) -> Path | None:
    """The newest backup that SQLite finds sound."""
    return next((path for path in backups(db) if fault(path) is None), None)


def fault(db: Path) -> str | None:
    """What is wrong with a store's file, by a full look at it; None if it is sound."""
    try:
        check(db)
        with in_words(db), closing(connect(db, wait=READER_WAITS)) as conn:
            conn.execute("PRAGMA query_only = ON")
            found = str(conn.execute("PRAGMA quick_check(1)").fetchone()[0])
            dangling = conn.execute("PRAGMA foreign_key_check").fetchone()
    except StoreError as err:
        return str(err)
    if found != "ok":
        return f"The store {db} is damaged ({found.splitlines()[-1]})."
    if dangling:
        return f"The store {db} is damaged (rows of {dangling[0]} belong to no {dangling[2]})."
    return None


def verify(paths: Paths) -> None:
    """A full look at the store, for a worker's start. Raises StoreError that names the newest good
    backup and how to go back to it; the file stays as it is."""
    wrong = fault(paths.db)
    if wrong is not None:
        raise StoreError(wrong if "obstui restore" in wrong else f"{wrong} {way_back(paths.db)}")


def way_back(db: Path) -> str:
    """The sentence that ends a report of damage."""
    good = newest_good(db)
    if good is None:
        return "There is no good backup of it: restore a copy of your own, or move it aside."
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(good.stat().st_mtime))
    return f"The newest good backup is of {made}: obstui restore {good}"


def _usable(db: Path, copy: Path) -> None:
    """Raises NotFound, Refused (not a sound backup)."""
    if not copy.is_file():
        raise NotFound(f"There is no backup {copy}: name a file from {folder(db)}.")
    wrong = fault(copy)
    if wrong is not None:
        raise Refused(f"The backup {copy} cannot be used: {wrong}")


def undone(db: Path, copy: Path) -> tuple[int, int]:
    """What a restore would undo of a store that is sound: how many jobs the backup does not know,
    and of how many it knows an earlier state. None of a damaged store: there is nothing to keep.
    Raises NotFound, Refused (not a sound backup), StoreError."""
    _usable(db, copy)
    if not db.exists() or fault(db) is not None:
        return 0, 0
    found: list[dict[str, int]] = []
    for file in (db, copy):
        with in_words(file), closing(connect(file, wait=READER_WAITS)) as conn:
            found.append(dict(conn.execute("SELECT ulid, version FROM job").fetchall()))
    now, then = found
    changed = sum(now[ulid] != then[ulid] for ulid in now.keys() & then.keys())
    return len(now.keys() - then.keys()), changed


def restore(paths: Paths, copy: Path) -> Path | None:
    """Put a backup in the store's place; the file that was there is set aside, its name returned.

    The caller makes sure that no worker runs. Raises NotFound, Refused (not a sound backup),
    StoreError, OSError.
    """
    _usable(paths.db, copy)
    aside = None
    with sole_preparer(paths):
        draft = paths.db.with_name(f".{paths.db.name}.new")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with in_words(copy), closing(connect(copy, wait=READER_WAITS)) as conn:
                conn.execute("VACUUM INTO ?", (str(draft),))
            os.fsync(fd)
        finally:
            os.close(fd)
        aside = _set_aside(paths.db)
        os.replace(draft, paths.db)
        sync_folder(paths.db.parent)
    return aside


def _set_aside(db: Path) -> Path | None:
    """Give the store's file a second name, so that there is a store at every moment: a process that
    found none would begin an empty queue. Its journal goes with it: neither may meet the other's
    file."""
    stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09d}"
    aside = db.with_name(f"{db.name}.set-aside-{stamp}")
    for trail in ("-journal", "-wal", "-shm"):
        there = db.with_name(db.name + trail)
        if there.exists():
            os.rename(there, aside.with_name(aside.name + trail))
    if not db.exists():
        return None
    os.link(db, aside)
    return aside
