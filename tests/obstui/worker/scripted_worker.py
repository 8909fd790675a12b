"""The real worker, with a scripted child and short patience."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from obstui.config import Paths
from obstui.errors import Problem
from obstui.worker import launch
from obstui.worker.attempt import Timing

if __name__ == "__main__":
    timing = Timing(**json.loads(sys.argv[1]))
    child = [sys.executable, str(Path(__file__).with_name("scripted_child.py"))]
    try:
        launch.run(Paths.resolve(), "cpu", child_command=child, timing=timing)
    except Problem as err:
        print(err, file=sys.stderr)
        sys.exit(err.exit_code)
