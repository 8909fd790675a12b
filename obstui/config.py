"""Where things live: the state folder, the store, the folders of jobs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

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

    @property
    def expects_store(self) -> bool:
        """Whether there should be a store to read: before the first job there need not be one in
        its usual place, but one that was named is there, or its reader says that it is not. Raises
        UnusableFolder where no first job could ever make one."""
        if self.db != self.home / "jobs.db" or self.db.exists():
            return True
        if fault := no_room(self.home):
            raise UnusableFolder(
                f"The state folder {self.home} cannot be used, {fault}: "
                "set OBSTUI_HOME to a folder that you may write to."
            )
        return False

    def job(self, ulid: str) -> Path:
        """The folder of a job: output/, work/ (what a later attempt resumes from), attempts/."""
        return self.home / "jobs" / ulid

    def owns(self, path: Path) -> bool:
        """Whether a path, all links followed, lies below the state folder: only such a one is
        obstui's to delete."""
        return path.resolve().is_relative_to(self.home.resolve())

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

    @property
    def models(self) -> Path:
        """A file for each name that people gave a model; it holds what the name stands for."""
        return self.home / "models"

    def lock(self, device: str) -> Path:
        """The lock of one device ("cpu", or a GPU's UUID): its holder owns the device."""
        return self.home / "locks" / f"{device}.lock"

    def telemetry(self, device: str) -> Path:
        """How a device is doing, as its worker last read it."""
        return self.home / "telemetry" / f"{device}.json"

    @property
    def worker_log(self) -> Path:
        return self.home / "worker.log"


def own_command() -> str:
    """What a shell calls this program by: in an environment that is not activated it knows no
    `obstui`, but whatever it called just now."""
    if shutil.which("obstui"):
        return "obstui"
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m obstui"
    return shlex.quote(called)


def nearest(folder: Path) -> Path:
    """The folder, or the one above it that exists."""
    return next(there for there in (folder, *folder.parents) if there.exists())


def no_room(folder: Path) -> str | None:
    """Why the folder could not be made or written to, by trying where it would be; None if it
    could. Permissions alone do not tell: nobody makes a folder below /proc."""
    there = nearest(folder)
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".obstui-", dir=there))
    except OSError as err:
        return f"nothing can be written in {there} ({err.strerror})"
    return None


class BadSettings(Problem):
    """The settings file cannot be used."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What people set once, in a TOML file. All of it is optional.

    `notify` are apprise URLs that hear of failures and get a digest each day at `digest` ("HH:MM",
    local time; empty: none). `on_finish` is a command (a list, no shell) run after every job with
    the job as JSON on its standard input. The rest are the worker's limits: `hot` in degrees
    Celsius, `foreign_gib` of GPU memory in another program's hands before a job makes room, and
    `min_disk_gib` that must stay free.

    The dashboard's: how it draws `images`, and the KiB that a picture in pixels may take at most,
    `image_kib`; `theme` and `density`; `attention`, how it calls when a job ends that it
    watched; and `keys`, other keys for its actions, by their ids.
    """

    notify: tuple[str, ...] = ()
    digest: str = "08:00"
    on_finish: tuple[str, ...] = ()
    hot: int = 87
    foreign_gib: float = 1.0
    min_disk_gib: float = 0.25
    theme: str = ""
    density: str = "compact"
    attention: str = "none"
    images: str = "auto"
    image_kib: int = 1024
    keys: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def path() -> Path:
        """OBSTUI_CONFIG, else config.toml in the platform's own configuration folder."""
        named = os.environ.get("OBSTUI_CONFIG")
        folder = Path(platformdirs.user_config_dir("obstui"))
        return Path(named).expanduser().absolute() if named else folder / "config.toml"

    @classmethod
    def load(cls) -> Settings:
        """The file's settings, or the defaults where there is no file. Raises BadSettings."""
        path = cls.path()
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = tomllib.load(file)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as err:
            raise BadSettings(f"Cannot read the settings {path}: {err}.") from None
        if data.get("notify") and mode & 0o077:
            raise BadSettings(
                f"Others may read {path}, which names where notices go: run chmod 600 {path}."
            )
        return cls(**{name: _setting(path, name, value) for name, value in data.items()})


IMAGES = ("auto", "kitty", "sixel", "half", "ascii", "off")
THEMES = ("dark", "light", "high-contrast", "colour-blind", "ansi")

_CHOICES = {
    "images": IMAGES,
    "theme": THEMES,
    "density": ("compact", "comfortable"),
    "attention": ("none", "bell", "osc9", "osc777"),
}


def _setting(path: Path, name: str, value: object) -> Any:
    known = {each.name: each.default for each in fields(Settings)}
    if name not in known:
        raise BadSettings(f"{path} has no setting {name}: it may hold {', '.join(known)}.")
    default = known[name]
    if name in _CHOICES:
        if value in _CHOICES[name]:
            return value
        raise BadSettings(f"{name} in {path} must be one of {', '.join(_CHOICES[name])}.")
    if name == "keys":
        if isinstance(value, dict) and all(isinstance(key, str) for key in value.values()):
            return value
        raise BadSettings(f'[keys] in {path} must hold lines such as "queue.new" = "n".')
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise BadSettings(f"{name} in {path} must be a list of strings.")
    number = isinstance(default, (int, float))
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    if number and fits:
        return value
    if not number and isinstance(value, str) and (not value or _CLOCK.fullmatch(value)):
        return value
    raise BadSettings(f"{name} in {path} must be {'a number' if number else 'a time as 08:00'}.")


_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
