"""The file itself: made whole and private, and refused untouched when it is not ours to write."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Reader, Store, StoreError, connection

Spawn = Callable[..., "subprocess.Popen[str]"]


def fill(store: Store, jobs: int = 40) -> None:
    for n in range(jobs):
        store.enqueue(PruneSpec(name=f"{n} {'x' * 100}"))


def newer(paths: Paths) -> None:
    with closing(sqlite3.connect(paths.db)) as conn:
        conn.execute("PRAGMA user_version = 99")


def another_programs(paths: Paths) -> None:
    paths.db.unlink()
    with closing(sqlite3.connect(paths.db)) as conn:
        conn.execute("CREATE TABLE bookmarks (url)")


def a_folder(paths: Paths) -> None:
    paths.db.unlink()
    paths.db.mkdir()


SPOILT: dict[str, tuple[Callable[[Paths], object], str]] = {
    "newer": (newer, "newer obstui"),
    "foreign": (another_programs, "another program's"),
    "garbage": (lambda p: p.db.write_bytes(b"\x00\xffgarbage" * 900), "not an obstui store"),
    "text": (lambda p: p.db.write_text("jobs: none\n"), "not an obstui store"),
    "empty": (lambda p: p.db.write_bytes(b""), "empty"),
    "half": (lambda p: os.truncate(p.db, p.db.stat().st_size // 8192 * 4096), "damaged"),
    "torn page": (lambda p: os.truncate(p.db, p.db.stat().st_size - 100), "cut short"),
    "header": (lambda p: os.truncate(p.db, 60), "store"),
    "first page": (lambda p: os.truncate(p.db, 4096), "damaged"),
    "folder": (a_folder, "not a file"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_bad_file_is_refused_and_left_as_it_is(paths: Paths, how: str) -> None:
    with Store.open(paths) as store:
        fill(store)
    spoil, words = SPOILT[how]
    spoil(paths)
    before = paths.db.read_bytes() if paths.db.is_file() else None
    for open_it in (Store.open, Reader.open):
        with pytest.raises(StoreError) as refusal:
            open_it(paths)
        assert words in str(refusal.value)
        assert str(paths.db) in str(refusal.value)
        assert str(refusal.value).endswith(".")
    assert (paths.db.read_bytes() if paths.db.is_file() else None) == before


def test_a_reader_never_makes_a_store(paths: Paths) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        Reader.open(paths)
    assert not paths.db.exists()


def test_the_journal_of_a_lost_store_is_not_played_into_a_new_one(paths: Paths) -> None:
    journal = paths.db.with_name("jobs.db-journal")
    journal.write_bytes(b"left")
    with pytest.raises(StoreError, match=r"jobs\.db-journal is still there"):
        Store.open(paths)
    assert not paths.db.exists()
    journal.write_bytes(b"")  # what TRUNCATE leaves behind is harmless
    Store.open(paths).close()


def test_what_a_killed_creation_left_is_cleared(paths: Paths) -> None:
    draft = paths.db.with_name(".jobs.db.new")
    draft.write_bytes(b"half")
    draft.with_name(draft.name + "-journal").write_bytes(b"half")
    with Store.open(paths) as store:
        assert store.enqueue(PruneSpec()).id == 1
    assert sorted(p.name for p in paths.db.parent.glob(".*")) == []


def test_the_file_is_private(paths: Paths) -> None:
    before = os.umask(0)
    try:
        with Store.open(paths) as store:
            store.enqueue(PruneSpec())
            files = list(paths.db.parent.glob("jobs.db*"))
            assert paths.db in files
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)


CREATE_AT_ONCE = """
import os, sys
from pathlib import Path
from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import Store
for turn in range(4):
    home = Path(sys.argv[1]) / str(turn)
    paths = Paths(home, home / "jobs.db")
    gate, opener = os.pipe()
    children = []
    for n in range(6):
        children.append(os.fork())
        if not children[-1]:
            os.close(opener)
            os.read(gate, 1)
            try:
                Store.open(paths).enqueue(PruneSpec(name=str(n)))
            except BaseException as err:
                print(repr(err), flush=True)
                os._exit(1)
            os._exit(0)
    os.close(opener)
    os.close(gate)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
"""


def test_six_processes_may_create_it_at_once(spawn: Spawn, paths: Paths) -> None:
    process = spawn(CREATE_AT_ONCE, paths.home)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    for turn in range(4):
        home = paths.home / str(turn)
        with Reader.open(Paths(home, home / "jobs.db")) as reader:
            assert sorted(job.name for job in reader.jobs()) == list("012345")


def test_a_creation_that_hangs_is_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITER_WAITS", 0.1)
    fd = os.open(paths.home / "locks" / "store.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(StoreError, match="preparing the store"):
            Store.open(paths)
    finally:
        os.close(fd)


def test_a_store_locked_by_another_says_so_and_recovers(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITER_WAITS", 0.1)
    with Store.open(paths) as store, closing(sqlite3.connect(paths.db)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is busy"):
            store.enqueue(PruneSpec())
        other.rollback()
        assert store.enqueue(PruneSpec()).id == 1
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM job").fetchone()
        with pytest.raises(StoreError, match="is busy"):  # this time at the commit
            store.enqueue(PruneSpec())
        other.rollback()
        assert store.enqueue(PruneSpec()).id == 2


def test_a_full_disk_says_so(paths: Paths) -> None:
    with Store.open(paths) as store:
        with store._read() as conn:
            pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
            conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="No space is left"):
            fill(store)
        with store._read() as conn:
            conn.exec_driver_sql("PRAGMA max_page_count = 100000")
        store.enqueue(PruneSpec())


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 46, 1), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_only_where_it_is_safe(version: tuple[int, int, int], safe: bool) -> None:
    assert connection.wal_is_safe(version) is safe


def journal_mode(paths: Paths) -> str:
    with closing(sqlite3.connect(paths.db)) as conn:
        return str(conn.execute("PRAGMA journal_mode").fetchone()[0])


def test_the_journal_mode_follows_the_library(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "wal_is_safe", lambda version: True)
    store = Store.open(paths)
    store.enqueue(PruneSpec())
    assert journal_mode(paths) == "wal"

    # The file then meets a library that could corrupt it: refused while another has it open.
    monkeypatch.setattr(connection, "wal_is_safe", lambda version: False)
    monkeypatch.setattr(connection, "WRITER_WAITS", 0.1)
    with pytest.raises(StoreError, match="in WAL mode"):
        Store.open(paths)
    store.close()
    with Store.open(paths) as store:
        assert store.enqueue(PruneSpec()).id == 2
        assert journal_mode(paths) != "wal"

    # And never the other way by itself.
    monkeypatch.setattr(connection, "wal_is_safe", lambda version: True)
    Store.open(paths).close()
    assert journal_mode(paths) != "wal"


def test_writers_are_durable_and_readers_cannot_write(paths: Paths) -> None:
    with Store.open(paths) as store, store._read() as conn:
        pragmas = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("synchronous", "foreign_keys", "busy_timeout")
        }
        assert pragmas == {"synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    with (
        Reader.open(paths) as reader,
        pytest.raises(StoreError, match="readonly"),
        reader._read() as conn,
    ):
        conn.exec_driver_sql("DELETE FROM job")


MOUNTS = """\
22 1 254:0 / / rw - ext4 /dev/vda rw
23 22 0:40 / /home rw shared:1 - nfs4 server:/home rw
24 23 0:41 / /home/me/local\\040disk rw - xfs /dev/sdb rw
25 22 0:42 / /mnt rw - ext4 /dev/sdc rw
26 22 0:43 / /mnt rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/homestead", "ext4"),
        ("/home/me/local disk/x", "xfs"),
        ("/mnt/x", "fuse.sshfs"),
    ],
)
def test_the_filesystem_below(folder: str, kind: str) -> None:
    assert connection.filesystem_type(Path(folder), MOUNTS) == kind


def test_network_filesystems_are_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "filesystem_type", lambda path: "nfs4")
    with pytest.raises(StoreError, match=r"network filesystem \(nfs4\).*OBSTUI_HOME"):
        Store.open(paths)
    assert not paths.db.exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "state"
    with pytest.raises(StoreError, match="OBSTUI_HOME"):
        Store.open(Paths(home, home / "jobs.db"))


@pytest.mark.parametrize(
    "name", ["jobs?mode=memory#1.db", "50% done.db", "файл 絵.db", "a'b\"c.db"]
)
def test_hostile_file_names(paths: Paths, name: str) -> None:
    odd = Paths(paths.home, paths.home / name)
    with Store.open(odd) as store, Reader.open(odd) as reader:
        store.enqueue(PruneSpec())
        assert len(reader.jobs()) == 1
    assert odd.db.is_file()
