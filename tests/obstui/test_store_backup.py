"""Backups: private, few, sound, and the way back from one."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import NotFound, Reader, Refused, Store, StoreError, backup


def fill(paths: Paths, jobs: int = 30) -> None:
    with Store.open(paths) as store:
        for n in range(jobs):
            store.enqueue(PruneSpec(name=f"{n} {'x' * 100}"))


def spoil(db: Path) -> None:
    """Another page's bytes in the middle: found by a full look only."""
    content = bytearray(db.read_bytes())
    middle = len(content) // 4096 // 2 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    db.write_bytes(content)


def test_a_backup_is_private_whole_and_equal(paths: Paths) -> None:
    before = os.umask(0)
    try:
        fill(paths)
        copy = backup.back_up(paths)
    finally:
        os.umask(before)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert backup.fault(copy) is None
    with Reader.open(Paths(paths.home, copy)) as reader:
        assert len(reader.jobs()) == 30
    assert [p.name for p in copy.parent.iterdir()] == [copy.name]


def test_a_backup_while_others_write(paths: Paths) -> None:
    fill(paths, 5)
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with Store.open(paths) as store:
                while not stop.is_set():
                    store.enqueue(PruneSpec())
        except BaseException as err:
            failures.append(err)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = {backup.back_up(paths, f"load{n}") for n in range(3)}
    finally:
        stop.set()
        writer.join()
    assert not failures
    assert len(copies) == 3
    assert all(backup.fault(copy) is None for copy in copies)


def test_few_are_kept_and_the_killed_ones_go(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(paths, 1)
    stamps = iter(f"202601{n:02d}T000000" for n in range(1, 32))
    monkeypatch.setattr(backup.time, "strftime", lambda *_: next(stamps))
    where = backup.folder(paths.db)
    where.mkdir()
    (where / ".20260101T000000-daily.db.1.new").write_bytes(b"half")
    (where / "mine.txt").write_text("not ours to delete")
    for _ in range(9):
        backup.back_up(paths)
    for n in range(5):
        backup.back_up(paths, f"schema{n}")
    names = sorted(path.name for path in where.iterdir())
    assert names == sorted(
        [f"202601{n:02d}T000000-daily.db" for n in range(3, 10)]
        + [f"202601{n:02d}T000000-schema{n - 10}.db" for n in range(12, 15)]
        + ["mine.txt"]
    )


def test_when_a_daily_one_is_due(paths: Paths) -> None:
    fill(paths, 1)
    made = backup.back_up(paths, "schema1").stat().st_mtime
    assert backup.due(paths, made)
    made = backup.back_up(paths).stat().st_mtime
    assert not backup.due(paths, made + 3600)
    assert backup.due(paths, made + 25 * 3600)
    assert backup.due(paths, made - 25 * 3600)  # the clock was set back


def test_a_damaged_store_names_the_newest_good_backup(paths: Paths) -> None:
    fill(paths)
    good = backup.back_up(paths, "older")
    os.rename(good, good := good.with_name("20200101T000000-daily.db"))
    spoil(bad := backup.back_up(paths))
    spoil(paths.db)
    before = paths.db.read_bytes()
    with pytest.raises(StoreError) as refusal:
        backup.verify(paths)
    assert f"obstui restore {good}" in str(refusal.value)
    assert str(bad) not in str(refusal.value)
    assert paths.db.read_bytes() == before
    os.truncate(paths.db, 0)
    with pytest.raises(StoreError, match=f"obstui restore {good}"):
        Store.open(paths)
    assert paths.db.stat().st_size == 0  # and not a new, empty queue


def test_restoring_sets_the_damaged_file_aside(paths: Paths) -> None:
    fill(paths)
    good = backup.back_up(paths)
    fill(paths, 5)
    spoil(paths.db)
    damaged = paths.db.read_bytes()
    aside = backup.restore(paths, good)
    assert aside is not None
    assert aside.read_bytes() == damaged
    backup.verify(paths)
    assert stat.S_IMODE(paths.db.stat().st_mode) == 0o600
    with Reader.open(paths) as reader:
        assert len(reader.jobs()) == 30


def test_a_restore_that_is_cut_short_leaves_a_store(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(paths)
    good = backup.back_up(paths)
    spoil(paths.db)
    damaged = paths.db.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        backup.restore(paths, good)
    assert paths.db.read_bytes() == damaged
    monkeypatch.undo()
    backup.restore(paths, good)
    backup.verify(paths)


def test_what_is_no_good_backup_is_not_restored(paths: Paths) -> None:
    fill(paths)
    spoil(bad := backup.back_up(paths))
    before = paths.db.read_bytes()
    with pytest.raises(Refused, match="cannot be used"):
        backup.restore(paths, bad)
    with pytest.raises(NotFound, match="There is no backup"):
        backup.restore(paths, paths.home / "nothing.db")
    assert paths.db.read_bytes() == before
