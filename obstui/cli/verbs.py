"""The verbs that change jobs in the queue: cancel, pause, resume, retry, priority, move, rm."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from obstui.cli.output import as_dict, ask, emit, json_option, say
from obstui.config import Paths
from obstui.errors import Problem
from obstui.lookup import checked
from obstui.retention import forget
from obstui.specs import KINDS, BadSpec
from obstui.store import BATCH, JobView, NotFound, Reader, Store, StoreError
from obstui.store.stops import BY_HAND, QUEUE
from obstui.store.views import STATES
from obstui.text import counted, one_line

MAX_RANGE = 10_000


class _Ids(click.ParamType[Sequence[int]]):
    """ "12" or "3-7"."""

    name = "ids"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Sequence[int]:
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", str(value))
        if not match:
            self.fail(f"{one_line(value, limit=40)} is no job: write 12, or 3-7 for several.")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < first + MAX_RANGE:
            self.fail(f"{value}: write the lower number first, at most {MAX_RANGE:,} jobs.")
        return range(first, last + 1)


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments that say which jobs; `which` reads them."""
    for option in (
        click.option("--sweep", type=int, help="All jobs of a sweep that this can be done to."),
        click.option("--state", type=click.Choice(STATES), help="All jobs in this state."),
        click.argument("ids", type=_Ids(), nargs=-1, metavar="[ID | FROM-TO]..."),
    ):
        command = option(command)
    return command


def _which(
    paths: Paths, ids: Sequence[Sequence[int]], state: str | None, sweep: int | None
) -> list[int]:
    """The ids asked for: those named, and those that exist of each range. Raises UsageError,
    NotFound."""
    if not ids and state is None and sweep is None:
        raise click.UsageError("Say which: ID..., a range such as 3-7, --state or --sweep.")
    if ids and (state or sweep is not None):
        raise click.UsageError("Give either ids, or --state and --sweep.")
    reader = Reader.open(paths)
    try:
        if not ids:
            states = None if state is None else [state]
            found = reader.jobs(states=states, sweep=sweep, limit=100_000, newest_first=False)
            if not found:
                raise NotFound("No job is like that: obstui ls lists them.")
            return [job.id for job in found]
        wanted: dict[int, None] = {}
        for part in ids:
            there = [n for n in part if len(part) == 1 or reader.job(n) is not None]
            if not there:
                raise NotFound(f"There is no job from {part[0]} to {part[-1]}.")
            wanted |= dict.fromkeys(there)
        return list(wanted)
    finally:
        reader.close()


def _for_each(
    paths: Paths, ids: Sequence[int], act: Callable[[Store, int], JobView], *, as_json: bool
) -> None:
    """Do what was asked to each job; what cannot be done is said and decides the exit code."""
    done: list[JobView] = []
    refused: list[Problem] = []
    with Store.open(paths.ensure()) as store:
        for start in range(0, len(ids), BATCH):
            with store.together():
                for job_id in ids[start : start + BATCH]:
                    try:
                        done.append(act(store, job_id))
                    except Problem as err:
                        if len(ids) == 1 or type(err) is StoreError:
                            raise  # with a store that fails, nothing of the batch is done
                        refused.append(err)
    for problem in refused:
        say(f"obstui: {problem}")
    if as_json:
        emit([as_dict(job) for job in done])
    else:
        for job in done:
            wish = {"cancel": "cancelled", "pause": "paused"}.get(job.desired)
            pending = f" and will be {wish}, unless it is done before" if job.live and wish else ""
            say(f"Job {job.id} is {job.state}{pending}.")
    if refused:
        raise click.exceptions.Exit(refused[0].exit_code)


@click.command()
@_chosen
@json_option
@click.pass_obj
def cancel(paths: Paths, ids: Any, state: str | None, sweep: int | None, as_json: bool) -> None:
    """Cancel jobs; a running one stops at its next boundary, or at once if asked twice."""
    _for_each(paths, _which(paths, ids, state, sweep), Store.cancel, as_json=as_json)


@click.command()
@_chosen
@click.option("--queue", is_flag=True, help="The whole queue: nothing starts until resumed.")
@click.option("--now", is_flag=True, help="With --queue: checkpoint what runs, too.")
@json_option
@click.pass_obj
def pause(
    paths: Paths,
    ids: Any,
    state: str | None,
    sweep: int | None,
    queue: bool,
    now: bool,
    as_json: bool,
) -> None:
    """Pause jobs (checkpoint and free the device), or the queue."""
    if now and not queue:
        raise click.UsageError("--now goes with --queue: a job is paused at once in any case.")
    if not queue:
        _for_each(paths, _which(paths, ids, state, sweep), Store.pause, as_json=as_json)
        return
    if ids or state or sweep is not None:
        raise click.UsageError("--queue is the whole queue: leave the jobs out.")
    with Store.open(paths.ensure()) as store:
        store.stop(QUEUE, BY_HAND, urgent=now)
    say("The queue is paused; " + ("running jobs stop." if now else "running jobs end as usual."))


@click.command()
@_chosen
@click.option("--queue", is_flag=True, help="The queue, after pause --queue.")
@click.option("--device", metavar="DEVICE", help="A device that was stopped after failures.")
@json_option
@click.pass_obj
def resume(
    paths: Paths,
    ids: Any,
    state: str | None,
    sweep: int | None,
    queue: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Let paused or held jobs go on, or the queue, or a stopped device."""
    if not queue and device is None:
        _for_each(paths, _which(paths, ids, state, sweep), Store.resume, as_json=as_json)
        return
    if ids or state or sweep is not None:
        raise click.UsageError("Give either jobs, or --queue, or --device.")
    with Store.open(paths.ensure()) as store:
        for scope in filter(None, (QUEUE if queue else None, device)):
            what = "The queue" if scope == QUEUE else f"The device {one_line(scope, limit=80)}"
            stopped = store.go(scope)
            if not stopped and scope != QUEUE:
                raise NotFound(f"{what} is not stopped.")
            say(f"{what} goes on." if stopped else f"{what} was not paused.")


@click.command()
@_chosen
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change the job first: damping=0.05, max_runtime=8h. May be repeated.",
)
@json_option
@click.pass_obj
def retry(
    paths: Paths,
    ids: Any,
    state: str | None,
    sweep: int | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Queue failed or cancelled jobs again; finished units are kept."""
    new = dict(_change(text) for text in changes)
    with Reader.open(paths) as reader:

        def again(store: Store, job_id: int) -> JobView:
            job = reader.job(job_id)
            return store.retry(job_id, _looked_up(job, new) if job and new else new)

        _for_each(paths, _which(paths, ids, state, sweep), again, as_json=as_json)


def _looked_up(job: JobView, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes with what they name as the worker will find it; what would fail in the night is
    refused now, as for a new job. Raises BadSpec, NoSuchModel, CannotPlan."""
    from obstui.plan import check_tokens

    fields = changes.keys() & KINDS[job.kind].model_fields.keys() - {"kind"}
    if not fields:
        return changes
    spec = checked({**job.spec, **{name: changes[name] for name in fields}})
    check_tokens(spec)
    return {**changes, **{name: getattr(spec, name) for name in fields}}


def _change(text: str) -> tuple[str, Any]:
    """ "damping=0.05" as field and value; the value is read as in a job file."""
    import yaml

    field, equals, value = text.partition("=")
    if not equals or not field.strip() or len(value) > 4096:
        raise BadSpec(f"--set {one_line(text, limit=60)}: write FIELD=VALUE, such as damping=0.05.")
    try:
        found = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        found = value
    return field.strip(), found


# Without options of its own but --help: what begins with a dash is a number below 0.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("job_id", type=int, metavar="ID")
@click.argument("number", type=int, metavar="NUMBER")
@click.pass_obj
def priority(paths: Paths, job_id: int, number: int) -> None:
    """Set a job's priority: higher runs first, 0 is usual."""
    with Store.open(paths.ensure()) as store:
        job = store.set_priority(job_id, number)
    say(f"Job {job.id} has priority {job.priority}.")


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.option("--before", type=int, metavar="ID", help="The job that it goes before.")
@click.option("--first", is_flag=True, help="Before all others of its priority.")
@click.pass_obj
def move(paths: Paths, job_id: int, before: int | None, first: bool) -> None:
    """Give a waiting job another place in the queue."""
    if (before is None) != first:
        raise click.UsageError("Say where to: --before ID, or --first.")
    with Store.open(paths.ensure()) as store:
        job = store.place(job_id, before=before)
    where = "first" if first else f"before job {before}"
    say(f"Job {job.id} comes {where} (priority {job.priority}).")


@click.command()
@_chosen
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(paths: Paths, ids: Any, state: str | None, sweep: int | None, yes: bool) -> None:
    """Remove jobs and their files, variants and pictures among them."""
    wanted = _which(paths, ids, state, sweep)
    with Store.open(paths.ensure()) as store, Reader.open(paths) as reader:
        jobs = []
        for job_id in wanted:
            job = reader.job(job_id)
            if job is None:
                raise NotFound(f"There is no job {job_id}: obstui ls lists them.")
            jobs.append(job)
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("Nobody is there to ask: give --yes to remove them.")
            whose = "its" if len(jobs) == 1 else "their"
            ask(
                f"Remove {counted(len(jobs), 'job')} with all {whose} files?",
                otherwise="Nothing was removed.",
            )
        for job in reversed(jobs):  # those that need others before the others
            forget(store, job.id)
            say(f"Removed job {job.id}.")
