"""A picture of the dashboard, without a terminal: for reports, bug reports and the README."""

from __future__ import annotations

from pathlib import Path

import click

from obstui.cli.output import say
from obstui.config import THEMES, Paths
from obstui.errors import Problem


class NoSuchScreen(Problem):
    """There is no such place, or no such job."""

    exit_code = 3


class CannotWrite(Problem):
    """The picture cannot be written."""

    exit_code = 2


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
    type=click.Path(path_type=Path, dir_okay=False),
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
@click.option("--theme", type=click.Choice(THEMES), default="dark", help="Its colours.")
@click.pass_obj
def snapshot(paths: Paths, screen: str, file: Path, size: tuple[int, int], theme: str) -> None:
    """Write a picture of a screen of the dashboard.

    SCREEN is one of its places (queue, gallery, sweeps, models, workers, report) or the number of a
    job. Nothing is changed and no worker is started.
    """
    import asyncio

    from obstui.tui.places import PLACES
    from obstui.tui.snapshot import svg

    job = int(screen) if screen.isdecimal() else None
    places = [place.name for place in PLACES]
    if job is None and screen not in places:
        raise NoSuchScreen(
            f"There is no screen {screen}: name one of {', '.join(places)}, or a job by its number."
        )
    if job is not None:
        _check_job(paths, job)
    place = None if job is not None else screen
    picture = asyncio.run(
        svg(paths, size=size, watch=job, opened=job is not None, place=place, theme=theme)
    )
    try:
        file.write_text(picture, encoding="utf-8")
    except OSError as err:
        raise CannotWrite(f"Cannot write {file}: {err.strerror}.") from None
    say(f"The picture is in {file}.")


def _check_job(paths: Paths, job: int) -> None:
    from obstui.store import Reader

    with Reader.open(paths) as reader:
        if reader.job(job) is None:
            raise NoSuchScreen(f"There is no job {job}: obstui ls shows which there are.")
