"""The end of the whole queue, told from what earlier jobs took."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from obstui.finish import Finish, calibration, prices, queue_finish, work
from obstui.specs import BenchSpec, CompareSpec, GenerateSpec, PruneSpec
from obstui.store.views import JobView, PastRun

NOW = 1_800_000_000.0


def job(job_id: int, spec: Any, **more: Any) -> JobView:
    fixed: dict[str, Any] = dict.fromkeys(JobView.__dataclass_fields__)
    fixed |= {"id": job_id, "spec": spec.model_dump(mode="json"), "state": "queued"}
    return JobView(**{**fixed, **more})


def generate(count: int = 1, **more: Any) -> GenerateSpec:
    return GenerateSpec(prompts=("a cup",), count=count, **more)


HISTORY = [PastRun(generate(10).model_dump(mode="json"), s) for s in (90.0, 100.0, 110.0)]


def finish(queued: list[JobView], history: list[PastRun] | None = None, **more: Any) -> Finish:
    given: dict[str, Any] = {"live": [], "needs": {}, "now": NOW, **more}
    return queue_finish(queued=queued, history=HISTORY if history is None else history, **given)


def minutes(at: float | None) -> float:
    assert at is not None
    return (at - NOW) / 60


def test_work_scales_with_what_there_is_to_do() -> None:
    assert work(generate(8).model_dump()) == 8 * work(generate().model_dump())
    assert work(PruneSpec(num_prompts=50, steps=20).model_dump()) == 1000
    compare = CompareSpec(variants=("1@10", "1@30"), num_prompts=4, count=2, steps=10)
    assert work(compare.model_dump()) == 3 * 4 * 2 * 10
    bench = BenchSpec(variants=("1@10",), repeats=5, steps=10)
    assert work(bench.model_dump()) == 2 * 5 * 10


def test_a_queue_takes_the_sum_and_two_devices_half() -> None:
    jobs = [job(n, generate(60)) for n in range(1, 11)]  # 600 s each
    one = finish(jobs)
    assert 90 < minutes(one.p50) < 112
    assert minutes(one.p50) < minutes(one.p90) < 125
    assert 45 < minutes(finish(jobs, devices=2).p50) < 60
    assert finish(jobs) == one  # the same question, the same answer


def test_one_earlier_job_is_no_certainty() -> None:
    found = finish([job(1, generate(60))], HISTORY[:1])
    assert minutes(found.p90) > minutes(found.p50)


def test_what_nobody_has_measured() -> None:
    assert finish([job(1, PruneSpec())]) == Finish(jobs=1, unknown=1)
    assert finish([]) == Finish(jobs=0)
    mixed = finish([job(1, PruneSpec()), job(2, generate(60))])
    assert (mixed.jobs, mixed.unknown) == (2, 1)
    assert 8 < minutes(mixed.p50) < 12
    # Other sizes of the same model are better than nothing.
    assert finish([job(1, generate(60, size=64))]).unknown == 0
    # But the model's own number of steps is no one step.
    assert finish([job(1, generate(60, steps=20))]).unknown == 1


def test_children_wait_for_parents_and_held_parents_for_people() -> None:
    jobs = [job(2, generate(60)), job(1, generate(60)), job(3, generate(60))]
    found = finish(jobs, needs={2: [1], 3: [9]}, devices=2)
    assert (found.jobs, found.waiting) == (2, 1)
    assert 18 < minutes(found.p50) < 23  # one after the other in spite of two devices


def test_a_window_stretches_the_night() -> None:
    now = datetime.fromisoformat("2026-06-10T22:00").timestamp()
    jobs = [job(1, generate(60 * 10), window="23:00-00:00")]  # 100 minutes, one hour a night
    found = queue_finish([], jobs, {}, HISTORY, now=now)
    assert found.p50 is not None
    assert datetime.fromtimestamp(found.p50).strftime("%d %H") == "11 23"


def test_a_running_job_counts_with_what_is_left() -> None:
    begun = {"state": "running", "attempt": 1, "ran": 0.0}
    live = [job(1, generate(60), started_at=NOW - 300, **begun)]
    assert 3 < minutes(finish([], live=live).p50) < 7
    overdue = [job(1, generate(60), started_at=NOW - 9000, **begun)]
    assert minutes(finish([], live=overdue).p50) == 0


def test_a_thousand_jobs_are_told_in_time() -> None:
    jobs = [job(n, generate(n % 7 + 1)) for n in range(1, 1001)]
    assert finish(jobs, devices=2).p50 is not None


@pytest.mark.parametrize("spec", [{}, {"kind": "x"}, {"kind": "prune", "prompts": None}])
def test_specs_of_other_versions(spec: dict[str, Any]) -> None:
    assert prices([PastRun(spec, 5.0)])


def test_what_does_not_grow_is_not_multiplied() -> None:
    short = PastRun(PruneSpec(num_prompts=10, steps=10).model_dump(mode="json"), 12.0, None, 10, 2)
    found = finish([job(1, PruneSpec(num_prompts=100, steps=30))], [short])
    assert 60 < (found.p50 or 0) - NOW < 80, "10 + 30 x 2 s"


def test_a_shared_calibration_is_made_once() -> None:
    spec = PruneSpec(num_prompts=100, steps=25)
    past = [PastRun(spec.model_dump(mode="json"), 1010.0, None, 10, 1000)]
    sweep = [job(n, spec.model_copy(update={"damping": n / 100})) for n in range(1, 5)]
    assert 15 < minutes(finish(sweep, past).p50) < 20
    seeds = [job(n, spec.model_copy(update={"seed": n})) for n in range(1, 5)]
    assert 60 < minutes(finish(seeds, past).p50) < 75
    assert calibration(PruneSpec(packages=4).model_dump(mode="json")) is None


def test_jobs_without_forward_passes_have_a_price() -> None:
    spec = PruneSpec(method="magnitude")
    past = [PastRun(spec.model_dump(mode="json"), 40.0, None, 40.0, 0.0)]
    assert 80 < (finish([job(n, spec) for n in (1, 2, 3)], past).p50 or 0) - NOW < 160
    live = [running(spec, ago=30, phase="solve", done=0, total=51)]
    assert 0 < (finish([], past, live=live).p50 or 0) - NOW < 20


def running(spec: Any, ago: float, **progress: Any) -> JobView:
    """A job that began so many seconds ago, its phase `since`."""
    began = NOW - progress.pop("since", ago)
    return job(1, spec, state="running", attempt=1, ran=0.0, started_at=NOW - ago,
               progress={"phase_started_at": began, "following": [], **progress})  # fmt: skip


PASSES = PruneSpec(num_prompts=100, steps=25)
SLOW = [PastRun(PASSES.model_dump(mode="json"), 7210.0, None, 10, 7200)]


def test_the_running_job_tells_its_own_end() -> None:
    live = [running(PASSES, 70, since=60, phase="calibrate", done=500, total=1000,
                    following=[["solve", 51]])]  # fmt: skip
    assert (finish([], SLOW, live=live).p50 or 0) - NOW == pytest.approx(70, abs=5)


def test_its_own_pace_is_that_of_the_passes_to_come() -> None:
    rounds = [["solve", 51], ["calibrate", 1000], ["solve", 51], ["calibrate", 1000], ["save", 1]]
    live = [running(PASSES, 70, since=60, phase="calibrate", done=500, total=1000,
                    following=rounds)]  # fmt: skip
    assert (finish([], SLOW, live=live).p50 or 0) - NOW == pytest.approx(60 + 2 * 120 + 10, abs=5)


def test_what_an_earlier_attempt_had_done_is_no_pace() -> None:
    live = [running(PASSES, 70, since=60, phase="calibrate", done=500, resumed_from=440,
                    total=1000, following=[["solve", 51]])]  # fmt: skip
    assert (finish([], SLOW, live=live).p50 or 0) - NOW == pytest.approx(500 + 10, abs=5)


def test_before_and_after_the_passes() -> None:
    loads = running(PASSES, 5, phase="load", done=0, total=1, following=[["calibrate", 0]])
    assert (finish([], SLOW, live=[loads]).p50 or 0) - NOW == pytest.approx(7205, rel=0.15)
    # Its calibration was taken over from elsewhere: nothing of the two hours is left.
    solves = running(
        PASSES, 30, since=20, phase="solve", done=10, total=50, following=[["save", 1]]
    )
    assert (finish([], SLOW, live=[solves]).p50 or 0) - NOW == pytest.approx(80 + 10, abs=5)
