"""Following jobs to their end without a dashboard: one line per change, on stderr."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from obstui.cli import output
from obstui.config import Paths
from obstui.store import JobView, NotFound, Reader
from obstui.text import one_line

POLL_SECONDS = 0.25
LOOK_ANYWAY = 2.0
"""Seconds: a worker that is gone, or a time window that opens, writes nothing to the store."""


def follow(paths: Paths, ids: list[int], *, quiet: bool = False) -> list[JobView]:
    """The jobs once all of them are finished.

    Prints a line for each change of state or phase; on a terminal also one live line of progress.
    `quiet`: only of jobs that stand still until somebody does something. Raises NotFound for an
    unknown id.
    """
    reader = Reader.open(paths)
    screen = _Screen(sys.stderr, quiet=quiet)
    version, look_again = -1, 0.0
    try:
        while True:
            newest = reader.data_version()
            if newest != version or time.monotonic() >= look_again:
                version, look_again = newest, time.monotonic() + LOOK_ANYWAY
                jobs = [_job(reader, job_id) for job_id in ids]
                screen.show(jobs)
                if all(job.finished for job in jobs):
                    return jobs
            time.sleep(POLL_SECONDS)
    finally:
        screen.close()
        reader.close()


def _job(reader: Reader, job_id: int) -> JobView:
    job = reader.job(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}: obstui ls lists them.")
    return job


class _Screen:
    """Lines that scroll, and on a terminal one line at the bottom that is drawn over."""

    def __init__(self, out: TextIO, *, quiet: bool) -> None:
        self.out = out
        self.quiet = quiet
        self.live = out.isatty() and not quiet
        self.said: dict[int, str] = {}

    def show(self, jobs: list[JobView]) -> None:
        for job in jobs:
            line = self._line(job)
            if self.said.get(job.id) != line:
                self.said[job.id] = line
                if self.quiet and not (output.standstill(job) and job.state != "queued"):
                    continue
                self._clear()
                print(line, file=self.out, flush=True)
        running = next((job for job in jobs if job.live and job.progress), None)
        if self.live and running:
            now = running.progress or {}
            detail = one_line(f"{output.progress(running)} {now.get('detail', '')}", limit=70)
            print(f"\r\x1b[K    {detail}", end="", file=self.out, flush=True)

    def close(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=self.out, flush=True)

    @staticmethod
    def _line(job: JobView) -> str:
        what = f"job {job.id}  {output.state(job):<12}"
        if job.finished:
            why = f": {job.error}" if job.error else f"  in {output.took(job)}"
            return one_line(f"{what} {output.title(job)}{why}")
        if job.live:
            return one_line(f"{what} {job.blocked or (job.progress or {}).get('phase', '')}")
        if job.state in ("held", "paused"):
            return one_line(f"{what} {output.title(job)}: obstui resume {job.id} lets it go on")
        return one_line(f"{what} {job.blocked or output.title(job)}")
