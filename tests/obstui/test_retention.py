"""What gc takes, and above all what it leaves."""

from __future__ import annotations

import os
from pathlib import Path

from obstui.config import Paths
from obstui.retention import DAY, Limits, find_waste, remove
from obstui.specs import PruneSpec
from obstui.store import Reader, Store
from tests.obstui.conftest import Clock


def written(path: Path, size: int, at: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (at, at))
    os.utime(path.parent, (at, at))
    return path


def end(store: Store, state: str) -> None:
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.started(claim, 1, 2)
    if state == "running":
        return
    if state == "paused":
        store.pause(claim.job_id)
    store.finish(claim, state)


def files(paths: Paths, ulid: str, at: float) -> dict[str, Path]:
    return {
        "work": written(paths.work(ulid) / "solved" / "x", 100, at),
        "log": written(paths.log(ulid, 1), 10, at),
        "output": written(paths.output(ulid) / "x.png", 1000, at),
    }


def test_only_what_no_job_needs(store: Store, reader: Reader, paths: Paths, clock: Clock) -> None:
    old = clock.now
    kept: dict[str, dict[str, Path]] = {}
    for state in ("succeeded", "failed", "paused", "running"):
        job = store.enqueue(PruneSpec())
        end(store, state)
        kept[state] = files(paths, job.ulid, old)
    waiting = store.enqueue(PruneSpec())
    kept["queued"] = files(paths, waiting.ulid, old)
    hessian = written(paths.hessians / "abc" / "H", 500, old)
    foreign = written(paths.home / "jobs" / ("0" * 26) / "output" / "x", 50, old)
    os.utime(foreign.parents[1], (old, old))
    mine = written(paths.home / "jobs" / "my notes" / "x", 50, old)

    now = old + DAY
    found = find_waste(reader, paths, now=now)
    assert {item.path for item in found} == {paths.work(reader.jobs()[-1].ulid)}
    now = old + 400 * DAY
    gone = {item.path for item in remove(reader, find_waste(reader, paths, now=now))}
    assert gone == {
        kept["succeeded"]["work"].parents[1], kept["succeeded"]["log"],
        kept["failed"]["work"].parents[1], kept["failed"]["log"],
    }  # fmt: skip
    for state in ("paused", "running", "queued"):
        assert all(path.exists() for path in kept[state].values())
    assert all(files["output"].exists() for files in kept.values())
    # Hessians stay while a prune runs or is paused, folders of no job until somebody says so.
    assert hessian.exists()
    assert foreign.exists()
    found = find_waste(reader, paths, now=now, orphans=True)
    assert [item.path for item in remove(reader, found)] == [foreign.parents[1]]
    assert mine.exists()


def test_hessians_by_age_and_by_size(reader: Reader, paths: Paths, clock: Clock) -> None:
    now = clock.now
    for name, days in (("old", 40), ("middle", 10), ("new", 5), ("fresh", 1)):
        written(paths.hessians / name / "H", 100, now - days * DAY)
    (paths.hessians / "link").symlink_to(paths.home / "jobs")
    found = find_waste(reader, paths, now=now)
    assert [item.path.name for item in found] == ["old"]
    small = Limits(hessians_total=150)
    found = find_waste(reader, paths, now=now, limits=small)
    assert [item.path.name for item in found] == ["old", "middle", "new"]
    found = find_waste(reader, paths, now=now, limits=Limits(hessians_total=0))
    assert [item.path.name for item in found] == ["old", "middle", "new"]  # fresh is at rest


def test_logs_in_total_the_oldest_go_first(
    store: Store, reader: Reader, paths: Paths, clock: Clock
) -> None:
    for n in range(4):
        job = store.enqueue(PruneSpec())
        end(store, "failed")
        written(paths.log(job.ulid, 1), 100, clock.now + n)
    found = find_waste(reader, paths, now=clock.now + DAY, limits=Limits(logs_total=250))
    assert [item.job_id for item in found] == [1, 2]


def test_a_job_that_was_queued_again_meanwhile_keeps_its_work(
    store: Store, reader: Reader, paths: Paths, clock: Clock
) -> None:
    job = store.enqueue(PruneSpec())
    end(store, "failed")
    work = files(paths, job.ulid, clock.now)["work"]
    found = find_waste(reader, paths, now=clock.now + 400 * DAY)
    store.retry(job.id)
    assert list(remove(reader, found)) == []
    assert work.exists()


def test_links_are_not_followed(
    store: Store, reader: Reader, paths: Paths, clock: Clock, tmp_path: Path
) -> None:
    precious = written(tmp_path / "precious" / "1" / "log.txt", 10, clock.now)
    job = store.enqueue(PruneSpec())
    end(store, "succeeded")
    paths.job(job.ulid).mkdir(parents=True)
    paths.work(job.ulid).symlink_to(precious.parents[1])
    (paths.job(job.ulid) / "attempts").symlink_to(precious.parents[1])
    list(remove(reader, find_waste(reader, paths, now=clock.now + 400 * DAY, orphans=True)))
    assert precious.exists()
