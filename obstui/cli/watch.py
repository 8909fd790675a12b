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


def follow(paths: Paths, ids: list[int], *, quiet: bool = False) -> list[JobView]:
    """The jobs once all of them are finished.

    Prints a line for each change of state or phase; on a terminal also one live line of progress.
    Raises NotFound for an unknown id.
    """
    reader = Reader.open(paths)
    screen = _Screen(None if quiet else sys.stderr)
    version = -1
    try:
        while True:
            newest = reader.data_version()
            if newest != version:
                version = newest
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

    def __init__(self, out: TextIO | None) -> None:
        self.out = out
        self.live = bool(out and out.isatty())
        self.said: dict[int, str] = {}

    def show(self, jobs: list[JobView]) -> None:
        if self.out is None:
            return
        for job in jobs:
            line = self._line(job)
            if self.said.get(job.id) != line:
                self.said[job.id] = line
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
            why = f"  {job.error}" if job.error else f"  in {output.took(job)}"
            return one_line(f"{what} {output.title(job)}{why}")
        if job.live:
            return one_line(f"{what} {(job.progress or {}).get('phase', '')}")
        return one_line(f"{what} {job.blocked or output.title(job)}")
