"""report: what happened since you were last here."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from obstui.cli import output
from obstui.cli.output import emit, json_option, say
from obstui.config import Paths
from obstui.finish import Finish
from obstui.options import seconds
from obstui.report import (
    FIRST_LOOK,
    SEEN,
    Report,
    collect,
    finish_of,
    first_look,
    last_seen,
    lost_words,
    shares,
)
from obstui.store import JobView, NotFound, Reader, Store
from obstui.text import counted, one_line


@click.command()
@click.option("--since", metavar="12h", help="How far back [default: since you last looked].")
@click.option("--markdown", is_flag=True, help="As Markdown.")
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A page to share instead: tables, charts and pictures in one file.",
)
@click.option("--sweep", type=int, help="With --html: only the jobs of this sweep.")
@click.option(
    "--job",
    "job_ids",
    type=int,
    multiple=True,
    metavar="ID",
    help="With --html: only this job; may be repeated.",
)
@json_option
@click.pass_obj
def report(
    paths: Paths,
    since: str | None,
    markdown: bool,
    html: Path | None,
    sweep: int | None,
    job_ids: tuple[int, ...],
    as_json: bool,
) -> None:
    """Since you were last here: finished, failed and why, what it cost, what is left.

    A report that is printed to a terminal counts as read; the next one begins where it ended.
    With --html, a page about the models that were made and measured, for others to read.
    """
    now = time.time()
    if html is not None:
        if markdown or as_json or since is not None:
            raise click.UsageError("--html writes a page: leave --markdown, --json and --since.")
        _write_page(paths, html, sweep, job_ids, now)
        return
    if sweep is not None or job_ids:
        raise click.UsageError("--sweep and --job are for the page that --html writes.")
    try:
        back = None if since is None else seconds(since)
    except ValueError as err:
        raise click.UsageError(f"--since {one_line(since, limit=40)}: {err}.") from None
    if not paths.expects_store:
        if as_json:
            begin = now - (FIRST_LOOK if back is None else back)
            emit(_as_dict(Report(begin, now), Finish(0)))
        else:
            say(output.NO_JOBS)
        return
    with Reader.open(paths) as reader:
        unread = last_seen(reader, now) or first_look(reader, now)
        begin = unread if back is None else now - back
        found, finish = collect(reader, paths, since=begin, now=now), finish_of(reader, now)
    if as_json:
        emit(_as_dict(found, finish))
    else:
        click.echo(_text(found, finish, markdown))
    if sys.stdout.isatty() and since is None:
        with Store.open(paths) as store:
            store.set_setting(SEEN, now)


def _write_page(
    paths: Paths, html: Path, sweep: int | None, job_ids: tuple[int, ...], now: float
) -> None:
    from obstui import page

    with Reader.open(paths) as reader:
        jobs = page.jobs_of(reader, sweep=sweep, ids=job_ids)
        missing = sorted(set(job_ids) - {job.id for job in jobs})
        if missing:
            raise NotFound(f"There is no job {missing[0]}: obstui ls lists them.")
        sweeps = {found.id: found.name for found in reader.sweeps()}
        if sweep is not None and sweep not in sweeps:
            raise NotFound(f"There is no sweep {sweep}: obstui ls --sweeps lists them.")
        title = sweeps[sweep] or f"Sweep {sweep}" if sweep is not None else "Smaller models"
        text = page.render(reader, jobs, title=title, now=now)
    try:
        page.write(html, text)
    except OSError as err:
        raise output.CannotWrite(html, err) from None
    output.say(f"Wrote {html} ({output.size(len(text.encode()))}).")


def _as_dict(found: Report, finish: Finish) -> dict[str, Any]:
    return {
        "since": found.since,
        "now": found.now,
        **{
            name: [output.as_dict(job) for job in getattr(found, name)]
            for name in ("succeeded", "failed", "other")
        },
        "best": [asdict(best) for best in found.best],
        "device_seconds": found.device_seconds,
        "lost": found.lost,
        "disk_bytes": found.disk_bytes,
        "all_bytes": found.all_bytes,
        "counts": found.counts,
        "stops": list(found.stops),
        "finish": asdict(finish),
    }


def _moment(at: float, now: float) -> str:
    same_day = time.localtime(at)[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if same_day else "%H:%M on %d %B", time.localtime(at))


def _text(found: Report, finish: Finish, markdown: bool) -> str:
    """Headings and bullets; plain, they are indented words."""

    def heading(text: str) -> str:
        return f"\n## {text}\n" if markdown else f"\n{text}"

    def bullet(text: str) -> str:
        line = one_line(text)
        if not markdown:
            return f"  {line}"
        return "- " + "".join("\\" + c if c in "\\`*_[]<>#|" else c for c in line)

    title = f"Since {_moment(found.since, found.now)}"
    lines = [f"# {title}" if markdown else title]
    lines += [heading("Finished"), *map(bullet, _finished(found))]
    if found.failed or found.other:
        lines += [heading("Failed"), *map(bullet, _failed(found))]
    if found.best:
        lines += [heading("Best size for quality"), *map(bullet, _best(found))]
    lines += [heading("Cost"), *map(bullet, _cost(found))]
    lines += [heading("Left"), *map(bullet, _left(found, finish))]
    return "\n".join(lines)


def _finished(found: Report) -> list[str]:
    if not found.succeeded:
        return ["nothing"]
    kinds = ", ".join(
        f"{number} {kind}" for kind, number in sorted(shares(found.succeeded).items())
    )
    newest = [f"job {job.id}  {output.title(job)}  in {output.took(job)}"
              for job in found.succeeded[-10:]]  # fmt: skip
    more = len(found.succeeded) - len(newest)
    return [f"{counted(len(found.succeeded), 'job')} ({kinds})", *newest] + (
        [f"and {more} before them"] if more else []
    )


def _failed(found: Report) -> list[str]:
    lines = [_failure(job) for job in found.failed]
    for state, why in (("skipped", "because of a job they need"), ("cancelled", "by hand")):
        ids = [str(job.id) for job in found.other if job.state == state]
        if ids:
            lines.append(f"{len(ids)} {state} {why}: {one_line(', '.join(ids), limit=80)}")
    return lines


def _failure(job: JobView) -> str:
    why = one_line(job.error or job.reason or "no reason was recorded", limit=300)
    change = " --set FIELD=VALUE" if job.reason == "bad_input" else ""
    return f"job {job.id}  {output.title(job)}: {why}  (obstui retry {job.id}{change})"


def _best(found: Report) -> list[str]:
    lines = []
    for best in found.best:
        share = 1 - best.params / best.dense_params if best.dense_params else 0.0
        words = "" if best.good else "none is good enough; nearest: "
        lines.append(
            f"{one_line(best.base, limit=60)}: {words}{one_line(best.model, limit=60)}, "
            f"{output.count(best.params)} parameters, {share:.0%} fewer "
            f"({best.quality}; job {best.job_id})"
        )
    return lines


def _cost(found: Report) -> list[str]:
    hours = [f"{output.duration(seconds)} on {one_line(device, limit=60)}"
             for device, seconds in sorted(found.device_seconds.items())]  # fmt: skip
    size = output.size
    whole = "" if found.all_bytes is None else f"; {size(found.all_bytes)} in the state folder"
    return [
        ", ".join(hours) or "no device time",
        *([lost_words(found.lost)] if found.lost else []),
        f"{size(found.disk_bytes)} by these jobs{whole}",
    ]


def _left(found: Report, finish: Finish) -> list[str]:
    counts = found.counts
    waiting = {state: counts[state] for state in ("held", "queued", "paused") if counts[state]}
    running = sum(counts[state] for state in ("starting", "running", "pausing", "cancelling"))
    words = [f"{number} {state}" for state, number in waiting.items()]
    lines = [", ".join(([f"{running} running"] if running else []) + words) or "nothing"]
    if finish.p50 is not None and finish.p90 is not None:
        by, nearly = _moment(finish.p50, found.now), _moment(finish.p90, found.now)
        lines.append(
            f"done by {by} at the earliest"
            if finish.unknown
            else f"done by {by} (half of the time), {nearly} (nine times of ten)"
        )
    elif finish.jobs:
        lines.append("when it will be done is unknown: no job like these has finished here yet")
    if finish.unknown and finish.p50 is not None:
        lines.append(f"{finish.unknown} of these jobs have no like before them")
    return lines + [f"stopped: {one_line(stop)}" for stop in found.stops]
