"""Editing a job that has not begun: what changes, what stays, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from obstui.options import JobOptions, job_options
from obstui.specs import Spec, parse
from obstui.store import NotFound, Reader, Refused, Store

SOON = JobOptions()


def prune(**fields: Any) -> Spec:
    return parse({"kind": "prune", **fields})


def test_all_that_was_asked_is_replaced_and_the_job_stays_itself(
    store: Store, reader: Reader
) -> None:
    other = store.enqueue(prune(seed=1))
    job = store.enqueue(prune(seed=2))
    last = store.enqueue(prune(seed=3))
    said = {"window": "23:00-07:00", "max_runtime": "2h", "after": [str(other.id)], "held": True}
    after = store.edit(job.id, prune(seed=9, name="new"), job_options(said))
    assert (after.id, after.ulid, after.created_at) == (job.id, job.ulid, job.created_at)
    assert (after.name, after.spec["seed"], after.state) == ("new", 9, "held")
    assert (after.window, after.max_runtime) == ("23:00-07:00", 7200)
    assert reader.needs(job.id) == [other.id]
    again = store.edit(job.id, prune(seed=9), SOON)
    assert (again.state, again.window, again.max_runtime) == ("queued", None, None)
    assert reader.needs(job.id) == []
    assert [each.id for each in reader.in_order()] == [other.id, job.id, last.id]


def test_what_waits_for_it_goes_on_waiting(store: Store, reader: Reader) -> None:
    job = store.enqueue(prune(sparsity=[0.2, 0.4]))
    child = store.enqueue(parse({"kind": "compare", "variants": [f"{job.id}@20"]}))
    store.edit(job.id, prune(sparsity=[0.2], seed=5), SOON)
    assert reader.needs(child.id) == [job.id]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sparsity": [0.4]}, "There is no variant 1@20"),
        ({"sparsity": [0.2], "model": "owner/other"}, "give the same --model"),
    ],
)
def test_what_would_break_a_job_that_waits_is_refused(
    store: Store, reader: Reader, fields: dict[str, Any], words: str
) -> None:
    job = store.enqueue(prune(sparsity=[0.2, 0.4]))
    store.enqueue(parse({"kind": "compare", "variants": [f"{job.id}@20"]}))
    with pytest.raises(Refused, match=f"Job 2 waits for job 1: .*{words}"):
        store.edit(job.id, prune(**fields), SOON)
    after = reader.job(job.id)
    assert after is not None
    assert (after.spec, after.version) == (job.spec, job.version)


def test_a_job_that_has_begun_is_left_alone(store: Store) -> None:
    job = store.enqueue(prune())
    assert store.claim("w", "cpu") is not None
    with pytest.raises(Refused, match="has begun"):
        store.edit(job.id, prune(seed=2), SOON)
    gone = store.enqueue(prune())
    store.cancel(gone.id)
    with pytest.raises(Refused, match="is over"):
        store.edit(gone.id, prune(seed=2), SOON)
    with pytest.raises(NotFound):
        store.edit(99, prune(), SOON)


def test_nothing_waits_for_itself_not_even_by_way_of_others(store: Store) -> None:
    first = store.enqueue(prune())
    second = store.enqueue(prune(), options=job_options({"after": "1"}))
    third = store.enqueue(prune(), options=job_options({"after": "2"}))
    for after in (first, second, third):
        with pytest.raises(Refused, match="cannot wait for itself"):
            store.edit(first.id, prune(), job_options({"after": str(after.id)}))


def test_a_job_keeps_its_kind(store: Store) -> None:
    job = store.enqueue(prune())
    with pytest.raises(Refused, match="stays one"):
        store.edit(job.id, parse({"kind": "generate", "prompts": ["a fox"]}), SOON)
