"""`python -m obstui.worker`: the worker process that `launch.start` starts."""

from __future__ import annotations

import argparse
import sys

from obstui.config import Paths
from obstui.errors import Problem
from obstui.text import one_line
from obstui.worker import launch


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m obstui.worker")
    parser.add_argument("--device")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--exit-when-idle", action="store_true")
    options = parser.parse_args()
    try:
        return launch.run(
            Paths.resolve(), options.device, options.exit_when_idle, ready_fd=options.ready_fd
        )
    except Problem as err:
        print(one_line(err), file=sys.stderr)
        return err.exit_code


if __name__ == "__main__":
    sys.exit(main())
