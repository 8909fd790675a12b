"""Makes `jobs.db.example`: a night on the demo model, in one file that needs no other.

The night is real: a worker in a temporary home prunes, paints, times and fails. Then the store is
sealed: pictures move into it, and the paths and names of the machine it ran on leave it.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

from core import demo
from obstui.report import SEEN

TARGET = Path(__file__).parents[1] / "jobs.db.example"
HOME_SHOWN = "/home/you/.local/state/obstui"
PICTURE_SIDE = 64
"""Pixels: the demo model's own size, at about a kilobyte a picture."""

NIGHT = """
name: demo, 10 to 30 %
jobs:
  - id: sizes
    kind: prune
    name: five sizes from one calibration
    model: demo
    sparsity: [0.1, 0.15, 0.2, 0.25, 0.3]
    num_prompts: 48
  - id: magnitude
    kind: prune
    name: the contrast
    model: demo
    method: magnitude
    sparsity: [0.3]
  - id: pictures
    kind: compare
    name: the same pictures at every size
    model: demo
    variants: [sizes@10, sizes@15, sizes@20, sizes@25, sizes@30, magnitude@30]
    num_prompts: 6
  - kind: generate
    name: the smallest paints
    model: demo
    variant: sizes@30
    prompts:
      - a large red star in the center of a blue background
      - a large green circle on the left of a white background
    count: 4
  - kind: bench
    name: how fast
    model: demo
    variants: [sizes@10, sizes@30]
"""


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="obstui-example-"))
    try:
        _live_through(home)
        _seal(home)
    finally:
        _obstui(home, "worker", "stop", check=False)
        shutil.rmtree(home)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 2**20:.2f} MiB")


def _obstui(home: Path, *words: str, check: bool = True) -> str:
    environment = {**os.environ, "OBSTUI_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "obstui", *words],
        env=environment, check=check, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    return done.stdout


def _live_through(home: Path) -> None:
    """The night: a sweep, a job whose model is deleted, one that is cancelled, one for later."""
    night, lost = home / "night.yaml", home / "lost-model"
    night.write_text(NIGHT)
    _obstui(home, "submit", str(night))
    shutil.copytree(demo.MODEL_DIR, lost)
    failing = json.loads(
        _obstui(home, "prune", "--model", str(lost), "--sparsity", "0.2", "--json",
                "--name", "a model that was deleted in the meantime")
    )  # fmt: skip
    _obstui(home, "compare", "--model", str(lost), "--variants", f"{failing['id']}@20",
            "--name", "needs the job that failed")  # fmt: skip
    shutil.rmtree(lost)
    cancelled = json.loads(
        _obstui(home, "prune", "--sparsity", "0.5", "--json", "--name", "thought better of it")
    )
    _obstui(home, "cancel", str(cancelled["id"]))
    _obstui(home, "worker", "start")
    _obstui(home, "wait", "--all", check=False)
    with closing(sqlite3.connect(home / "jobs.db")) as store, store:
        store.execute("CREATE TEMP TABLE served AS SELECT * FROM worker")
        _obstui(home, "worker", "stop")
        # One that ends as it should is forgotten, and the place of the workers would be empty.
        store.execute("INSERT INTO worker SELECT * FROM served")
    _obstui(home, "prune", "--sparsity", "0.1,0.2,0.3", "--packages", "4", "--held",
            "--name", "for tomorrow: four packages")  # fmt: skip


def _seal(home: Path) -> None:
    """Rewrite the store's words and write it, defragmented, beside the sources."""
    source = sqlite3.connect(home / "jobs.db")
    with source:
        for table, column in (("job", "result"), ("job", "spec"), ("event", "payload"),
                              ("job", "progress")):  # fmt: skip
            for key, text in source.execute(f"SELECT id, {column} FROM {table}").fetchall():
                if text:
                    sealed = _sealed(json.loads(text), home)
                    source.execute(
                        f"UPDATE {table} SET {column} = ? WHERE id = ?",
                        (json.dumps(sealed, ensure_ascii=False), key),
                    )
        for table in ("job", "attempt"):
            for key, text in source.execute(
                f"SELECT rowid, error FROM {table} WHERE error IS NOT NULL"
            ).fetchall():
                source.execute(
                    f"UPDATE {table} SET error = ? WHERE rowid = ?", (_anonymous(text, home), key)
                )
        source.execute("DELETE FROM outbox")
        source.execute("DELETE FROM setting")
        # Whoever opens it has been away for the whole of this night.
        source.execute("INSERT INTO setting SELECT ?, min(created_at) - 1 FROM job", (SEEN,))
        source.execute("UPDATE attempt SET boot_id = '', pid = NULL, start_ticks = NULL")
        source.execute("UPDATE worker SET host = 'workstation', pid = 1")
    partial = TARGET.with_name(f".{TARGET.name}.partial")
    partial.unlink(missing_ok=True)
    source.execute("VACUUM INTO ?", (str(partial),))
    source.close()
    made = sqlite3.connect(partial)
    made.execute("PRAGMA journal_mode=DELETE")
    made.close()
    partial.replace(TARGET)


def _sealed(value: Any, home: Path) -> Any:
    """`value` with pictures inside instead of beside it, and nobody's paths."""
    if isinstance(value, dict):
        sealed = {key: _sealed(item, home) for key, item in value.items()}
        if "thumbnail" in value:
            sealed["path"] = sealed["thumbnail"] = _inside(Path(value["path"]))
        return sealed
    if isinstance(value, list):
        return [_sealed(item, home) for item in value]
    return _anonymous(value, home) if isinstance(value, str) else value


def _anonymous(text: str, home: Path) -> str:
    return re.sub(re.escape(str(home)), HOME_SHOWN, text)


def _inside(file: Path) -> str:
    with Image.open(file) as picture:
        small = picture.convert("RGB")
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    octets = io.BytesIO()
    small.save(octets, "WEBP", quality=85)
    inside = base64.b64encode(octets.getvalue()).decode("ascii")
    return f"data:image/webp;name={file.name};base64,{inside}"


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"made in {time.monotonic() - began:.0f} s")
