"""restore: the store from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from obstui.cli.output import say
from obstui.config import Paths
from obstui.store import NotFound, StoreError, backup
from obstui.store.reader import held


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.pass_obj
def restore(paths: Paths, file: Path | None) -> None:
    """Put a backup in the store's place; the file that is there is set aside.

    Without FILE: the newest good one.
    """
    busy = [lock for lock in (paths.home / "locks").glob("*.lock") if held(lock)]
    if busy:
        raise StoreError(
            f"A worker is running (it holds {busy[0].name}): end it first with obstui worker stop."
        )
    copy = file or backup.newest_good(paths.db)
    if copy is None:
        raise NotFound(f"There is no good backup of {paths.db}: name a file of your own.")
    try:
        aside = backup.restore(paths.ensure(), copy.absolute())
    except OSError as err:
        raise StoreError(f"Cannot restore {copy}: {err.strerror}.") from err
    say(f"The store is back as of {copy.name}." + (f" Set aside: {aside}" if aside else ""))
