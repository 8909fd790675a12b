"""A night in short: two workers with scripted children, a kill every 20 seconds, and every minute
the question whether all is as promised. `python -m tests.faults.soak --minutes 30` (make soak)."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil

from obstui.store.reader import held
from obstui.worker.liveness import Holder

from ..obstui.worker.conftest import Bench
from .invariants import violations

STEADY, KILLED = "GPU-steady", "GPU-killed"
KILL_EVERY, LOOK_EVERY = 20.0, 60.0
WAITING = 12
MEMORY_PER_HOUR, MEMORY_NOISE = 1 << 20, 4 << 20
SCRIPTS = (
    ("unit", "work 0.5", "unit"),
    ("fact one", "work 1"),
    ("helper", "work 0.3"),
    ("nothing",),
    ("once die", "nothing"),
    ("raise a bad input",),
    ("write garbage", "work 0.2"),
    ("unit", "work 3"),
)


class Soak:
    def __init__(self, home: Path, seed: int) -> None:
        state = home / "nvml.json"
        state.write_text(json.dumps({"gpus": [STEADY, KILLED]}))
        fake = Path(__file__).parents[1] / "obstui" / "worker" / "fake_nvml"
        os.environ |= {"OBSTUI_FAKE_NVML": str(state), "PYTHONPATH": str(fake)}
        self.bench = Bench(home / "state")
        self.log = home / "worker.log"
        self.bench.log_file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.moments = random.Random(seed)
        self.queued: list[int] = []
        self.kills: Counter[str] = Counter()
        self.recovered: list[float] = []
        self.broken: list[str] = []
        self.memory: list[tuple[float, int]] = []
        self.files: list[int] = []

    def run(self, minutes: float) -> dict[str, object]:
        bench, began = self.bench, time.monotonic()
        steady = bench.up(device=STEADY)
        self.victim = bench.up(device=KILLED)
        next_kill, next_look = began + KILL_EVERY, began + min(LOOK_EVERY, 20 * minutes)
        while (now := time.monotonic()) < began + 60 * minutes:
            self.fill()
            if now >= next_kill:
                next_kill += KILL_EVERY
                self.kill()
            if now >= next_look:
                next_look += min(LOOK_EVERY, 20 * minutes)
                self.look(steady.pid, now - began)
            time.sleep(0.5)
        for job in self.queued:
            bench.until(lambda job=job: bench.job(job).finished, within=400)
        self.look(steady.pid, time.monotonic() - began)
        return self.summary(time.monotonic() - began)

    def fill(self) -> None:
        waiting = len(self.bench.reader.jobs(states=("queued",), limit=WAITING))
        for _ in range(WAITING - waiting):
            script = self.moments.choice(SCRIPTS)
            self.queued.append(
                self.bench.submit(*script, model=self.moments.choice(["demo", "a/b"]))
            )

    def kill(self) -> None:
        """One worker of the two, or a child of either."""
        bench, what = self.bench, self.moments.choice(["worker", "worker", "child", "both"])
        device = KILLED if what != "child" else self.moments.choice([STEADY, KILLED])
        holder = Holder.read(bench.paths.lock(device))
        self.kills[what] += 1
        if what in ("child", "both") and holder and holder.child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder.child.pid, signal.SIGKILL)
        if what in ("worker", "both"):
            self.victim.kill()
            self.victim.wait()
            bench.workers.remove(self.victim)
            struck = time.monotonic()
            self.victim = bench.up(device=KILLED)
            self.recovered.append(time.monotonic() - struck)

    def look(self, pid: int, at: float) -> None:
        process = psutil.Process(pid)
        self.memory.append((at, process.memory_info().rss))
        self.files.append(process.num_fds())
        found = violations(self.bench.paths)
        self.broken += found
        counts = {k: v for k, v in self.bench.reader.counts().items() if v}
        print(
            f"{at / 60:5.1f} min: {counts}, {sum(self.kills.values())} kills, worker "
            f"{self.memory[-1][1] / 2**20:.1f} MiB, {self.files[-1]} files, "
            f"{found or 'all as promised'}",
            flush=True,
        )

    def summary(self, took: float) -> dict[str, object]:
        bench = self.bench
        with closing(sqlite3.connect(bench.paths.db)) as conn:
            states = dict(conn.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall())
            (attempts,) = conn.execute("SELECT count(*) FROM attempt").fetchone()
            there = {row[0] for row in conn.execute("SELECT id FROM job")}
        lost = len(set(self.queued) - there)
        bench.close()
        time.sleep(5)
        locks = [bench.paths.lock(device) for device in (STEADY, KILLED)]
        orphans = [p.pid for p in psutil.process_iter() if self.ours(p)]
        settled = self.memory[1:] or self.memory
        grown = settled[-1][1] - settled[0][1]
        allowed = MEMORY_NOISE + MEMORY_PER_HOUR * (settled[-1][0] - settled[0][0]) / 3600
        files = self.files[1:] or self.files
        good = not (
            lost or self.broken or orphans or any(map(held, locks)) or grown > allowed
        ) and (max(files) - min(files) <= 8)
        return {
            "good": good,
            "minutes": round(took / 60, 1),
            "jobs": states,
            "attempts": attempts,
            "kills": dict(self.kills),
            "lost": lost,
            "broken invariants": self.broken,
            "orphans": orphans,
            "slowest recovery (s)": round(max(self.recovered, default=0.0), 2),
            "worker grown by (MiB)": round(grown / 2**20, 2),
            "files of the worker": [min(files), max(files)],
            "store (MiB)": round(bench.paths.db.stat().st_size / 2**20, 2),
        }

    def ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("OBSTUI_HOME") == str(self.bench.paths.home) and (
                process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), options.seed)
        try:
            summary = soak.run(options.minutes)
        except BaseException:
            print(soak.log.read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            soak.bench.close()
    for what, value in summary.items():
        print(f"{what}: {value}")
    return 0 if summary["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
