"""Jobs that need another's result: blocked, then runnable; skipped with it, and back with it."""

from __future__ import annotations

import pytest

from obstui.options import JobOptions, NewJob
from obstui.specs import (
    CompareSpec,
    ExportSpec,
    GenerateSpec,
    ImportSpec,
    NoSuchModel,
    PruneSpec,
)
from obstui.store import Claim, JobView, NotFound, Reader, Refused, Store


def compare(store: Store, *refs: str) -> JobView:
    return store.enqueue(CompareSpec(variants=refs))


def run(store: Store, job_id: int) -> Claim:
    claim = store.claim("w", "cpu")
    assert claim is not None
    assert claim.job_id == job_id
    store.started(claim, 1, 2)
    return claim


def look(reader: Reader, job_id: int) -> JobView:
    view = reader.job(job_id)
    assert view is not None
    return view


def test_a_child_waits_for_all_its_parents(store: Store, reader: Reader) -> None:
    one = store.enqueue(PruneSpec(sparsity=(0.1, 0.2)))
    two = store.enqueue(PruneSpec())
    child = compare(store, "1@20", "2@20", "1@10")
    assert child.blocked == "waits for jobs 1 (queued), 2 (queued)"
    first = run(store, one.id)
    assert look(reader, child.id).blocked == "waits for jobs 1 (running), 2 (queued)"
    store.finish(first, "succeeded", result={})
    assert look(reader, child.id).blocked == "waits for job 2 (queued)"
    second = run(store, two.id)
    assert store.claim("w2", "cpu2") is None
    store.finish(second, "succeeded", result={})
    assert look(reader, child.id).blocked == "no worker is running"
    run(store, child.id)
    assert "waits for" not in (look(reader, child.id).blocked or "")


@pytest.mark.parametrize("end", ["failed", "cancelled", "quarantined", "cancelled while queued"])
def test_a_child_is_skipped_with_its_parent_and_comes_back_with_it(
    store: Store, reader: Reader, end: str
) -> None:
    parent = store.enqueue(PruneSpec())
    child, held = compare(store, "1@20"), store.enqueue(CompareSpec(variants=("1@20",)), held=True)
    if end == "cancelled while queued":
        store.cancel(parent.id)
    elif end == "quarantined":
        for _ in range(3):
            store.finish(run(store, parent.id), "queued", reason="segfault", not_before=0.0)
    else:
        store.finish(run(store, parent.id), end)
    state = look(reader, parent.id).state
    skipped = look(reader, child.id)
    assert (skipped.state, skipped.reason) == ("skipped", "dep_failed")
    assert skipped.error == f"Job 1, whose result it needs, is {state}."
    assert look(reader, held.id).state == "held"
    with pytest.raises(Refused, match=f"job 1 is {state}: retry that first"):
        store.retry(child.id)
    with pytest.raises(Refused, match=f"job 1 is {state}"):
        store.resume(held.id)
    with pytest.raises(Refused, match=r"1@20 will not be made.*retry it first"):
        compare(store, "1@20")

    store.retry(parent.id)
    assert look(reader, child.id).state == "queued"
    assert look(reader, child.id).error is None
    assert store.resume(held.id).blocked == "waits for job 1 (queued)"
    store.finish(run(store, parent.id), "succeeded", result={})
    run(store, child.id)


def test_a_requeued_parent_skips_nobody(store: Store, reader: Reader) -> None:
    parent, child = store.enqueue(PruneSpec()), compare(store, "1@20")
    store.finish(run(store, parent.id), "queued", reason="worker_lost")
    assert look(reader, child.id).state == "queued"


def test_a_child_of_two_comes_back_only_with_both(store: Store, reader: Reader) -> None:
    for _ in range(2):
        store.enqueue(PruneSpec())
    child = compare(store, "1@20", "2@20")
    store.cancel(1)
    store.cancel(2)
    store.retry(1)
    assert look(reader, child.id).state == "skipped"
    store.retry(2)
    assert look(reader, child.id).state == "queued"


def test_a_child_that_was_cancelled_stays_so(store: Store, reader: Reader) -> None:
    store.enqueue(PruneSpec())
    child = compare(store, "1@20")
    store.cancel(child.id)
    store.cancel(1)
    store.retry(1)
    assert look(reader, child.id).state == "cancelled"


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("9@20", "no job 9 exists"),
        ("1@30", "job 1 makes 1@20, 1@12.5"),
        ("2@20", "job 2 is of kind generate"),
        ("999999999999999999@20", "no job 999999999999999999 exists"),
    ],
)
def test_variants_that_nobody_makes(store: Store, reader: Reader, ref: str, words: str) -> None:
    store.enqueue(PruneSpec(sparsity=(0.2, 0.125)))
    store.enqueue(GenerateSpec(prompts=("a cup",)))
    with pytest.raises(NotFound) as refusal:
        compare(store, ref)
    for part in words.split(" 1@"):
        assert part.strip(",") in str(refusal.value)
    assert reader.counts()["queued"] == 2


def test_what_a_waiting_job_needs_cannot_be_removed(store: Store, reader: Reader) -> None:
    store.enqueue(PruneSpec())
    child = compare(store, "1@20")
    store.finish(run(store, 1), "succeeded", result={})
    with pytest.raises(Refused, match="needed by job"):
        store.remove(1)
    claim = run(store, child.id)
    with pytest.raises(Refused, match="needed by job"):
        store.remove(1)
    store.finish(claim, "failed")
    store.remove(1)
    with pytest.raises(Refused, match="job 1 was removed: queue it anew"):
        store.retry(child.id)
    assert look(reader, child.id).state == "failed"


def made(*ids: str, below: str = "/made") -> dict[str, object]:
    """The result of a job that made these variants."""
    return {
        "variants": [
            {"id": ref, "sparsity": float(ref.split("@")[1]) / 100, "path": f"{below}/{ref}"}
            for ref in ids
        ]
    }


def test_what_an_import_makes_is_known_once_it_ran(store: Store, reader: Reader) -> None:
    store.enqueue(ImportSpec(file="/pruned.pth"))
    right, wrong = compare(store, "1@25"), store.enqueue(ExportSpec(variant="1@30", format="pth"))
    assert right.blocked == "waits for job 1 (queued)"
    store.finish(run(store, 1), "succeeded", result=made("1@25"))
    claim = run(store, right.id)
    assert claim.variants == {"1@25": "/made/1@25"}
    store.finish(claim, "succeeded", result={})
    # Named before anybody could know: its process says that there is none.
    assert run(store, wrong.id).variants == {}
    with pytest.raises(NotFound, match="job 1 makes 1@25"):
        compare(store, "1@30")


def test_another_file_for_an_import_that_failed(store: Store, reader: Reader) -> None:
    store.enqueue(ImportSpec(file="/pruned.pth"))
    child = compare(store, "1@25")
    store.finish(run(store, 1), "failed", error="no UNet")
    assert look(reader, child.id).state == "skipped"
    assert store.retry(1, {"file": "/other.pth"}).spec["file"] == "/other.pth"
    assert look(reader, child.id).state == "queued"


def test_a_variant_that_was_removed_cannot_be_named(store: Store, reader: Reader) -> None:
    store.enqueue(PruneSpec(sparsity=(0.1, 0.3)))
    child = compare(store, "1@30.0")
    with pytest.raises(NotFound, match="no variant 1@30"):
        store.forget_variant(1, 0.3)  # not made yet
    own = str(store.paths.home)
    store.finish(run(store, 1), "succeeded", result=made("1@10", "1@30", below=own))
    with pytest.raises(Refused, match=f"Job {child.id} is queued and needs 1@30"):
        store.forget_variant(1, 0.3)
    assert store.forget_variant(1, 0.1) == store.paths.home / "1@10"
    with pytest.raises(NotFound, match="1@10 was deleted: obstui show 1 --yaml"):
        compare(store, "1@10")
    store.cancel(child.id)
    assert store.forget_variant(1, 0.3) == store.paths.home / "1@30"
    with pytest.raises(NotFound, match="1@30 was deleted"):
        compare(store, "1@30")
    removed = [event.payload for event in reader.events(1, kinds=["variant_removed"])]
    assert [payload["variant"] for payload in removed] == ["1@10", "1@30"]


def test_a_variant_whose_files_are_gone_cannot_be_named(store: Store, reader: Reader) -> None:
    job = store.enqueue(PruneSpec(sparsity=(0.1, 0.3)))
    own = store.paths.output(job.ulid)
    (own / "1@30").mkdir(parents=True)
    store.finish(run(store, 1), "succeeded", result=made("1@10", "1@30", below=str(own)))
    assert compare(store, "1@30").blocked == "no worker is running"
    with pytest.raises(NoSuchModel, match="variant 1@10 were deleted or moved: obstui show 1"):
        compare(store, "1@30", "1@10")
    asked = NewJob(CompareSpec(variants=("1@10",)), JobOptions(), origin="night.yaml, job 2")
    with pytest.raises(NoSuchModel, match=r"^night.yaml, job 2: The files of the variant 1@10"):
        store.enqueue_all([asked])
    assert reader.counts()["queued"] == 1
