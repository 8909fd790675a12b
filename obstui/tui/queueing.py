"""What becomes of the form's answers: jobs in the store, or text to copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from obstui import specs
from obstui.job_files import as_yaml
from obstui.lookup import checked
from obstui.options import NewJob
from obstui.tui import form

if TYPE_CHECKING:
    from obstui.store import Store


def prepared(kind: str, answers: dict[str, Any]) -> list[NewJob]:
    """Answers to jobs; looks at files, so never on the UI thread. Raises BadSpec, CannotPlan."""
    from obstui.plan import check_tokens

    options = form.options(answers)
    found = form.made(kind, answers, checked)
    for spec in found:
        check_tokens(spec)
    return [NewJob(spec, options) for spec in found]


def act(
    new: Sequence[NewJob], sweep: str | None, edits: int | None
) -> Callable[[Store], tuple[int, str]]:
    """What the store is to do, giving the (first) job's number and what to say. Raises BadSpec."""
    if edits is not None and len(new) > 1:
        raise specs.BadSpec(f"Job {edits} stays one job: give one value of each.")

    def do(store: Store) -> tuple[int, str]:
        if edits is not None:
            return store.edit(edits, new[0].spec, new[0].options).id, f"Job {edits} changed."
        jobs = store.enqueue_all(new, sweep=sweep)
        first, last = jobs[0], jobs[-1]
        if sweep is None:
            return first.id, f"Queued as job {first.id}."
        span = f"{first.id} to {last.id}"
        return first.id, f"Queued {len(jobs):,} jobs, {span}, as sweep {first.sweep_id}."

    return do


def as_text(new: list[NewJob], matrix: Iterable[str], name: str) -> str:
    """A job, or a sweep of that name over the fields in `matrix`, as `obstui submit` takes it."""
    specs = [job.spec.model_dump(mode="json") for job in new]
    varied = {key: list(dict.fromkeys(spec[key] for spec in specs)) for key in matrix}
    fields = {**specs[0], "name": name} if varied else specs[0]
    return as_yaml(fields, new[0].options, varied)
