"""ls, show, logs, wait and the verbs that change a waiting or running job."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from obstui.cli import output
from obstui.cli.output import as_dict, emit, json_option, say
from obstui.config import Paths
from obstui.store import JobView, NotFound, Reader, Store
from obstui.store.views import STATES
from obstui.text import one_line, plain

ids_argument = click.argument("ids", type=int, nargs=-1, required=True, metavar="ID...")


def _found(reader: Reader, job_id: int) -> JobView:
    job = reader.job(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}: obstui ls lists them.")
    return job


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
@click.pass_obj
def ls(paths: Paths, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    if not paths.db.exists():
        jobs: list[JobView] = []
    else:
        reader = Reader.open(paths)
        jobs = reader.jobs(states=states or None, limit=limit)
        reader.close()
    if as_json:
        emit([as_dict(job) for job in jobs])
    elif not jobs:
        say("No jobs yet: obstui demo shows the whole thing, obstui prune queues one.")
    else:
        rows = [
            (str(job.id), job.kind, output.state(job), output.progress(job), output.took(job),
             one_line(output.title(job), limit=60))
            for job in jobs
        ]  # fmt: skip
        click.echo(output.table(("ID", "KIND", "STATE", "NOW", "TIME", "NAME"), rows, "ID,TIME"))


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@json_option
@click.pass_obj
def show(paths: Paths, job_id: int, as_json: bool) -> None:
    """Show one job: state, result, what went wrong."""
    reader = Reader.open(paths)
    job = _found(reader, job_id)
    attempts = reader.attempts(job_id)
    reader.close()
    if as_json:
        emit({**as_dict(job), "log": str(paths.log(job.ulid, job.attempt)) if attempts else None})
        return
    lines = [
        ("job", f"{job.id}  {output.title(job)}"),
        ("state", output.state(job) + (f" ({job.reason})" if job.reason else "")),
        ("waits", job.blocked or ""),
        ("now", output.progress(job)),
        ("error", job.error or ""),
        ("time", output.took(job)),
        ("attempt", f"{job.attempt} on {job.device}" if job.attempt and job.device else ""),
        ("files", str(paths.job(job.ulid)) if attempts else ""),
    ]
    for name, value in lines:
        if value:
            click.echo(f"{name:>8}  {one_line(value)}")
    result = job.result or {}
    if result.get("variants"):
        click.echo("\n" + variant_table(result["variants"]))
    if result.get("models"):
        click.echo("\n" + model_table(result["models"]))
    if result.get("images"):
        count = len(result["images"])
        click.echo(f"\n{count} picture{'s' if count > 1 else ''} below {paths.output(job.ulid)}")


def variant_table(variants: Iterable[dict[str, Any]]) -> str:
    """A prune job's variants."""
    rows = [
        (v["id"], f"{v['sparsity']:.0%}", output.count(v["params"]), output.size(v["size_bytes"]),
         f"{v['mean_error']:.3f}" if v.get("mean_error") is not None else "–", v["path"])
        for v in variants
    ]  # fmt: skip
    return output.table(("VARIANT", "SPARSITY", "PARAMS", "SIZE", "ERROR", "PATH"), rows,
                        "SPARSITY,PARAMS,SIZE,ERROR")  # fmt: skip


def model_table(models: Iterable[dict[str, Any]]) -> str:
    """A comparison's rows, the dense model first."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    rows = [
        (m["model"], m["method"] or "–", f"{m['sparsity']:.0%}", output.count(m["params"]),
         output.size(m["size_bytes"]), f"{m['latency']:.3f} s", number(m["psnr"], ".1f"),
         number(m["ssim"], ".3f"), number(m["latent_distance"], ".1e"),
         number(m["attributes"], ".0%"))
        for m in models
    ]  # fmt: skip
    head = ("MODEL", "METHOD", "SPARSITY", "PARAMS", "SIZE", "PER IMAGE", "PSNR", "SSIM",
            "LATENT DIST", "ATTRIBUTES")  # fmt: skip
    return output.table(head, rows, ",".join(head[2:]))


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.option("--attempt", type=int, help="Which attempt (default: the newest).")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the job is finished.")
@click.pass_obj
def logs(paths: Paths, job_id: int, attempt: int | None, follow: bool) -> None:
    """Print what a job's process wrote."""
    reader = Reader.open(paths)
    job = _found(reader, job_id)
    path = paths.log(job.ulid, attempt or job.attempt)
    if not follow and not path.exists():
        raise NotFound(f"Job {job_id} has no log yet: it is {job.state}.")
    if not follow and not path.stat().st_size:
        say(f"The log of job {job_id} is empty: its process had nothing to say.")
    offset = 0
    while True:
        job = _found(reader, job_id)
        if path.exists():
            with path.open("rb") as file:
                file.seek(offset)
                chunk = file.read()
            # Only whole lines, so that no character or escape sequence is judged in halves.
            end = chunk.rfind(b"\n") + 1 if follow and not job.finished else len(chunk)
            click.echo(plain(chunk[:end].decode("utf-8", "replace")), nl=False)
            offset += end
        if not follow or job.finished:
            break
        time.sleep(0.25)
    reader.close()


@click.command()
@click.argument("ids", type=int, nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="Every job that is not finished.")
@json_option
@click.pass_obj
def wait(paths: Paths, ids: tuple[int, ...], every: bool, as_json: bool) -> None:
    """Wait until jobs are finished; exit 1 if one of them did not succeed."""
    from obstui.cli.watch import follow

    if not ids and not every:
        raise click.UsageError("Say which: obstui wait ID..., or obstui wait --all.")
    if every:
        reader = Reader.open(paths)
        ids += tuple(j.id for j in reader.jobs(limit=100_000) if not j.finished)
        reader.close()
    jobs = follow(paths, list(dict.fromkeys(ids)), quiet=as_json)
    if as_json:
        emit([as_dict(job) for job in jobs])
    if any(job.state != "succeeded" for job in jobs):
        raise click.exceptions.Exit(1)


def _verb(name: str, help_text: str, act: Callable[[Store, int], JobView]) -> click.Command:
    @click.command(name, help=help_text)
    @ids_argument
    @json_option
    @click.pass_obj
    def command(paths: Paths, ids: tuple[int, ...], as_json: bool) -> None:
        store = Store.open(paths.ensure())
        try:
            done = [act(store, job_id) for job_id in ids]
        finally:
            store.close()
        if as_json:
            emit([as_dict(job) for job in done])
            return
        for job in done:
            wish = {"cancel": "cancelled", "pause": "paused"}.get(job.desired)
            pending = f" and will be {wish}" if job.live and wish else ""
            say(f"Job {job.id} is {job.state}{pending}.")

    return command


cancel = _verb("cancel", "Cancel jobs; a running one stops at its next boundary.", Store.cancel)
pause = _verb("pause", "Pause jobs: checkpoint and free the device.", Store.pause)
resume = _verb("resume", "Let paused or held jobs go on.", Store.resume)
retry = _verb(
    "retry", "Queue failed or cancelled jobs again; finished units are kept.", Store.retry
)


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.argument("number", type=click.IntRange(-1000, 1000), metavar="NUMBER")
@click.pass_obj
def priority(paths: Paths, job_id: int, number: int) -> None:
    """Set a job's priority: higher runs first, 0 is usual."""
    store = Store.open(paths.ensure())
    try:
        job = store.set_priority(job_id, number)
    finally:
        store.close()
    say(f"Job {job.id} has priority {job.priority}.")


@click.command()
@ids_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(paths: Paths, ids: tuple[int, ...], yes: bool) -> None:
    """Remove jobs and their files, variants and pictures among them."""
    store, reader = Store.open(paths.ensure()), Reader.open(paths)
    try:
        jobs = [_found(reader, job_id) for job_id in ids]
        if not yes:
            click.confirm(f"Remove {len(jobs)} job(s) with all their files?", abort=True, err=True)
        for job in jobs:
            store.remove(job.id)
            shutil.rmtree(paths.job(job.ulid), ignore_errors=True)
            say(f"Removed job {job.id}.")
    finally:
        reader.close()
        store.close()
