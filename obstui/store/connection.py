"""Connections to the SQLite file: how it is created, which files are refused, and the pragmas."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, ProgrammingError
from sqlalchemy.pool import QueuePool

from obstui.config import Paths, UnusableFolder
from obstui.store.errors import StoreError
from obstui.store.tables import SCHEMA_VERSION, metadata

APPLICATION_ID = 0x6F627374  # "obst": tells our files from every other SQLite file
OLDEST_SQLITE = (3, 35, 0)  # the claim needs RETURNING
WRITER_WAITS = 30.0
READER_WAITS = 5.0
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.ceph", "lustre"}
    | {"gpfs", "beegfs", "fuse.sshfs", "fuse.rclone", "fuse.glusterfs", "fuse.s3fs", "fuse.davfs2"}
)


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite is free of the WAL-reset race that corrupts files shared by processes."""
    return (
        version >= (3, 51, 3)
        or (3, 50, 7) <= version < (3, 51, 0)
        or (3, 44, 6) <= version < (3, 45, 0)
    )


def filesystem_type(path: Path, mountinfo: str | None = None) -> str | None:
    """The type of the filesystem that holds `path`; None where the kernel does not tell."""
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return None
    real = Path(os.path.realpath(path))
    best, found = -1, None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        # The kernel writes blanks and backslashes in mount points as octal escapes.
        mount = left.split(" ")[4]
        for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            mount = mount.replace(code, char)
        # Of two mounts on one point the later hides the earlier.
        if real.is_relative_to(mount) and len(mount) >= best:
            best, found = len(mount), right.split(" ")[0]
    return found


def connect(db: Path, *, wait: float) -> sqlite3.Connection:
    """A bare connection without pragmas; it begins no transaction by itself."""
    # mode=rw: a store is created on purpose, never by connecting to it.
    return sqlite3.connect(
        f"{db.as_uri()}?mode=rw",
        uri=True,
        timeout=wait,
        isolation_level=None,
        check_same_thread=False,
    )


def _sentence(db: Path, err: BaseException) -> str:
    what = str(err)
    if "locked" in what or "busy" in what:
        return f"The store {db} is busy: another program holds its lock; try again in a moment."
    if "not a database" in what:
        mend = f" {_way_back(db)}" if _has_backups(db) else ""
        return (
            f"{db} is not an obstui store (not an SQLite file): name another file with --db.{mend}"
        )
    if "malformed" in what:
        return f"The store {db} is damaged ({what}). {_way_back(db)}"
    if "full" in what:
        return f"No space is left for the store {db}: free some on that disk."
    if "readonly" in what or "unable to open" in what:
        return f"Cannot open the store {db} ({what}): check who may read and write it."
    return f"The store {db} cannot be used: {what}."


def _has_backups(db: Path) -> bool:
    from obstui.store.backup import backups

    return bool(backups(db))


def _way_back(db: Path) -> str:
    from obstui.store.backup import is_backup, way_back

    return "" if is_backup(db) else way_back(db)


@contextmanager
def in_words(db: Path) -> Iterator[None]:
    """SQLite's troubles as StoreError. Programming errors stay what they are."""
    try:
        yield
    except (IntegrityError, ProgrammingError, InterfaceError):
        raise
    except DBAPIError as err:
        raise StoreError(_sentence(db, err.orig or err)) from err
    except sqlite3.Error as err:
        raise StoreError(_sentence(db, err)) from err


def check(db: Path) -> int:
    """The schema's version. Refuse a file that is no store, or a newer version's, leaving its bytes
    alone.

    The file is looked at through SQLite only: to open and close it by hand would drop the locks
    that another connection of this process may hold on it. Raises StoreError.
    """
    if not db.exists():
        raise StoreError(f"There is no store {db} yet: queue a job, or name another with --db.")
    if not db.is_file():
        raise StoreError(f"The store {db} is not a file: name another with --db.")
    if db.stat().st_size == 0:
        raise StoreError(f"The store {db} is empty (0 bytes). {_way_back(db)}")
    with in_words(db), closing(connect(db, wait=READER_WAITS)) as conn:
        conn.execute("PRAGMA query_only = ON")
        conn.execute("BEGIN")
        tables = conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application, version, page = (
            conn.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "page_size")
        )
        torn = db.stat().st_size % page != 0
    if torn or not tables:
        raise StoreError(f"The store {db} is cut short. {_way_back(db)}")
    if application != APPLICATION_ID:
        raise StoreError(f"{db} is another program's database: name another file with --db.")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"The store {db} was written by a newer obstui (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): update obstui, or name another store with --db."
        )
    return int(version)


def _refuse_surroundings(db: Path) -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(
            f"This Python brings SQLite {sqlite3.sqlite_version}: obstui needs 3.35 or newer."
        )
    kind = filesystem_type(db.parent)
    if kind in NETWORK_FILESYSTEMS:
        raise StoreError(
            f"The store {db} would be on a network filesystem ({kind}), where locks cannot be "
            "trusted: set OBSTUI_HOME (or --db) to a local disk."
        )


@contextmanager
def sole_preparer(paths: Paths) -> Iterator[None]:
    """Only one process at a time makes, updates or restores a store; others wait for it."""
    path = paths.home / "locks" / "store.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + WRITER_WAITS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"Another program has been preparing the store for {WRITER_WAITS:.0f} s "
                        f"(it holds {path}): end it, then try again."
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def create(paths: Paths) -> None:
    """Make the store if there is none: whole under another name, then renamed into place, so that
    no kill leaves a half-made one. Raises StoreError."""
    db = paths.db
    with sole_preparer(paths):
        if db.exists():
            return
        for trail in ("-journal", "-wal"):
            left = db.with_name(db.name + trail)
            if left.exists() and left.stat().st_size:
                # SQLite would play it back into the new store.
                raise StoreError(
                    f"The store {db} is gone but its {left.name} is still there: "
                    "put the store back, or move that file away."
                )
        draft = db.with_name(f".{db.name}.new")
        for trail in ("", "-journal", "-wal", "-shm"):
            draft.with_name(draft.name + trail).unlink(missing_ok=True)
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with in_words(db):
            _fill(draft)
        os.rename(draft, db)
        draft.with_name(draft.name + "-journal").unlink(missing_ok=True)
        sync_folder(db.parent)


def sync_folder(folder: Path) -> None:
    """Names in a folder are on disk only once the folder itself is."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _fill(draft: Path) -> None:
    engine = writer_engine(draft)
    with engine.begin() as conn:
        metadata.create_all(conn)
        conn.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    engine.dispose()
    if wal_is_safe(sqlite3.sqlite_version_info):
        with closing(connect(draft, wait=WRITER_WAITS)) as conn:
            conn.execute("PRAGMA journal_mode = WAL")


def _engine(connect: Callable[[], sqlite3.Connection]) -> Engine:
    # One connection each: the pool makes a second thread wait instead of sharing it.
    return create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=1, max_overflow=0
    )


def _set_journal(conn: sqlite3.Connection, db: Path) -> None:
    """WAL is a property of the file, kept where this SQLite handles it safely; else TRUNCATE, which
    is not stored and must be set on every connection."""
    wal = conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    if wal and wal_is_safe(sqlite3.sqlite_version_info):
        return
    try:
        conn.execute("PRAGMA journal_mode = TRUNCATE")
    except sqlite3.OperationalError as err:
        conn.close()
        if not wal:
            raise
        raise StoreError(
            f"The store {db} is in WAL mode, in which SQLite {sqlite3.sqlite_version} may damage "
            "it, and another program has it open: close that, then try again."
        ) from err


def writer_engine(db: Path, *, foreign_keys: bool = True) -> Engine:
    """Durable, and every transaction takes the write lock at its beginning. Without foreign keys
    (for updates of the schema) the deletion of a parent's row leaves its children alone."""

    def opened() -> sqlite3.Connection:
        conn = connect(db, wait=WRITER_WAITS)
        _set_journal(conn, db)
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        conn.execute("PRAGMA journal_size_limit = 67108864")
        return conn

    engine = _engine(opened)

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        if not conn.get_execution_options().get("reads"):
            conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(db: Path) -> Engine:
    """Cannot write, and holds no transaction: every statement sees the newest commit."""

    def opened() -> sqlite3.Connection:
        conn = connect(db, wait=READER_WAITS)
        # Not mode=ro: that could not roll back the journal of a writer that was killed.
        conn.execute("PRAGMA query_only = ON")
        return conn

    return _engine(opened)


BATCH = 100
"""Calls in one `Access.together`: enough that the disk is not waited for a thousand times, few
enough that a worker that wants to write does not wait long."""


class Access:
    """One connection to the store, with SQLite's errors put into words."""

    def __init__(self, paths: Paths, engine: Engine, clock: Callable[[], float]) -> None:
        self.paths = paths
        self._engine = engine
        self._clock = clock
        self._whole: Connection | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Commit the calls inside as one, because every commit waits for the disk. A call that
        raises undoes only what it did itself. Keep it short: other writers wait."""
        with in_words(self.paths.db), self._engine.begin() as self._whole:
            try:
                yield
            finally:
                self._whole = None

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """One short transaction; committed when the block ends, undone when it raises."""
        if self._whole is not None:
            with in_words(self.paths.db), self._whole.begin_nested():
                yield self._whole
            return
        with in_words(self.paths.db), self._engine.begin() as conn:
            yield conn

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """Single statements without a transaction; fetch every result whole."""
        if self._whole is not None:
            yield self._whole
            return
        with in_words(self.paths.db), self._engine.connect() as conn:
            yield conn.execution_options(reads=True)

    def wait_at_most(self, seconds: float) -> None:
        """From now on a store that is busy holds a call up for so long only."""
        with self._read() as conn:
            conn.exec_driver_sql(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    def close(self) -> None:
        """Give the connection back to the system; the object is of no further use."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def prepare(paths: Paths) -> None:
    """A store that this process may write to, made if there was none. Raises StoreError."""
    _ensure(paths)
    _refuse_surroundings(paths.db)
    try:
        if not paths.db.exists():
            create(paths)
    except OSError as err:
        raise StoreError(f"Cannot make the store {paths.db}: {err.strerror}.") from err
    if not os.access(paths.db, os.W_OK):
        check(paths.db)
        raise StoreError(f"Cannot write to the store {paths.db}: check who owns it.")
    bring_up_to_date(paths)


def _ensure(paths: Paths) -> None:
    try:
        paths.ensure()
    except UnusableFolder as err:
        raise StoreError(str(err)) from err


def bring_up_to_date(paths: Paths) -> None:
    """Check the file, and update the schema of an older version's. Raises StoreError."""
    if check(paths.db) < SCHEMA_VERSION:
        from obstui.store.migrate import migrate  # alembic takes its time, and is seldom needed

        _ensure(paths)
        migrate(paths)
