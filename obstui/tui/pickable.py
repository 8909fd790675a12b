"""What a field of the form can be answered with: models that are known, files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from obstui.config import Paths

Sort = Literal["model", "file", "new"]
"""A dense model by name or path, a file that is there, a folder that is not there yet."""

MOST = 200  # entries of a folder; typing finds the others
JOBS = 1000  # of which the models are offered


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list: the answer it stands for, and what is known about it. `inside`: a
    folder to go into instead of an answer."""

    answer: str
    words: str = ""
    inside: bool = False


def is_path(text: str) -> bool:
    """Whether this begins as paths do, and as no model's name does."""
    return text.startswith(("/", "~", "./", "../")) or text in (".", "..")


def models(paths: Paths) -> list[Entry]:
    """The demo model, those with a name, and what jobs have used, the newest first. Reads files
    and the store: never on the UI thread. Raises StoreError."""
    from obstui.models import registered
    from obstui.store import Reader

    found = {"demo": "small, comes with obstui"}
    found |= dict(registered(paths))
    if paths.db.exists():
        with Reader.open(paths) as reader:
            for job in reader.jobs(limit=JOBS):
                name = str(job.spec.get("model") or job.spec.get("base") or "")
                if name:
                    found.setdefault(name, f"used by job {job.id}")
    return [Entry(name, words) for name, words in found.items()]


def below(text: str, sort: Sort) -> tuple[list[Entry], str]:
    """The files and folders whose paths begin with `text`, folders first, as they are to be
    written; and a sentence if there are none or more. Hidden ones only where a dot was written.
    Never on the UI thread."""
    folder, _, begin = text.rpartition("/")
    where = f"{folder}/" if "/" in text else ""
    if text in ("~", ".", ".."):
        where, begin = f"{text}/", ""
    try:
        found = sorted(_entries(Path(where or ".").expanduser(), where, begin, sort),
                       key=lambda entry: (not entry.inside, entry.answer.lower()))  # fmt: skip
    except (OSError, RuntimeError, ValueError) as err:  # no such user, a null byte
        reason = err.strerror if isinstance(err, OSError) else "no such place"
        return [], f"Cannot read {where or 'this folder'}: {reason}."
    if len(found) > MOST:
        return found[:MOST], f"The first {MOST} of {len(found):,}: write more of the name."
    return found, "" if found else "Nothing here begins like that."


def _entries(folder: Path, where: str, begin: str, sort: Sort) -> Iterator[Entry]:
    with os.scandir(folder) as listing:
        for item in listing:
            name = item.name
            if not name.lower().startswith(begin.lower()):
                continue
            if name.startswith(".") and not begin.startswith("."):
                continue
            if not _is_folder(item):
                if sort == "file" or (sort == "model" and name.endswith(".safetensors")):
                    yield Entry(where + name)
            elif sort == "model" and os.path.isfile(f"{item.path}/model_index.json"):
                yield Entry(where + name, "a pipeline")
            else:
                yield Entry(f"{where}{name}/", inside=True)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False
