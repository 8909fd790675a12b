"""The scene of F11, on a small filesystem of its own: `unshare -rm python full_disk.py FOLDER`.

Prints what happened as JSON; exits 77 where no filesystem can be mounted.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.obstui.worker.conftest import Bench


def main(folder: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        sys.exit(77)
    bench = Bench(folder / "home")
    told: dict[str, object] = {}
    try:
        worker = bench.up(settings={"min_disk_gib": 0.001}, look=0.2)
        # The job fills the disk: it is put off, not failed, and no other starts meanwhile.
        filler, waiting = bench.submit("once fill"), bench.submit("work 0.3")
        ballast = bench.paths.output(bench.job(filler).ulid) / "ballast"
        bench.until(ballast.exists)
        bench.until(lambda: shutil.disk_usage(folder).free == 0)
        time.sleep(1.5)  # the attempt ends, and there is no room even to say so
        told["alive"] = worker.poll() is None
        ballast.unlink()
        freed = time.monotonic()
        bench.until(lambda: bench.job(filler).reason == "disk_full")
        told["put_off_after"] = time.monotonic() - freed
        job = bench.finished(waiting)
        told["next_after"] = time.monotonic() - freed
        told["next"] = job.state
        told["filler"] = [bench.job(filler).state, bench.job(filler).reason]
        # Now the store itself has no room at the moment the job ends.
        last = bench.submit("work 0.5", "exit 3")
        bench.child(last)
        rest = folder / "rest"
        with rest.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        time.sleep(1.5)  # the job ends, and cannot say so
        told["during"] = bench.job(last).state
        told["still_alive"] = worker.poll() is None
        rest.unlink()
        freed = time.monotonic()
        told["last"] = bench.finished(last).state
        told["last_after"] = time.monotonic() - freed
    finally:
        for process in bench.workers:
            process.kill()
            told["worker"] = process.communicate()[1][-2000:]
        told["jobs"] = [[job.state, job.reason, job.error] for job in bench.reader.jobs()]
        bench.workers.clear()
        bench.close()
        print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
