"""obstui demo: the whole main job on the bundled model."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from obstui.cli.jobs import model_table
from obstui.cli.output import as_dict, emit, json_option, say
from obstui.config import Paths, own_command
from obstui.specs import CompareSpec, PruneSpec, variant_id

SPARSITIES = (0.1, 0.3, 0.5)
CALIBRATION_PROMPTS = 48
PICTURES = 8


@click.command()
@json_option
@click.pass_obj
def demo(paths: Paths, as_json: bool) -> None:
    """The whole main job on the bundled model, then the dashboard.

    Prunes it to 10, 30 and 50 % (and, for the contrast, to 30 % by magnitude), paints the same
    pictures with every size and measures them. Without a terminal it runs headless and prints the
    result as a table.
    """
    headless = as_json or not (sys.stdin.isatty() and sys.stdout.isatty())
    ids = _queue(paths.ensure())
    if not headless:
        from obstui.cli.dashboard import open_dashboard

        open_dashboard(paths, watch=ids[0])
        return
    _run_headless(paths, ids, as_json)


def _queue(paths: Paths) -> list[int]:
    from obstui.store import Store

    store = Store.open(paths)
    try:
        obs = store.enqueue(
            PruneSpec(
                name="demo: prune by OBS-Diff", sparsity=SPARSITIES, num_prompts=CALIBRATION_PROMPTS
            )
        )
        magnitude = store.enqueue(
            PruneSpec(name="demo: prune by magnitude", sparsity=(0.3,), method="magnitude")
        )
        variants = [variant_id(obs.id, s) for s in SPARSITIES] + [variant_id(magnitude.id, 0.3)]
        compare = store.enqueue(
            CompareSpec(
                name="demo: same pictures at every size",
                variants=tuple(variants),
                num_prompts=PICTURES,
            )
        )
    finally:
        store.close()
    return [obs.id, magnitude.id, compare.id]


def _run_headless(paths: Paths, ids: list[int], as_json: bool) -> None:
    from obstui.cli.watch import follow
    from obstui.store import Reader
    from obstui.worker import launch

    reader = Reader.open(paths)
    found_running = any(worker.alive for worker in reader.workers())
    reader.close()
    launch.start(paths)
    try:
        jobs = follow(paths, ids, quiet=as_json)
    finally:
        if not found_running:
            launch.stop(paths)
    if as_json:
        emit([as_dict(job) for job in jobs])
    if any(job.state != "succeeded" for job in jobs):
        raise click.exceptions.Exit(1)
    result = jobs[-1].result or {}
    if not as_json:
        click.echo("\n" + model_table(result))
        click.echo(f"\nPictures: {Path(result['images'][0]['path']).parent.parent}")
        command = own_command()
        say(f"Look around with {command}, {command} ls and {command} show ID.")
