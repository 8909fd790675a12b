"""submit: a job file becomes jobs, all or none."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from obstui.cli import output
from obstui.cli.output import as_dict, emit, json_option, say
from obstui.config import Paths
from obstui.job_files import EXAMPLE, JobFile, read_job_file
from obstui.options import duration
from obstui.store import Store
from obstui.text import one_line


def _print_example(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(EXAMPLE.read_text(encoding="utf-8"), nl=False)
        ctx.exit()


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be queued, and queue nothing.")
@click.option(
    "--example",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_example,
    help="Print a job file with notes.",
)
@json_option
@click.pass_obj
def submit(paths: Paths, file: Path, dry_run: bool, as_json: bool) -> None:
    """Queue one job or a sweep from a YAML file: all of it, or nothing.

    \b
    For example:
      kind: prune
      sparsity: [0.1, 0.3]
      matrix: {damping: [0.01, 0.05]}
      max_runtime: 8h
    """
    asked = read_job_file(file)
    _check_tokens(asked)
    if dry_run:
        _try(paths, asked)
        _tell(asked, as_json)
        return
    with Store.open(paths.ensure()) as store:
        jobs = store.enqueue_all(asked.jobs, sweep=asked.sweep)
    if as_json:
        emit([as_dict(job) for job in jobs])
    elif asked.sweep is None:
        say(f"Queued as job {jobs[0].id}: {output.title(jobs[0])}.")
    else:
        say(
            f"Queued {len(jobs)} jobs, {jobs[0].id} to {jobs[-1].id}, "
            f"as sweep {jobs[0].sweep_id}: {one_line(asked.sweep, limit=60)}."
        )


def _check_tokens(asked: JobFile) -> None:
    from obstui.plan import CannotPlan, check_tokens

    for job in asked.jobs:
        try:
            check_tokens(job.spec)
        except CannotPlan as err:
            raise CannotPlan(f"{job.origin}: {err}") from None


def _try(paths: Paths, asked: JobFile) -> None:
    """Have the store refuse what it would refuse; where there is none, an empty one."""
    with TemporaryDirectory() as folder:
        empty = Paths(Path(folder), Path(folder) / "jobs.db")
        with Store.open(paths if paths.db.exists() else empty.ensure()) as store:
            store.enqueue_all(asked.jobs, sweep=asked.sweep, keep=False)


def _tell(asked: JobFile, as_json: bool) -> None:
    if as_json:
        emit([
            {"spec": job.spec.model_dump(mode="json"),
             "options": job.options.model_dump(mode="json")}
            for job in asked.jobs
        ])  # fmt: skip
        return
    rows = []
    for number, job in enumerate(asked.jobs):
        options = job.options
        needs = [ref for ref in job.spec.variant_refs if "@" in ref] + list(options.after)
        rows.append((
            f"#{number}", job.spec.kind, one_line(job.spec.name or job.spec.title, limit=60),
            ", ".join(needs), options.window or "",
            duration(options.max_runtime) if options.max_runtime else "",
        ))  # fmt: skip
    click.echo(output.table(("JOB", "KIND", "NAME", "NEEDS", "WINDOW", "AT MOST"), rows))
    what = "job" if len(rows) == 1 else f"jobs of the sweep {one_line(asked.sweep, limit=60)}"
    say(f"{len(rows)} {what} would be queued; nothing was.")
