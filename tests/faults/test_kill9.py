"""kill -9 at random moments, of the child, of the worker, of both: nothing is lost, doubled or
different. Real prunes of the bundled model, through the real worker."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import demo
from obstui.config import Paths
from obstui.specs import PruneSpec
from obstui.store import JobView, Reader, Store
from obstui.store.reader import held
from obstui.worker import launch

pytestmark = pytest.mark.faults

JOBS = 10
PATIENCE = 300.0


@dataclass
class Queue:
    paths: Paths
    store: Store
    reader: Reader

    def job(self, job_id: int) -> JobView:
        job = self.reader.job(job_id)
        assert job is not None
        return job

    def until(self, condition: Callable[[], Any], within: float = PATIENCE) -> Any:
        deadline = time.monotonic() + within
        while not (value := condition()):
            assert time.monotonic() < deadline, self.paths.worker_log.read_text()
            time.sleep(0.02)
        return value

    def child(self, job_id: int) -> int | None:
        """The pid of the child that runs the job now, if one does."""
        if self.job(job_id).state != "running":
            return None
        return self.reader.attempts(job_id)[-1].pid


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    paths = Paths(tmp_path, tmp_path / "jobs.db").ensure()
    with Store.open(paths) as store, Reader.open(paths) as reader:
        try:
            yield Queue(paths, store, reader)
        finally:
            launch.stop(paths, now=True, wait=20)


def weights(job: JobView) -> dict[str, str]:
    """The hash of every file of every variant, by its name below the output folder."""
    assert job.result is not None
    found = {}
    for variant in job.result["variants"]:
        folder = Path(variant["path"])
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = str(file.relative_to(folder.parent))
                found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def kill(*pids: int | None) -> None:
    for pid in pids:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def strike(queue: Queue, job_id: int, victim: str, after: float) -> bool:
    """Hit the job once, `after` seconds from its start; False if it was over by then."""
    queue.until(lambda: queue.job(job_id).state == "running")
    time.sleep(after)
    child = queue.child(job_id)
    [worker] = [status.pid for status in launch.status(queue.paths)]
    if child is None:
        return False
    kill(*{"child": (child,), "worker": (worker,), "both": (worker, child)}[victim])
    if victim != "child":
        queue.until(lambda: not held(queue.paths.lock("cpu")), within=5)
        assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"
        launch.start(queue.paths, "cpu")
    return True


def test_ten_prunes_each_hit_once_end_once_with_the_same_bytes(queue: Queue) -> None:
    # A copy, so that nothing done to the source tree meanwhile can change what is pruned.
    model = shutil.copytree(demo.MODEL_DIR, queue.paths.home / "model")
    spec = PruneSpec(model=str(model), sparsity=(0.1, 0.3), num_prompts=8, steps=4)
    launch.start(queue.paths, "cpu")
    undisturbed = queue.store.enqueue(spec).id
    began = queue.until(lambda: queue.job(undisturbed).started_at)
    queue.until(lambda: queue.job(undisturbed).finished)
    reference = queue.job(undisturbed)
    assert reference.state == "succeeded", reference.error
    assert reference.finished_at is not None
    length = reference.finished_at - began
    expected = weights(reference)
    assert len(expected) >= 2

    seed = int(os.environ.get("OBSTUI_TEST_SEED", time.time_ns() % 10**6))
    moments = random.Random(seed)
    reused = hits = 0
    while hits < JOBS:
        victim = ("child", "worker", "both")[hits % 3]
        after = moments.uniform(0, length)
        job_id = queue.store.enqueue(spec).id
        told = f"seed {seed}, job {job_id}: {victim} killed after {after:.2f} of {length:.2f} s"
        hit = strike(queue, job_id, victim, after)
        queue.until(lambda job_id=job_id: queue.job(job_id).finished)
        job = queue.job(job_id)
        assert job.state == "succeeded", f"{told}: {job.error}"
        ends = [e for e in queue.reader.events(job_id) if e.payload.get("to") == "succeeded"]
        assert len(ends) == 1, told
        assert weights(job) == expected, told
        if hit:
            assert len(queue.reader.attempts(job_id)) <= 2, told
            solved = queue.reader.events(job_id, attempt=2, kinds=["target_solved"])
            reused += any(event.payload["reused"] for event in solved)
            hits += 1
            print(told)
    assert reused, f"seed {seed}: no second attempt found anything to go on from"
    counts = queue.reader.counts()
    assert counts["succeeded"] == sum(counts.values())
