"""ls, show, logs, wait: what is in the queue."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import click

from obstui.cli import output
from obstui.cli.output import as_dict, emit, json_option, say
from obstui.config import Paths
from obstui.options import JobOptions, duration
from obstui.specs import parse_variant_id
from obstui.store import JobView, NotFound, Reader
from obstui.store.views import STATES
from obstui.text import one_line, plain


def _found(reader: Reader, job_id: int) -> JobView:
    job = reader.job(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}: obstui ls lists them.")
    return job


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these.")
@click.option("--sweep", type=int, help="Only the jobs of this sweep.")
@click.option("--sweeps", is_flag=True, help="The sweeps instead, each with its jobs counted.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
@click.pass_obj
def ls(
    paths: Paths,
    states: tuple[str, ...],
    sweep: int | None,
    sweeps: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    if sweeps:
        _list_sweeps(paths, as_json)
        return
    if not paths.db.exists():
        jobs: list[JobView] = []
    else:
        reader = Reader.open(paths)
        jobs = reader.jobs(states=states or None, sweep=sweep, limit=limit)
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


def _list_sweeps(paths: Paths, as_json: bool) -> None:
    sweeps = []
    if paths.db.exists():
        with Reader.open(paths) as reader:
            sweeps = reader.sweeps()
    if as_json:
        emit([
            {"id": s.id, "name": s.name, "created_at": s.created_at, "counts": s.counts}
            for s in sweeps
        ])  # fmt: skip
    elif not sweeps:
        say("No sweeps yet: obstui submit FILE.yaml queues one.")
    else:
        rows = [
            (str(s.id), str(sum(s.counts.values())),
             ", ".join(f"{number} {state}" for state, number in sorted(s.counts.items())),
             one_line(s.name, limit=60))
            for s in sweeps
        ]  # fmt: skip
        click.echo(output.table(("SWEEP", "JOBS", "STATES", "NAME"), rows, "SWEEP,JOBS"))


def _as_file(job: JobView, needs: list[int]) -> str:
    """A job as a file for `obstui submit`."""
    from obstui.job_files import as_yaml

    refs = job.spec.get("variants") or [job.spec.get("variant") or ""]
    makers = {named[0] for named in map(parse_variant_id, refs) if named}
    options = JobOptions(
        priority=job.priority,
        held=job.state == "held",
        window=job.window,
        max_runtime=job.max_runtime,
        after=tuple(str(parent) for parent in needs if parent not in makers),
    )
    return as_yaml(job.spec, options)


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.option("--yaml", "as_file", is_flag=True, help="As a file that obstui submit takes.")
@json_option
@click.pass_obj
def show(paths: Paths, job_id: int, as_file: bool, as_json: bool) -> None:
    """Show one job: state, result, what went wrong."""
    reader = Reader.open(paths)
    job = _found(reader, job_id)
    attempts = reader.attempts(job_id)
    needs = reader.needs(job_id)
    reader.close()
    if as_file:
        click.echo(_as_file(job, needs), nl=False)
        return
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
        ("window", job.window or ""),
        ("at most", duration(job.max_runtime) if job.max_runtime else ""),
        ("after", ", ".join(f"job {parent}" for parent in needs)),
        ("sweep", str(job.sweep_id or "")),
        ("files", str(paths.job(job.ulid)) if attempts else ""),
    ]
    for name, value in lines:
        if value:
            click.echo(f"{name:>8}  {one_line(value)}")
    result = job.result or {}
    if result.get("variants"):
        click.echo("\n" + variant_table(result["variants"]))
    if result.get("models"):
        click.echo("\n" + model_table(result["models"], result.get("reseed")))
    if result.get("images"):
        count = len(result["images"])
        click.echo(f"\n{count} picture{'s' if count > 1 else ''} below {paths.output(job.ulid)}")


def variant_table(variants: Iterable[dict[str, Any]]) -> str:
    """A prune job's variants: errors of the layers on the calibration prompts and on held-out
    ones, and of the UNet's prediction on these."""
    rows = [
        (v["id"], f"{v['sparsity']:.0%}", output.count(v["params"]), output.size(v["size_bytes"]),
         _number(v.get("mean_error"), ".3f"), _number(v.get("held_out_error"), ".3f"),
         _number(v.get("noise_error"), ".1e"), v["path"])
        for v in variants
    ]  # fmt: skip
    head = ("VARIANT", "SPARSITY", "PARAMS", "SIZE", "ERROR", "HELD OUT", "NOISE", "PATH")
    return output.table(head, rows, ",".join(head[1:-1]))


def model_table(models: Iterable[dict[str, Any]], reseed: dict[str, Any] | None = None) -> str:
    """A comparison's rows, the dense model first, and what another seed does for scale."""
    models = list(models)
    rows: list[tuple[str, ...]] = [
        (m["model"], m["method"] or "–", f"{m['sparsity']:.0%}", output.count(m["params"]),
         output.size(m["size_bytes"]), f"{m['latency']:.3f} s", _number(m["psnr"], ".1f"),
         _number(m["ssim"], ".3f"), _number(m["latent_distance"], ".1e"),
         _number(m["attributes"], ".0%"), _number(m.get("clip"), ".1f"))
        for m in models
    ]  # fmt: skip
    head: tuple[str, ...] = (
        "MODEL", "METHOD", "SPARSITY", "PARAMS", "SIZE", "PER IMAGE", "PSNR", "SSIM",
        "LATENT DIST", "ATTRIBUTES", "CLIP",
    )  # fmt: skip
    if all(m.get("clip") is None for m in models):
        head, rows = head[:-1], [row[:-1] for row in rows]
    text = output.table(head, rows, ",".join(head[2:]))
    if reseed and reseed.get("psnr") is not None:
        text += (
            f"\nFor scale: another seed of the dense model is {reseed['psnr']:.1f} dB, SSIM "
            f"{reseed['ssim']:.3f}, latent distance {reseed['latent_distance']:.1e} away "
            f"({reseed['pictures']} pictures)."
        )
    return text


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


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
