"""The command line. A command is imported only when it is called, so `--help` is instant."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

import click

from obstui.config import IMAGES, THEMES
from obstui.errors import Problem

_COMMANDS = {
    "demo": ("obstui.cli.demo", "The whole main job on the bundled model, then the dashboard."),
    "prune": (
        "obstui.cli.queueing",
        "Queue a pruning job: one calibration, one or more sparsities.",
    ),
    "generate": ("obstui.cli.queueing", "Queue pictures with a dense model or a variant."),
    "compare": ("obstui.cli.queueing", "Queue a comparison of the dense model with its variants."),
    "bench": ("obstui.cli.queueing", "Queue a timing of the dense model and its variants."),
    "models": (
        "obstui.cli.models",
        "Models and variants: list, add, import, export, verify, remove.",
    ),
    "plan": ("obstui.cli.plan", "What a job would take: parameters, FLOP, VRAM, disk, time."),
    "submit": ("obstui.cli.submit", "Queue one job or a sweep from a YAML file."),
    "ls": ("obstui.cli.jobs", "List jobs, newest first."),
    "show": ("obstui.cli.jobs", "Show one job: state, result, what went wrong."),
    "logs": ("obstui.cli.jobs", "Print what a job's process wrote."),
    "wait": ("obstui.cli.jobs", "Wait until jobs are finished."),
    "report": ("obstui.cli.report", "Since you were last here: finished, failed, cost, left."),
    "cancel": ("obstui.cli.verbs", "Cancel jobs; a running one stops at its next boundary."),
    "pause": ("obstui.cli.verbs", "Pause jobs: checkpoint and free the device."),
    "resume": ("obstui.cli.verbs", "Let paused or held jobs go on."),
    "retry": ("obstui.cli.verbs", "Queue failed or cancelled jobs again; finished units are kept."),
    "priority": ("obstui.cli.verbs", "Set a job's priority: higher runs first."),
    "move": ("obstui.cli.verbs", "Give a waiting job another place in the queue."),
    "rm": ("obstui.cli.verbs", "Remove jobs and their files."),
    "gc": ("obstui.cli.gc", "Remove finished jobs' work, old logs, unused Hessians."),
    "snapshot": ("obstui.cli.snapshot", "Write a picture of a screen of the dashboard."),
    "doctor": ("obstui.cli.doctor", "What works here, and how to mend the rest."),
    "restore": ("obstui.cli.restore", "Put a backup of the store in its place."),
    "serve": ("obstui.cli.serve", "The dashboard in a browser, on this computer only."),
    "worker": ("obstui.cli.worker", "Start, stop and inspect the background worker."),
}
"""Name -> (module, one line of help). The module's object of the same name is the command."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as err:
            from difflib import get_close_matches

            near = get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"Did you mean {near[0]}?" if near else "obstui --help lists what there is."
            raise click.UsageError(f"{err.message} {hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from obstui import __version__

        click.echo(f"obstui {__version__}")
        ctx.exit()


@click.group(cls=_LazyGroup, invoke_without_command=True)
@click.option("--db", type=click.Path(), help="The store (else OBSTUI_DB, else in OBSTUI_HOME).")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.option("--readonly", is_flag=True, help="A dashboard that can change nothing.")
@click.option("--theme", type=click.Choice(THEMES), help="The dashboard's colours.")
@click.option("--ascii", is_flag=True, help="A dashboard of ASCII characters alone.")
@click.option(
    "--low-bandwidth",
    is_flag=True,
    help="A dashboard for a bad line: seldom redrawn, few colours, no pixels.",
)
@click.option(
    "--images",
    type=click.Choice(IMAGES),
    envvar="OBSTUI_IMAGES",
    help="How the dashboard draws pictures [default: the best the terminal has].",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
              help="Show the version and exit.")  # fmt: skip
@click.pass_context
def cli(ctx: click.Context, /, db: str | None, debug: bool, readonly: bool, **_: object) -> None:
    """Queue, watch and compare pruning jobs for Stable Diffusion XL.

    Without a command: the dashboard. It starts a worker if none lives; closing it never stops work.
    """
    from obstui.config import Paths

    if readonly and ctx.invoked_subcommand not in (None, "snapshot"):  # which changes nothing
        raise click.UsageError("--readonly is for the dashboard: leave it out, or the command.")
    ctx.obj = Paths.resolve(db)
    if ctx.invoked_subcommand is None:
        from obstui.cli.dashboard import open_dashboard

        open_dashboard(ctx.obj, readonly=readonly)


def main(argv: list[str] | None = None) -> Any:
    """Run a command; exit with 0, 1, 2, 3 or 4 as the design fixes. Errors are one sentence."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    try:
        code = cli.main(args=arguments, prog_name="obstui", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except Problem as err:
        _fail(str(err), err.exit_code, debug)
    except click.exceptions.NoArgsIsHelpError as err:
        click.echo(err.format_message())
        sys.exit(2)
    except click.ClickException as err:
        from obstui.text import one_line

        # click lists choices below each other, and repeats what was typed, however long.
        words = re.sub(r"a valid integer( range)?\b", "a whole number", err.format_message())
        _fail(one_line(words, limit=400), 2, debug)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted; queued work goes on.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`obstui ls | head`): nothing left to say to it.
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str, code: int, debug: bool) -> None:
    from obstui.text import plain

    click.echo(f"obstui: {plain(message)}", err=True)
    if debug:
        raise
    sys.exit(code)
