"""A picture of the dashboard, without a terminal: for reports, bug reports and the README."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from obstui.cli.output import CannotWrite, say
from obstui.config import THEMES, Paths
from obstui.errors import Problem

if TYPE_CHECKING:
    from obstui.tui.snapshot import Need


class NoSuchScreen(Problem):
    """There is no such place, no such job, or nothing on it to be drawn."""

    exit_code = 3


def _size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    columns, cross, rows = value.partition("x")
    if cross and columns.isdecimal() and rows.isdecimal():
        size = int(columns), int(rows)
        if 40 <= size[0] <= 400 and 12 <= size[1] <= 200:
            return size
    raise click.BadParameter(f"{value!r} is no size such as 120x40 (from 40x12 to 400x200).")


@click.command()
@click.argument("screen")
@click.option(
    "--svg",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write.",
)
@click.option(
    "--size",
    callback=_size,
    default="120x40",
    show_default=True,
    metavar="COLSxROWS",
    help="In characters.",
)
@click.option("--theme", type=click.Choice(THEMES), default="dark", show_default=True,
              help="Its colours.")  # fmt: skip
@click.option("--job", type=int, metavar="ID", help="Of which job; else of the newest that has it.")
@click.pass_obj
def snapshot(
    paths: Paths, screen: str, file: Path, size: tuple[int, int], theme: str, job: int | None
) -> None:
    """Write a picture of a screen of the dashboard.

    SCREEN is one of its places (queue, gallery, sweeps, models, workers, report), the form, the
    help, the palette, something of a job (job, log, settings, targets, layers, picture, ab), or
    just the number of a job. Nothing is changed and no worker is started.
    """
    import asyncio

    from obstui.tui.snapshot import SCREENS, svg

    if screen.isdecimal():
        if job is not None:
            raise click.UsageError(f"{screen} is a job already: leave --job out.")
        screen, job = "job", int(screen)
    if screen not in SCREENS:
        names = ", ".join(SCREENS)
        raise NoSuchScreen(f"There is no screen {screen}: name one of {names}, or a job's number.")
    way = SCREENS[screen]
    if way.needs is not None:
        job = _job_with(paths, way.needs, job)
    elif job is not None:
        raise click.UsageError(f"{screen} is no screen of one job: leave --job out.")
    picture = asyncio.run(svg(paths, way, job=job, size=size, theme=theme))
    try:
        file.write_text(picture, encoding="utf-8")
    except OSError as err:
        raise CannotWrite(file, err) from None
    say(f"The picture is in {file}.")


def _job_with(paths: Paths, need: Need, job: int | None) -> int:
    """This job, or the newest that has what is needed. Raises NoSuchScreen."""
    from obstui.store import Reader
    from obstui.tui.snapshot import newest_with

    with Reader.open(paths) as reader:
        if job is None:
            found = newest_with(reader, need)
            if found is None:
                raise NoSuchScreen(f"Nothing to draw: there is no job with {need.words} yet.")
            return found
        view = reader.job(job)
        if view is None:
            raise NoSuchScreen(f"There is no job {job}: obstui ls shows which there are.")
        if not need.has(reader, view):
            raise NoSuchScreen(f"Nothing to draw: job {job} is without {need.words}.")
        return job
