"""F11: a full disk, on a real filesystem of a few MiB."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_f11_a_full_disk_puts_off_and_loses_nothing(tmp_path: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip("no namespaces here")
    scene = Path(__file__).with_name("full_disk.py")
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, str(scene), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no filesystem can be mounted here")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    print({key: value for key, value in told.items() if key != "worker"})
    assert told["alive"]
    assert told["still_alive"]
    assert told["next"] == "succeeded"
    assert told["put_off_after"] < 5
    assert told["next_after"] < 60
    assert told["filler"] == ["queued", "disk_full"]
    assert told["last"] == "failed"
    assert told["last_after"] < 5
