"""ls, show, logs, wait: what is in the queue."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from obstui.asked import settings
from obstui.cli import output
from obstui.cli.output import as_dict, emit, json_option, say
from obstui.config import Paths
from obstui.options import duration
from obstui.picture_files import INSIDE
from obstui.spread import NOISE, unsure
from obstui.store import JobView, NotFound, Reader, endings, search
from obstui.store.views import LIVE, STATES, WAITING
from obstui.text import counted, one_line, plain


def _found(reader: Reader, job_id: int) -> JobView:
    job = reader.job(job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}: obstui ls lists them.")
    return job


@click.command()
@click.argument("words", nargs=-1, metavar="[FILTER]...")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES),
              help="Only jobs in this state; may be repeated.")  # fmt: skip
@click.option("--sweep", type=int, help="Only the jobs of this sweep.")
@click.option("--sweeps", is_flag=True, help="The sweeps instead, each with its jobs counted.")
@click.option("--queue", is_flag=True, help="What runs, then what waits, the next one first.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True,
              help="At most so many.")  # fmt: skip
@json_option
@click.pass_obj
def ls(
    paths: Paths,
    words: tuple[str, ...],
    states: tuple[str, ...],
    sweep: int | None,
    sweeps: bool,
    queue: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first; or the queue in its order.

    FILTER narrows them: state:failed kind:prune model:demo sweep:3 sparsity>0.2 priority>=2 age<1d
    took>30m, or any text; every word must hold, -word turns it round. Quote < and > in a shell.
    """
    terms = search.parse(" ".join(words))
    if (queue or sweeps) and terms:
        raise click.UsageError("A filter goes with neither --queue nor --sweeps.")
    if queue and (sweeps or states or sweep is not None):
        raise click.UsageError("--queue is the whole queue: leave the other choices out.")
    if sweeps:
        _list_sweeps(paths, as_json)
        return
    if queue:
        _list_queue(paths, limit, as_json)
        return
    if not paths.expects_store:
        jobs: list[JobView] = []
    else:
        reader = Reader.open(paths)
        if states:
            terms += (search.Term("state", "=", states),)
        if sweep is not None:
            terms += search.parse(f"sweep:{sweep}")
        listing = search.Listing(terms, "id", reverse=True, limit=limit)
        jobs = list(reader.find(listing).jobs)
        reader.close()
    if as_json:
        emit([as_dict(job) for job in jobs])
    elif not jobs and terms:
        say("No job is like that.")
    elif not jobs:
        say(output.NO_JOBS)
    else:
        rows = [
            (str(job.id), job.kind, output.state(job), output.progress(job), output.took(job),
             one_line(output.title(job), limit=60))
            for job in jobs
        ]  # fmt: skip
        click.echo(output.table(("ID", "KIND", "STATE", "NOW", "TIME", "NAME"), rows, "ID,TIME"))
        for job in jobs:
            if job.live and job.blocked:
                say(f"Job {job.id} stands still: {job.blocked}.")


def _list_queue(paths: Paths, limit: int, as_json: bool) -> None:
    """What is not finished, in the order in which a worker takes it."""
    jobs: list[JobView] = []
    if paths.expects_store:
        with Reader.open(paths) as reader:
            jobs = reader.in_order((*LIVE, *WAITING))
    queued = [job.id for job in jobs if job.state == "queued"]
    places = {job_id: place for place, job_id in enumerate(queued, 1)}
    shown = jobs[:limit]
    if as_json:
        emit([as_dict(job) | {"place": places.get(job.id)} for job in shown])
    elif not jobs:
        say("Nothing runs and nothing waits: obstui ls shows what was.")
    else:
        rows = [
            (str(places.get(job.id, "")), str(job.id), job.kind, output.state(job),
             str(job.priority), job.window or "", one_line(output.title(job), limit=40),
             output.standstill(job) or output.progress(job))
            for job in shown
        ]  # fmt: skip
        head = ("PLACE", "ID", "KIND", "STATE", "PRIORITY", "WINDOW", "NAME", "NOW")
        click.echo(output.table(head, rows, "PLACE,ID,PRIORITY"))
        if len(jobs) > limit:
            say(f"And {len(jobs) - limit} more: --limit {len(jobs)} shows all.")


def _list_sweeps(paths: Paths, as_json: bool) -> None:
    sweeps = []
    if paths.expects_store:
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
    facts = reader.events(job_id, attempt=job.attempt, kinds=["note"])
    notes = list(dict.fromkeys(str(fact.payload.get("text", "")) for fact in facts))
    reader.close()
    if as_file:
        from obstui.again import options_of
        from obstui.job_files import as_yaml

        click.echo(as_yaml(job.spec, options_of(job, needs)), nl=False)
        return
    if as_json:
        emit(
            {
                **as_dict(job),
                "log": str(paths.log(job.ulid, job.attempt)) if attempts else None,
                "notes": notes,
                "attempts": [asdict(attempt) for attempt in attempts],
            }
        )
        return
    lines = [
        ("job", f"{job.id}  {output.title(job)}"),
        ("asks", _asked(job)),
        ("prompts", _prompts(job)),
        ("state", output.state(job) + (f" ({job.reason})" if job.reason else "")),
        ("waits", output.standstill(job)),
        ("now", output.progress(job)),
        ("error", job.error or ""),
        ("time", output.took(job)),
        ("attempt", f"{job.attempt} on {job.device}" if job.attempt and job.device else ""),
        *(
            (how, output.ending(attempt, told=job.error))
            for attempt in attempts
            if (how := endings.how(attempt))
        ),
        ("window", job.window or ""),
        ("at most", duration(job.max_runtime) if job.max_runtime else ""),
        ("after", ", ".join(f"job {parent}" for parent in needs)),
        ("sweep", str(job.sweep_id or "")),
        ("files", str(folder) if (folder := paths.job(job.ulid)).is_dir() else ""),
        *(("note", note) for note in notes),
    ]
    for name, value in lines:
        if value:
            click.echo(f"{name:>8}  {one_line(value)}")
    result = job.result or {}
    if result.get("variants"):
        click.echo("\n" + variant_table(result["variants"]))
    if result.get("models"):
        click.echo("\n" + model_table(result))
    if result.get("latency"):
        click.echo("\n" + latency_table(result["latency"]))
    if result.get("export"):
        click.echo("\n" + export_table(result["export"]))
    if result.get("images"):
        inside = str(result["images"][0].get("path")).startswith(INSIDE)
        where = "inside the store" if inside else f"below {paths.output(job.ulid)}"
        click.echo(f"\n{counted(len(result['images']), 'picture')} {where}")


def _asked(job: JobView) -> str:
    """The settings that were chosen; the rest is as usual, and `_prompts` counts the prompts."""
    chosen, _ = settings(job.spec)
    return "; ".join(f"{name} {words}" for name, words in chosen if name != "num prompts")


def _prompts(job: JobView) -> str:
    """ "8: a red fox, ...", those that are used; nothing for a job without any."""
    given = job.spec.get("prompts") or ()
    most = job.spec.get("num_prompts")
    if job.spec.get("method") == "magnitude" or not (given or most):
        return ""
    used = given[:most]
    first = f": {one_line(used[0], limit=60)}" if used else ""
    return f"{len(used) or most}{first}{', ...' * (len(used) > 1)}"


def variant_table(variants: Iterable[dict[str, Any]]) -> str:
    """A prune job's variants: errors of the layers on the calibration prompts and on held-out
    ones, and of the UNet's prediction on these."""
    variants = list(variants)
    rows = [
        (v["id"], f"{v['sparsity'] * 100:g}%", _removed(v), output.count(v["params"]),
         output.size(v["size_bytes"]),
         _error(v.get("mean_error")), _error(v.get("held_out_error")),
         _number(v.get("noise_error"), ".1e"), _place(v["path"]))
        for v in variants
    ]  # fmt: skip
    head = ("VARIANT", "SPARSITY", "REMOVED", "PARAMS", "SIZE", "ERROR", "HELD OUT", "NOISE",
            "PATH")  # fmt: skip
    words = (
        "\nERROR is the layers' mean relative error on the calibration's prompts, HELD OUT on "
        "other prompts; NOISE that of the UNet's prediction there."
    )
    measured = any(v.get("mean_error") is not None for v in variants)
    return output.table(head, rows, ",".join(head[1:-1])) + (words if measured else "")


def _place(folder: str) -> str:
    return folder if Path(folder).is_dir() else f"not on this disk: {folder}"


def _removed(variant: dict[str, Any]) -> str:
    """The share of the dense parameters that is gone."""
    dense = variant.get("dense_params")
    return f"{1 - variant['params'] / dense:.1%}" if dense else "–"


def model_table(result: Mapping[str, Any]) -> str:
    """A comparison's rows, the dense model first, and what another seed does for scale."""
    models, reseed = list(result["models"]), result.get("reseed")
    noisy = unsure(result, "image_s")
    rows: list[tuple[str, ...]] = [
        (m["model"], m["method"] or "–", f"{m['sparsity']:.0%}", output.count(m["params"]),
         output.size(m["size_bytes"]),
         f"{'~' * (m['model'] in noisy)}{m['latency']:.3f} s", _number(m["psnr"], ".1f"),
         _number(m["ssim"], ".3f"), _number(m["latent_distance"], ".1e"),
         _number(m["attributes"], ".0%"), _number(m.get("clip"), ".1f"))
        for m in models
    ]  # fmt: skip
    head: tuple[str, ...] = (
        "MODEL", "METHOD", "SPARSITY", "PARAMS", "IN MEMORY", "PER IMAGE", "PSNR", "SSIM",
        "LATENT DIST", "ATTRIBUTES", "CLIP",
    )  # fmt: skip
    if all(m.get("clip") is None for m in models):
        head, rows = head[:-1], [row[:-1] for row in rows]
    text = output.table(head, rows, ",".join(head[2:]))
    if reseed and reseed.get("psnr") is not None:
        number = reseed["pictures"]
        text += (
            f"\nFor scale: another seed of the dense model is {reseed['psnr']:.1f} dB, SSIM "
            f"{reseed['ssim']:.3f}, latent distance {reseed['latent_distance']:.1e} away "
            f"({number} picture{'s' * (number > 1)})."
        )
    if noisy:
        text += f"\n{NOISE}"
    return text


def latency_table(rows: Iterable[dict[str, Any]]) -> str:
    """A benchmark's rows, the dense model first: medians, and quartiles as the spread."""
    rows = list(rows)
    dense = rows[0]
    noisy = unsure({"latency": rows}, "step_ms")

    def spread(row: dict[str, Any], what: str, form: str) -> str:
        return f"{row[f'{what}_low']:{form}}–{row[f'{what}_high']:{form}}"

    cells = [
        (r["model"], f"{r['sparsity']:.0%}", output.count(r["params"]),
         f"{r['step_ms']:.1f} ms", spread(r, "step_ms", ".1f"),
         f"{r['image_s']:.3f} s", spread(r, "image_s", ".3f"),
         f"{'~' * (r['model'] in noisy)}{dense['step_ms'] / r['step_ms']:.2f}x",
         f"{r['ideal']:.2f}x" if r["ideal"] else "–",
         output.size(r["peak_bytes"]) if r["peak_bytes"] is not None else "–")
        for r in rows
    ]  # fmt: skip
    head = (
        "MODEL", "SPARSITY", "PARAMS", "STEP", "QUARTILES", "PICTURE", "QUARTILES", "FASTER",
        "BY FLOP", "PEAK VRAM",
    )  # fmt: skip
    return (
        output.table(head, cells, ",".join(head[1:]))
        + f"\nMedians of {dense['repeats']} pictures of {dense['size']} x {dense['size']} in "
        f"{dense['steps']} steps, {dense['dtype']}, on {one_line(dense['device'], limit=80)}. "
        "FASTER is a step against the dense one's; BY FLOP is what fewer operations alone can give."
        + (f" {NOISE}" if noisy else "")
    )


def export_table(export: dict[str, Any]) -> str:
    """The files of an exported variant."""
    rows = [(f["name"], output.size(f["size_bytes"]), f["sha256"]) for f in export["files"]]
    words = f"{export['variant']} as {export['format']} in {one_line(export['folder'])}"
    return words + "\n" + output.table(("FILE", "SIZE", "SHA256"), rows, "SIZE")


def _error(value: float | None) -> str:
    """0.096, but 3.1e-04: an error that is small is not none."""
    return _number(value, ".1e" if value and value < 0.0005 else ".3f")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@click.option("--attempt", type=int, help="Which attempt [default: the newest].")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the job is finished.")
@click.pass_obj
def logs(paths: Paths, job_id: int, attempt: int | None, follow: bool) -> None:
    """Print what a job's process wrote."""
    reader = Reader.open(paths)
    job = _found(reader, job_id)
    number = attempt or job.attempt
    path = paths.log(job.ulid, number)
    if not follow and not path.exists():
        if attempt is not None and attempt != job.attempt:
            raise NotFound(
                f"Job {job_id} has no log of attempt {attempt}: its newest is {job.attempt}."
            )
        raise NotFound(f"Job {job_id} has no log yet: its state is {job.state}.")
    if not follow and not path.stat().st_size:
        say(f"The log of job {job_id} is empty: its process had nothing to say.")
    offset = 0
    while True:
        job = _found(reader, job_id)
        later = follow and attempt is None and job.attempt > number
        over = not follow or job.finished or later
        offset = _print_log(path, offset, whole=over)
        if over and (ended := _ended(reader, job_id, number)):
            say(ended)  # what ended a process from outside is in no log of its own
        if later:
            number, offset = job.attempt, 0
            path = paths.log(job.ulid, number)
        elif over:
            break
        else:
            time.sleep(0.25)
    reader.close()


def _print_log(path: Path, offset: int, *, whole: bool) -> int:
    """Print a log from there on, with a line that has no end yet only as a `whole`; returns how far
    it was printed."""
    if not path.exists():
        return offset
    with path.open("rb") as file:
        file.seek(offset)
        chunk = file.read()
    # Only whole lines, so that no character or escape sequence is judged in halves.
    end = len(chunk) if whole else chunk.rfind(b"\n") + 1
    click.echo(plain(chunk[:end].decode("utf-8", "replace")), nl=False)
    return offset + end


def _ended(reader: Reader, job_id: int, number: int) -> str:
    """How the attempt with this number ended, "" if it ended well or not yet."""
    for attempt in reader.attempts(job_id):
        if attempt.number == number and (how := endings.how(attempt)):
            return f"{how.capitalize()}: {output.ending(attempt)}"
    return ""


@click.command()
@click.argument("ids", type=int, nargs=-1, metavar="[ID]...")
@click.option(
    "--all", "every", is_flag=True, help="Every job that is not finished, held or paused."
)
@json_option
@click.pass_obj
def wait(paths: Paths, ids: tuple[int, ...], every: bool, as_json: bool) -> None:
    """Wait until jobs are finished; exit 1 if one of them did not succeed."""
    from obstui.cli.watch import follow

    if not ids and not every:
        raise click.UsageError("Say which: obstui wait ID..., or obstui wait --all.")
    if every:
        reader = Reader.open(paths)
        open_jobs = [job for job in reader.jobs(limit=100_000) if not job.finished]
        reader.close()
        still = [job.id for job in open_jobs if job.state in ("held", "paused")]
        if still:
            words = f"Not waited for, held or paused: {', '.join(map(str, still[:20]))}"
            click.echo(words + (" and more." if len(still) > 20 else "."), err=True)
        ids += tuple(job.id for job in open_jobs if job.id not in still)
    jobs = follow(paths, list(dict.fromkeys(ids)), quiet=as_json)
    if as_json:
        emit([as_dict(job) for job in jobs])
    if any(job.state != "succeeded" for job in jobs):
        raise click.exceptions.Exit(1)
