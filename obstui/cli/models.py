"""models: the dense models and variants of this machine, and the door for their files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from obstui import models as known
from obstui.cli import output
from obstui.cli.output import ask, emit, json_option, say
from obstui.cli.queueing import queue, queue_options
from obstui.config import Paths
from obstui.errors import Problem
from obstui.lookup import check_new, check_there, check_variant, checked
from obstui.models import Catalogue, Dependants
from obstui.report import tree_bytes
from obstui.specs import (
    FORMATS,
    BadSpec,
    Spec,
    parse_variant_id,
)
from obstui.store import NotFound, Reader, Refused, Store
from obstui.text import one_line


@click.group()
def models() -> None:
    """Models and variants: list, add, import, export, verify, remove."""


@models.command()
@json_option
@click.pass_obj
def ls(paths: Paths, as_json: bool) -> None:
    """List models and variants: origin, size, use."""
    if paths.expects_store:
        with Reader.open(paths) as reader:
            found = known.catalogue(reader, paths)
    else:
        found = known.catalogue(None, paths)
    if as_json:
        emit(asdict(found))
    else:
        click.echo(_listed(found))


def _listed(found: Catalogue) -> str:
    bases = [
        (one_line(base.name, limit=60), _count(base.params), _size(base.size_bytes),
         _jobs(base.used_by), one_line(base.source, limit=100) if base.registered else "")
        for base in found.bases
    ]  # fmt: skip
    variants = [
        (v.id, one_line(v.base, limit=60), f"{v.sparsity:.0%}", one_line(v.method, limit=20),
         _count(v.params), _size(v.size_bytes) if v.size_bytes is not None else "not here",
         f"{v.kind} {v.job_id}", _jobs(v.used_by))
        for v in found.variants
    ]  # fmt: skip
    text = output.table(
        ("MODEL", "UNET PARAMS", "PIPELINE ON DISK", "USED BY JOBS", "STANDS FOR"),
        bases,
        "UNET PARAMS,PIPELINE ON DISK",
    )
    if not variants:
        return text + "\n\nNo variants yet: obstui prune or obstui models import makes them."
    head = ("VARIANT", "BASE", "SPARSITY", "METHOD", "UNET PARAMS", "UNET ON DISK", "MADE BY",
            "USED BY JOBS")  # fmt: skip
    return text + "\n\n" + output.table(head, variants, "SPARSITY,UNET PARAMS,UNET ON DISK")


def _count(params: int | None) -> str:
    return "–" if params is None else output.count(params)


def _size(octets: int | None) -> str:
    return "–" if octets is None else output.size(octets)


def _jobs(ids: tuple[int, ...]) -> str:
    """Only a terminal has a width to keep to: what reads from a pipe wants them all."""
    return _few(ids) if sys.stdout.isatty() else ", ".join(map(str, ids))


def _few(ids: tuple[int, ...]) -> str:
    return one_line(", ".join(map(str, ids)), limit=30)


@models.command()
@click.argument("name")
@click.argument("source")
@click.pass_obj
def add(paths: Paths, name: str, source: str) -> None:
    """Give a model a name for --model.

    SOURCE is what the name stands for: a hub id, modelscope:ID, a folder or a .safetensors file.
    """
    found = known.register(paths, name, source)
    say(f"{name} stands for {one_line(found, limit=200)}.")


@models.command("import")
@click.argument("file")
@click.option("--base", help="The dense model that it was cut from.")
@click.option("--name", default="", help="A label of your own.")
@queue_options
@click.pass_obj
def import_(paths: Paths, /, **options: Any) -> None:
    """Queue the import of a published .pth file.

    It holds a whole pickled UNet; nothing in it is run. With --base the units that were kept are
    found again, which LoRAs need.
    """
    queue(paths, _import_spec, options)


@models.command()
@click.argument("variant")
@click.option("--format", type=click.Choice(FORMATS), required=True,
              help="diffusers: as it is; pth: one pickle; dense: zeros for what was cut, loads "
              "in stock diffusers.")  # fmt: skip
@click.option("--to", help="The new folder [default: below the job's own files].")
@click.option("--base", help="What the card has people load it into.")
@click.option("--name", default="", help="A label of your own.")
@queue_options
@click.pass_obj
def export(paths: Paths, /, **options: Any) -> None:
    """Queue the export of a variant for other programs.

    With it goes a card: figures, licence note, the lines of Python that load it.
    """
    queue(paths, _export_spec, options)


def _import_spec(**options: Any) -> Spec:
    return checked({"kind": "import", **options})


def _export_spec(**options: Any) -> Spec:
    return checked({"kind": "export", **options})


@models.command()
@click.argument("variant")
@json_option
@click.pass_obj
def verify(paths: Paths, variant: str, as_json: bool) -> None:
    """Check a variant's files against its manifest.

    Each file's hash, and the parameters; exit 1 if one differs.
    """
    folder = _folder(paths, variant)
    with _bytes_read(one_line(variant, limit=40)) as told:
        checks = list(known.verify(folder, told))
    for check in checks if not as_json else ():
        click.echo(f"{'✓' if check.ok else '✗'} {check.what}  {one_line(check.words)}")
    whole = all(check.ok for check in checks)
    if as_json:
        emit({"variant": variant, "path": str(folder), "ok": whole,
              "checks": [asdict(check) for check in checks]})  # fmt: skip
    elif not whole:
        say(f"{one_line(variant, limit=120)} is not what was saved: make it or copy it again.")
    if not whole:
        raise click.exceptions.Exit(1)


@contextmanager
def _bytes_read(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal that goes with the reading, gone at its end; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(True),
        TimeRemainingColumn(),
        console=console, transient=True, redirect_stdout=False, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@models.command()
@click.argument("name", metavar="NAME | VARIANT")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def rm(paths: Paths, name: str, yes: bool) -> None:
    """Delete a variant, or forget a model's name.

    A variant (12@30) goes with its files, and you are told what has used it; of a name that
    models add gave only the name goes.
    """
    if parse_variant_id(name) is None:
        known.unregister(paths, name)
        say(f"{one_line(name, limit=80)} is no model's name any more; its files are as they were.")
        return
    with Store.open(paths.ensure()) as store, Reader.open(paths) as reader:
        folder = known.find_variant(reader, name)
        named_by = known.dependants(reader, name, str(folder))
        if named_by.unfinished:
            needed = _those(named_by.unfinished, "needs", "need")
            raise Refused(f"{needed} {name}: cancel, or let it finish first.")
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(
                    f"{_warning(named_by)}Nobody is there to ask: give --yes to remove it."
                )
            size = output.size(tree_bytes(folder))
            ask(
                f"{_warning(named_by)}Delete {name} ({size} in {folder})?",
                otherwise="Nothing was deleted.",
            )
        known.remove_variant(store, name)
    say(f"Removed {name} from {folder}.")


def _warning(named_by: Dependants) -> str:
    """What else knows the variant. Jobs that are over keep what they made of it."""
    if not named_by.finished:
        return ""
    return f"{_those(named_by.finished, 'has', 'have')} used it; a retry would miss it. "


def _those(ids: tuple[int, ...], one: str, several: str) -> str:
    """ "Job 3 needs", "Jobs 3, 4 need"."""
    return f"Jobs {_few(ids)} {several}" if len(ids) > 1 else f"Job {ids[0]} {one}"


@models.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--variant", required=True, help='A pruned variant: its id ("12@30") or folder.')
@click.option("--out", required=True, help="The new .safetensors file.")
@click.pass_obj
def lora(paths: Paths, file: Path, variant: str, out: str) -> None:
    """Carry a LoRA of the dense model over to a variant.

    Exact, or refused with the reason.
    """
    from obstui.worker import python

    if file.is_dir():
        raise BadSpec(f"{one_line(file, limit=200)} is a folder: name the .safetensors file in it.")
    if not file.is_file():
        raise NotFound(f"There is no file {one_line(file, limit=200)}: check the path.")
    target = check_new(out)
    folder = _folder(paths, variant)
    # A process of its own: only such a one imports torch.
    done = subprocess.run(
        python.module("core.lora", str(file.absolute()), str(folder), target),
        env=python.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    words = one_line(done.stderr.strip().rpartition("\n")[2], limit=600)
    if done.returncode == 2 and words:
        raise BadSpec(f"{words.rstrip('.')}.")
    if done.returncode:
        raise Problem(f"The LoRA could not be carried over: {words or done.returncode}.")
    say(f"Wrote {target}: load it into the pipeline with {one_line(variant, limit=80)}.")


def _folder(paths: Paths, variant: str) -> Path:
    """Where a variant is. A folder of one's own needs no store."""
    if parse_variant_id(variant) is None:
        return Path(check_variant(variant))
    if not paths.expects_store:
        raise NotFound(f"There is no variant {variant}: no job was queued yet.")
    with Reader.open(paths) as reader:
        return check_there(variant, known.find_variant(reader, variant))
