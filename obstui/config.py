"""Where things live: the state folder, the store, the folders of jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from obstui.errors import Problem


class UnusableFolder(Problem):
    """A folder that obstui must write to cannot be made or written."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Paths:
    """`home` is the state folder (0700), `db` the store; jobs keep their files under `home`."""

    home: Path
    db: Path

    @classmethod
    def resolve(cls, db: str | Path | None = None) -> Paths:
        """From `--db`, OBSTUI_DB, OBSTUI_HOME, else the platform's own state folder."""
        home = Path(os.environ.get("OBSTUI_HOME") or platformdirs.user_state_dir("obstui"))
        home = home.expanduser().absolute()
        chosen = db or os.environ.get("OBSTUI_DB")
        return cls(home, Path(chosen).expanduser().absolute() if chosen else home / "jobs.db")

    def ensure(self) -> Paths:
        """Make the folders. Raises UnusableFolder."""
        for folder in (self.home, self.home / "jobs", self.home / "locks", self.db.parent):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as err:
                raise UnusableFolder(
                    f"Cannot make the folder {folder} ({err.strerror}): "
                    "set OBSTUI_HOME to a folder that you may write to."
                ) from err
            if not os.access(folder, os.W_OK | os.X_OK):
                raise UnusableFolder(
                    f"Cannot write to the folder {folder}: "
                    "set OBSTUI_HOME (or --db) to a place that you may write to."
                )
        return self

    def job(self, ulid: str) -> Path:
        """The folder of a job: output/, work/ (what a later attempt resumes from), attempts/."""
        return self.home / "jobs" / ulid

    def output(self, ulid: str) -> Path:
        return self.job(ulid) / "output"

    def work(self, ulid: str) -> Path:
        return self.job(ulid) / "work"

    def log(self, ulid: str, attempt: int) -> Path:
        return self.job(ulid) / "attempts" / str(attempt) / "log.txt"

    @property
    def hessians(self) -> Path:
        """Finished calibrations that later jobs reuse, a folder each."""
        return self.home / "cache" / "hessians"

    def lock(self, device: str) -> Path:
        """The lock of one device ("cpu", or a GPU's UUID): its holder owns the device."""
        return self.home / "locks" / f"{device}.lock"

    @property
    def worker_log(self) -> Path:
        return self.home / "worker.log"
