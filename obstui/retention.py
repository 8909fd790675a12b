"""What may go: finished jobs' work, old logs, Hessians that nobody has used for long.

Results are never among it: variants and pictures go with `obstui rm` only.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from obstui.config import Paths
from obstui.report import tree_bytes
from obstui.store import JobView, Reader, Store

DAY = 86400.0
_ULID = re.compile(r"^[0-9A-HJKMNP-TV-Z]{26}$")


@dataclass(frozen=True, slots=True)
class Limits:
    """Ages in seconds, sizes in bytes. Work of a job that did not succeed stays for a retry;
    Hessians used within `hessians_rest` stay whatever they take."""

    work_age: float = 14 * DAY
    log_age: float = 30 * DAY
    logs_total: int = 2 << 30
    hessians_age: float = 30 * DAY
    hessians_total: int = 50 << 30
    hessians_rest: float = 2 * DAY
    orphan_age: float = DAY


@dataclass(frozen=True, slots=True)
class Waste:
    """A file or folder that may go; `job_id` is the finished job that it belongs to, if any."""

    path: Path
    bytes: int
    why: str
    job_id: int | None = None


def find_waste(
    reader: Reader, paths: Paths, *, now: float, limits: Limits | None = None, orphans: bool = False
) -> list[Waste]:
    """What may go now. With `orphans` also folders of no job in this store: another store with the
    same state folder may own them, so that is for people to say. Raises StoreError."""
    limits = limits or Limits()
    jobs = reader.jobs(limit=1_000_000)
    found = [*_work(jobs, paths, now, limits), *_logs(jobs, paths, now, limits)]
    if orphans:
        found += _orphans(jobs, paths, now, limits)
    if not any(job.kind == "prune" and (job.live or job.state == "paused") for job in jobs):
        found += _hessians(paths, now, limits)
    return found


def remove(reader: Reader, waste: Iterable[Waste]) -> Iterator[Waste]:
    """Delete what was found, but nothing of a job that has been queued again since; yields what has
    gone. Raises StoreError."""
    for item in waste:
        if item.job_id is not None:
            job = reader.job(item.job_id)
            if job is not None and not job.finished:
                continue
        if item.path.is_dir():
            shutil.rmtree(item.path, ignore_errors=True)
        else:
            item.path.unlink(missing_ok=True)
        if not item.path.exists():
            yield item


def forget(store: Store, job_id: int) -> None:
    """Remove a job and all its files, variants and pictures among them. Raises NotFound, Refused,
    StoreError, the files untouched."""
    delete_files(store.paths, store.remove(job_id))


def delete_files(paths: Paths, job: JobView) -> None:
    """Delete what a removed job has left on the disk."""
    shutil.rmtree(paths.job(job.ulid), ignore_errors=True)


def _ended(job: JobView) -> float:
    return job.finished_at or 0.0


def _work(jobs: list[JobView], paths: Paths, now: float, limits: Limits) -> Iterator[Waste]:
    for job in jobs:
        work = paths.work(job.ulid)
        if not job.finished or not work.exists() or not paths.owns(work):
            continue
        if job.state == "succeeded":
            yield Waste(work, tree_bytes(work), f"work of job {job.id}, which succeeded", job.id)
        elif now - _ended(job) > limits.work_age:
            yield Waste(work, tree_bytes(work), f"work of job {job.id}, {job.state}", job.id)


def _logs(jobs: list[JobView], paths: Paths, now: float, limits: Limits) -> Iterator[Waste]:
    """Logs that are old, then the oldest until the others fit."""
    logs = []
    total = 0
    for job in jobs:
        folder = paths.job(job.ulid) / "attempts"
        for log in folder.glob("*/log.txt*") if paths.owns(folder) else ():
            if log.is_symlink():
                continue
            facts = log.stat()
            total += facts.st_size
            if job.finished:
                logs.append((facts.st_mtime, facts.st_size, log, job))
    for at, size, log, job in sorted(logs, key=lambda entry: (entry[0], entry[2])):
        old = now - at > limits.log_age
        if old or total > limits.logs_total:
            total -= size
            why = "old" if old else "beyond the total"
            yield Waste(log, size, f"log of job {job.id}, {why}", job.id)


def _orphans(jobs: list[JobView], paths: Paths, now: float, limits: Limits) -> Iterator[Waste]:
    known = {job.ulid for job in jobs}
    for folder in sorted((paths.home / "jobs").iterdir()):
        ours = _ULID.match(folder.name) and folder.is_dir() and not folder.is_symlink()
        old = now - folder.stat().st_mtime > limits.orphan_age
        if ours and old and folder.name not in known:
            yield Waste(folder, tree_bytes(folder), "of no job in this store")


def _hessians(paths: Paths, now: float, limits: Limits) -> Iterator[Waste]:
    """Calibrations that were not used for long, then the longest unused until the others fit."""
    if not paths.hessians.is_dir():
        return
    entries = sorted(
        (folder.stat().st_mtime, tree_bytes(folder), folder)
        for folder in paths.hessians.iterdir()
        if folder.is_dir() and not folder.is_symlink()
    )
    total = sum(size for _, size, _ in entries)
    for at, size, folder in entries:
        unused = now - at
        if unused > limits.hessians_age or (
            total > limits.hessians_total and unused > limits.hessians_rest
        ):
            total -= size
            yield Waste(folder, size, f"Hessians unused for {unused / DAY:.0f} days")
