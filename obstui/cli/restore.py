"""restore: the store from a backup."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from obstui.cli.output import ask, say
from obstui.config import Paths
from obstui.store import NotFound, StoreError, backup
from obstui.store.reader import held


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--yes", is_flag=True, help="Do not ask, though the store is sound.")
@click.pass_obj
def restore(paths: Paths, file: Path | None, yes: bool) -> None:
    """Put a backup in the store's place; the file that is there is set aside.

    Without FILE: the newest good one. Asks before it undoes anything that a sound store holds.
    """
    busy = [lock for lock in (paths.home / "locks").glob("*.lock") if held(lock)]
    if busy:
        raise StoreError(
            f"A worker is running (it holds {busy[0].name}): end it first with obstui worker stop."
        )
    copy = file or backup.newest_good(paths.db)
    if copy is None:
        raise NotFound(f"There is no good backup of {paths.db}: name a file of your own.")
    copy = copy.absolute()
    lost, older = backup.undone(paths.db, copy)
    if (lost or older) and not yes:
        _ask(copy, lost, older)
    try:
        aside = backup.restore(paths.ensure(), copy)
    except OSError as err:
        raise StoreError(f"Cannot restore {copy}: {err.strerror}.") from err
    say(f"The store is back as of {copy.name}." + (f" Set aside: {aside}" if aside else ""))


def _ask(copy: Path, lost: int, older: int) -> None:
    """Raises UsageError where nobody can answer, Exit at a no."""
    parts = [f"loses {lost} job{'s' * (lost > 1)}"] if lost else []
    parts += [f"undoes what has become of {older} since"] if older else []
    what = f"The store is sound, and {copy.name} is older: going back {' and '.join(parts)}"
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what}. Give --yes to do it all the same.")
    ask(f"{what}. Go back?", otherwise="The store is as it was.")
