"""result.json: what a finished attempt left on disk.

Written by the child after every file it names is on the disk, by temp, fsync and rename: a
manifest that is there tells the truth. The store learns of the result later; a worker killed in
between finds the manifest and does not run the job again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from obstui.recorded import map_paths

NAME = "result.json"
_VERSION = 1


def write(output: Path, attempt: int, result: dict[str, Any]) -> None:
    """Publish `result`, whose paths are absolute and lie in `output`, as that of `attempt`.

    Raises ValueError if a path lies elsewhere, OSError if a file it names is missing.
    """
    relative = map_paths(result, lambda path: str(Path(path).relative_to(output)))
    files = sorted({file for path in _paths(result) for file in _files(Path(path))})
    data = {
        "version": _VERSION,
        "attempt": attempt,
        "files": [_describe(file, output) for file in files],
        "result": relative,
    }
    temporary = output / f".{NAME}.{os.getpid()}"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(output / NAME)
    for folder in {output, *(file.parent for file in files)}:
        _sync_folder(folder)


def read(output: Path, attempt: int) -> dict[str, Any] | None:
    """The result that `attempt` published, with absolute paths; None if it published none, or if
    its files are not there in full. Sizes are compared, not hashes: the files were synced before
    the manifest appeared, and a worker must not read gigabytes while it recovers."""
    try:
        text = (output / NAME).read_bytes()
        data = json.loads(text, parse_constant=lambda _: None)
        if data["version"] != _VERSION or data["attempt"] != attempt:
            return None
        for entry in data["files"]:
            if _inside(output, entry["path"]).stat().st_size != entry["size"]:
                return None
        result = map_paths(data["result"], lambda path: str(_inside(output, path)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result if isinstance(result, dict) else None


def _inside(output: Path, relative: str) -> Path:
    path = output / relative
    if not path.resolve().is_relative_to(output.resolve()):
        raise ValueError(f"{relative} lies outside the output folder")
    return path


def _paths(value: Any) -> Iterator[str]:
    found: list[str] = []

    def keep(path: str) -> str:
        found.append(path)
        return path

    map_paths(value, keep)
    yield from found


def _files(path: Path) -> Iterator[Path]:
    """The file, or every file below the folder."""
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _describe(path: Path, output: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    return {"path": str(path.relative_to(output)), "sha256": digest, "size": size}


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
