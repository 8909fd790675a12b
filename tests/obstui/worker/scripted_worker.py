"""The real worker, with a scripted child and short patience.

Its argument is JSON: what Timing takes; besides `device`, `settings` and `back_off`
(seconds between lost attempts).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from obstui.config import Paths, Settings
from obstui.errors import Problem
from obstui.store import transitions
from obstui.worker import housekeeping, launch
from obstui.worker.attempt import Timing

if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    device = options.pop("device", "cpu")
    idle = options.pop("exit_when_idle", False)
    settings = Settings(**options.pop("settings", {}))
    housekeeping._EVERY = 0.2
    if back_off := options.pop("back_off", None):
        transitions._BACK_OFF = tuple(back_off)
    timing = Timing(**options)
    child = [sys.executable, str(Path(__file__).with_name("scripted_child.py"))]
    try:
        launch.run(
            Paths.resolve(), device, idle, child_command=child, timing=timing, settings=settings
        )
    except Problem as err:
        print(err, file=sys.stderr)
        sys.exit(err.exit_code)
