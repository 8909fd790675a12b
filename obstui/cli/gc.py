"""gc: make space."""

from __future__ import annotations

import time

import click

from obstui.cli import output
from obstui.cli.output import emit, json_option, say
from obstui.config import Paths
from obstui.retention import find_waste, remove
from obstui.store import Reader


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option(
    "--orphans",
    is_flag=True,
    help="Also folders of no job in this store; not if another store shares the state folder.",
)
@json_option
@click.pass_obj
def gc(paths: Paths, dry_run: bool, orphans: bool, as_json: bool) -> None:
    """Remove finished jobs' work, old logs and long unused Hessians; results stay."""
    with Reader.open(paths) as reader:
        found = find_waste(reader, paths, now=time.time(), orphans=orphans)
        gone = found if dry_run else list(remove(reader, found))
    total = sum(item.bytes for item in gone)
    if as_json:
        emit({
            "dry_run": dry_run,
            "bytes": total,
            "removed": [
                {"path": str(item.path), "bytes": item.bytes, "why": item.why} for item in gone
            ],
        })  # fmt: skip
        return
    if gone:
        rows = [(output.size(item.bytes), item.why, str(item.path)) for item in gone]
        click.echo(output.table(("SIZE", "WHAT", "PATH"), rows, "SIZE"))
    say(f"{output.size(total)} {'would be' if dry_run else 'were'} freed.")
