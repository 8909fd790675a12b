"""What a person can do to jobs, one or many: which jobs it fits, what is asked first, how it is
done to the store, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from obstui.errors import Problem

if TYPE_CHECKING:
    from obstui.store import Store

Undo = Callable[["Store"], object]

WAITING = ("held", "queued", "paused")
LIVE = ("starting", "running", "pausing", "cancelling")
OVER = ("succeeded", "failed", "cancelled", "skipped", "quarantined")


@dataclass(frozen=True, slots=True)
class Done:
    """What has been done, as a sentence; `undo` takes it back, where that can be; `after` is what
    must not happen before the store has it for good. Not `changed`: all was so already."""

    said: str
    undo: Undo | None = None
    after: Callable[[], object] | None = None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Act:
    """`do` gets a job's id and the state in which it was chosen. One job is asked about before only
    in the states `asks`, many jobs always; `warning` says what follows. `backwards`: among many the
    last comes first."""

    verb: str
    past: str
    states: tuple[str, ...]
    do: Callable[[Store, int, str], Done]
    warning: str
    asks: tuple[str, ...] = ()
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an act on several jobs."""

    said: str
    undo: tuple[Undo, ...] = field(default=())
    refused: bool = False
    changed: bool = True


def carry_out(act: Act, targets: Mapping[int, str], store: Store) -> Outcome:
    """Do it to each job; what the store refuses is told, the rest is done. Raises Refused or
    NotFound when there is no rest, StoreError when the store itself fails."""
    from obstui.store import BATCH, NotFound, Refused

    done: list[Done] = []
    refused: list[Problem] = []
    order = sorted(targets, reverse=act.backwards)
    for start in range(0, len(order), BATCH):
        batch: list[Done] = []
        with store.together():
            for job_id in order[start : start + BATCH]:
                try:
                    batch.append(act.do(store, job_id, targets[job_id]))
                except (NotFound, Refused) as err:
                    refused.append(err)
        for each in batch:
            if each.after is not None:
                each.after()
        done += batch
    if refused and not done:
        raise (
            refused[0]
            if len(refused) == 1
            else Refused(f"{act.verb}: refused for all {len(refused):,} jobs: {refused[0]}")
        )
    words = done[0].said if len(targets) == 1 else f"{len(done):,} jobs {act.past}."
    if refused:
        words += f" {len(refused):,} not: {refused[0]}"
    undo = tuple(each.undo for each in reversed(done) if each.undo is not None)
    return Outcome(words, undo, bool(refused), any(each.changed for each in done))


def take_back(undo: Sequence[Undo], store: Store) -> int:
    """Run them; how many the store refused, because something else has happened since."""
    from obstui.store import BATCH, NotFound, Refused

    refused = 0
    for start in range(0, len(undo), BATCH):
        with store.together():
            for each in undo[start : start + BATCH]:
                try:
                    each(store)
                except (NotFound, Refused):
                    refused += 1
    return refused


def _pause(store: Store, job_id: int, state: str) -> Done:
    live = store.pause(job_id).live
    said = f"Job {job_id} saves its work and pauses." if live else f"Job {job_id} held."
    return Done(said, lambda s: s.resume(job_id))


def _resume(store: Store, job_id: int, state: str) -> Done:
    store.resume(job_id)
    words = "released" if state == "held" else "goes on"
    # What runs since then is not stopped by a u that was meant for something else.
    return Done(f"Job {job_id} {words}.", lambda s: s.pause(job_id, begun=state == "pausing"))


def _cancel(store: Store, job_id: int, state: str) -> Done:
    if store.cancel(job_id).live:
        return Done(f"Job {job_id} was asked to end.")

    def again(s: Store) -> None:
        s.retry(job_id)
        if state != "queued":
            s.pause(job_id)

    return Done(f"Job {job_id} cancelled.", again)


def _retry(store: Store, job_id: int, state: str) -> Done:
    store.retry(job_id)
    return Done(f"Job {job_id} queued again.")


def _remove(store: Store, job_id: int, state: str) -> Done:
    from obstui.retention import delete_files

    job = store.remove(job_id)
    return Done(f"Job {job_id} removed, with its files.",
                after=lambda: delete_files(store.paths, job))  # fmt: skip


PAUSE = Act(
    "Pause",
    "held or asked to pause",
    ("queued", "starting", "running"),
    _pause,
    "Those that wait are held; those that run save their work. p lets them go on.",
)
RESUME = Act(
    "Resume",
    "may go on",
    ("held", "paused", "pausing"),
    _resume,
    "They go on where they were as soon as their turn comes.",
)
CANCEL = Act(
    "Cancel",
    "cancelled or asked to end",
    (*WAITING, *LIVE),
    _cancel,
    "Those that run save what they have and end; Retry goes on from there.",
    asks=LIVE,
)
RETRY = Act(
    "Retry",
    "queued again",
    ("failed", "cancelled", "skipped", "quarantined"),
    _retry,
    "Finished work on the disk is used again.",
)
REMOVE = Act(
    "Remove",
    "removed, with their files",
    (*WAITING, *OVER),
    _remove,
    "History, log, variants and pictures go from the disk. This cannot be undone.",
    asks=(*WAITING, *OVER),
    backwards=True,
)


def priority(step: int) -> Act:
    """Raise (or, below 0, lower) the priority."""

    def do(store: Store, job_id: int, state: str) -> Done:
        now = store.raise_priority(job_id, step).priority
        return Done(f"Job {job_id} has priority {now}.",
                    lambda s: s.raise_priority(job_id, -step))  # fmt: skip

    return Act(
        "Raise" if step > 0 else "Lower",
        f"have a {'higher' if step > 0 else 'lower'} priority",
        WAITING,
        do,
        f"The priority, by {abs(step)}: higher runs earlier.",
    )


FAR = 1 << 40


def shift(places: int) -> Act:
    """Move so many places later (below 0: sooner) among the jobs of the same priority."""
    where = "first" if places < 0 else "last"

    def do(store: Store, job_id: int, state: str) -> Done:
        moved = store.shift(job_id, places)
        if not moved:
            words = f"Job {job_id} is the {where} of its priority already."
            return Done(words, changed=False)
        how = "sooner" if moved < 0 else "later"
        by = "1 place" if abs(moved) == 1 else f"{abs(moved):,} places"
        if abs(places) == FAR:
            by, how = where, "of its priority"
        return Done(f"Job {job_id} now starts {by} {how}.", lambda s: s.shift(job_id, -moved))

    return Act("Move", "moved", WAITING, do, "Their order among themselves stays.",
               backwards=places < 0)  # fmt: skip
