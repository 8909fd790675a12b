"""The worker group: start, run, stop, status."""

from __future__ import annotations

import time

import click

from obstui.cli import output
from obstui.cli.output import emit, json_option, say
from obstui.config import Paths


@click.group()
def worker() -> None:
    """Start, stop and inspect the background worker.

    One worker serves one device (a GPU, or the CPU). It lives on its own: closing the dashboard or
    the terminal does not stop it.
    """


@worker.command()
@click.pass_obj
def start(paths: Paths) -> None:
    """Start a worker in the background; returns when it is up."""
    from obstui.worker import launch

    pid = launch.start(paths.ensure())
    say(f"The worker is up (pid {pid}); its log is {paths.worker_log}.")


@worker.command()
@click.option("--device", help="cpu or a GPU's UUID (default: the first GPU, else cpu).")
@click.option("--exit-when-idle", is_flag=True, help="End when no job can start.")
@click.pass_obj
def run(paths: Paths, device: str | None, exit_when_idle: bool) -> None:
    """Work in the foreground until interrupted."""
    from obstui.worker import launch

    raise click.exceptions.Exit(
        launch.run(paths.ensure(), device=device, exit_when_idle=exit_when_idle)
    )


@worker.command()
@click.option("--now", is_flag=True, help="Do not wait for a checkpoint.")
@click.pass_obj
def stop(paths: Paths, now: bool) -> None:
    """Stop the worker; the running job is checkpointed and goes on with the next worker."""
    from obstui.worker import launch

    stopped = launch.stop(paths.ensure(), now=now)
    say("The worker has stopped; queued work waits." if stopped else "No worker is running.")


@worker.command()
@json_option
@click.pass_obj
def status(paths: Paths, as_json: bool) -> None:
    """Which workers live, and what they do."""
    from obstui.store import Reader

    workers = []
    if paths.db.exists():
        reader = Reader.open(paths)
        workers = [w for w in reader.workers() if w.alive]
        reader.close()
    if as_json:
        emit([
            {"id": w.id, "device": w.device, "device_name": w.device_name, "pid": w.pid,
             "state": w.state, "job_id": w.job_id, "started_at": w.started_at}
            for w in workers
        ])  # fmt: skip
    elif not workers:
        say("No worker is running: start one with obstui worker start.")
    else:
        rows = [
            (w.device_name, str(w.pid), w.state, str(w.job_id or ""),
             output.duration(time.time() - w.started_at))
            for w in workers
        ]  # fmt: skip
        click.echo(output.table(("DEVICE", "PID", "STATE", "JOB", "UP"), rows, "PID,JOB,UP"))
