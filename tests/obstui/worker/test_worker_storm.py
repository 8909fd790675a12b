"""Many kills at random moments of the worker and of children: every job ends once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import psutil
import pytest

from obstui.store.reader import held

from .conftest import Bench

pytestmark = pytest.mark.faults

JOBS, KILLS = 200, 25


def test_no_job_is_lost_or_doubled_in_a_storm_of_kills(bench: Bench) -> None:
    seed = int(os.environ.get("OBSTUI_TEST_SEED", time.time_ns() % 10**6))
    print(f"seed {seed}")
    moments = random.Random(seed)
    jobs = [bench.submit("unit", "work 0.2") for _ in range(JOBS)]
    worker = bench.worker()
    for number in range(KILLS):
        time.sleep(moments.uniform(0, 2))
        holder = bench.holder()
        if holder and holder.child:
            bench.children.add(holder.child.pid)
            if number % 2:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder.child.pid, signal.SIGKILL)
                continue
        worker.kill()
        worker.wait()
        bench.until(lambda: not held(bench.lock), within=5)
        worker = bench.worker()
    for job_id in jobs:
        bench.until(lambda job_id=job_id: bench.job(job_id).finished, within=150)
        assert bench.job(job_id).state == "succeeded"
        ends = [fact for fact in bench.facts(job_id, "state") if fact["to"] == "succeeded"]
        assert len(ends) == 1
    attempts = sum(len(bench.reader.attempts(job_id)) for job_id in jobs)
    assert attempts <= JOBS + KILLS
    script = "scripted_child.py"

    def left() -> bool:
        lines = [p.info for p in psutil.process_iter(["cmdline", "environ", "status"])]
        home = str(bench.paths.home)
        return any(
            script in " ".join(line["cmdline"] or ())
            and (line["environ"] or {}).get("OBSTUI_HOME") == home
            and line["status"] != psutil.STATUS_ZOMBIE
            for line in lines
        )

    assert left()  # the warm child of the last worker
    bench.close()
    closed = time.monotonic()
    while left():
        assert time.monotonic() < closed + 10
        time.sleep(0.05)
    print(
        f"{KILLS} kills over {JOBS} jobs: 0 lost, 0 done twice, {attempts - JOBS} extra attempts, "
        f"no process left {time.monotonic() - closed:.2f} s after the last worker's death"
    )
