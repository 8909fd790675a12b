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
@click.option("--device", help="cpu or a GPU's UUID [default: every GPU, else cpu].")
@click.pass_obj
def start(paths: Paths, device: str | None) -> None:
    """Start a worker for each GPU in the background.

    Returns when they are up.
    """
    from obstui.worker import gpu, launch

    wanted = [gpu.choose(device)] if device else gpu.devices()
    for each in wanted:
        pid = launch.start(paths.ensure(), each.id)
        on = f" on {each.name}" if len(wanted) > 1 else ""
        say(f"The worker is up{on} (pid {pid}); its log is {paths.worker_log}.")


@worker.command()
@click.option("--device", help="cpu or a GPU's UUID [default: the first GPU, else cpu].")
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
    """Checkpoint the running job and stop the worker.

    The job goes on with the next worker.
    """
    from obstui.worker import launch

    stopped = launch.stop(paths.ensure(), now=now)
    say("The worker has stopped; queued work waits." if stopped else "No worker is running.")


@worker.command()
@click.pass_obj
def drain(paths: Paths) -> None:
    """Stop the worker after the job it runs."""
    from obstui.worker import launch

    leaving = launch.drain(paths.ensure())
    say("The worker ends after its job." if leaving else "No worker is running.")


@worker.command()
@click.option("--device", help="cpu or a GPU's UUID [default: every GPU, else cpu].")
@click.option("--print", "only_print", is_flag=True, help="Print the unit, install nothing.")
@click.pass_obj
def install(paths: Paths, device: str | None, only_print: bool) -> None:
    """Let systemd keep a worker running.

    It starts with the computer, and again after a crash.
    """
    from obstui.worker import gpu
    from obstui.worker import install as systemd

    for each in [gpu.choose(device)] if device else gpu.devices():
        if only_print:
            click.echo(systemd.unit(paths, each), nl=False)
            continue
        path, hint = systemd.install(paths.ensure(), each)
        say(f"The worker is installed as {path.name} and runs." + (f" But {hint}." if hint else ""))


@worker.command("when-empty")
@click.argument("action", type=click.Choice(["suspend", "poweroff", "command", "off"]))
@click.argument("command", nargs=-1)
@click.pass_obj
def when_empty(paths: Paths, action: str, command: tuple[str, ...]) -> None:
    """Suspend, power off or run a command when all is done.

    Once, when the queue is empty. A command comes after --.

    Two minutes pass first. A new job, a key pressed in a terminal, another program on the GPU, or
    `off` stops that.
    """
    from obstui.store import Store
    from obstui.worker import when_empty as ending

    with Store.open(paths.ensure()) as store:
        if action == "off":
            was = ending.disarm(store)
            say("It is called off." if was else "Nothing was to happen when the queue is empty.")
            return
        armed = ending.arm(store, action, command)
    say(f"When the queue is empty: {' '.join(armed.command)}. Call it off with when-empty off.")


def _say_when_empty(paths: Paths) -> None:
    from obstui.store import Store
    from obstui.worker import when_empty as ending

    with Store.open(paths) as store:
        armed = ending.armed(store)
    if armed is None:
        return
    if armed.due_at is None:
        say(f"When the queue is empty: {armed.action}.")
    else:
        left = max(0.0, armed.due_at - time.time())
        say(f"The queue is empty: {armed.action} in {left:.0f} s (stop it with when-empty off).")


@worker.command()
@json_option
@click.pass_obj
def status(paths: Paths, as_json: bool) -> None:
    """Which workers live, and what they do."""
    from obstui.store import Reader

    workers = []
    if paths.expects_store:
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
        _say_when_empty(paths)
        click.echo(output.table(("DEVICE", "PID", "STATE", "JOB", "UP"), rows, "PID,JOB,UP"))
