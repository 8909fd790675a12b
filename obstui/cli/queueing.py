"""prune, generate, compare: a validated spec becomes a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from obstui.cli.output import as_dict, emit, json_option, say, title
from obstui.config import Paths
from obstui.specs import (
    METHODS,
    TIMESTEP_WEIGHTS,
    CompareSpec,
    GenerateSpec,
    PruneSpec,
    check_model,
    check_variant,
    parse,
    read_prompt_file,
    variant_id,
)
from obstui.store import JobView, Reader, Store

Command = Callable[..., Any]


def _common(command: Command) -> Command:
    """The options that every kind of job has."""
    for option in (
        click.option("--wait", is_flag=True, help="Wait for the job; start a worker if none runs."),
        json_option,
        click.option("--name", default="", help="A label of your own."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--size", type=int, help="Pixels a side (default: the model's own)."),
        click.option("--guidance", type=float, help="Guidance scale (default: the model's own)."),
        click.option("--steps", type=int, help="Denoising steps (default: the model's own)."),
        click.option(
            "--model",
            default="demo",
            show_default=True,
            help="demo, a hub id, modelscope:ID, a folder or a .safetensors file.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@_common
@click.option("--sparsity", default="0.2", show_default=True, help="Fractions: 0.1,0.2,0.3.")
@click.option("--method", type=click.Choice(METHODS), default="obs", show_default=True)
@click.option("--prompts", type=click.Path(path_type=Path), help="Calibration prompts, one a line.")
@click.option("--num-prompts", type=int, help="How many of them [default: 100].")
@click.option("--timestep-weights", type=click.Choice(TIMESTEP_WEIGHTS), default="log_decrease",
              show_default=True)  # fmt: skip
@click.option("--damping", type=float, default=0.01, show_default=True,
              help="Share of H's mean diagonal added to it.")  # fmt: skip
@click.pass_obj
def prune(paths: Paths, /, prompts: Path | None, num_prompts: int | None, **options: Any) -> None:
    """Queue a pruning job: one calibration, one or more sparsities."""
    if prompts:
        options["prompts"] = read_prompt_file(prompts)
        options["num_prompts"] = min(num_prompts or 100, len(options["prompts"]))
    elif num_prompts is not None:
        options["num_prompts"] = num_prompts
    _queue(paths, "prune", options)


@click.command()
@_common
@click.option("--prompt", "prompts", multiple=True, help="What to paint; may be repeated.")
@click.option("--prompts", "file", type=click.Path(path_type=Path), help="Prompts, one a line.")
@click.option("--variant", help='A pruned variant: its id ("12@30") or folder.')
@click.option("--negative", default="", help="What to avoid.")
@click.option("--count", type=int, default=1, show_default=True, help="Pictures per prompt.")
@click.pass_obj
def generate(paths: Paths, /, prompts: tuple[str, ...], file: Path | None, **options: Any) -> None:
    """Queue pictures with a dense model or a variant."""
    options["prompts"] = prompts + (read_prompt_file(file) if file else ())
    if not options["prompts"]:
        raise click.UsageError("Nothing to paint: give --prompt TEXT or --prompts FILE.")
    _queue(paths, "generate", options)


@click.command()
@_common
@click.option("--variants", required=True, help='Ids or folders, comma separated: "12@10,12@30".')
@click.option("--prompts", type=click.Path(path_type=Path), help="Prompts, one a line.")
@click.option("--num-prompts", type=int, help="How many of them [default: 8].")
@click.option("--negative", default="", help="What to avoid.")
@click.option("--count", type=int, default=1, show_default=True, help="Seeds per prompt.")
@click.pass_obj
def compare(
    paths: Paths, /, variants: str, prompts: Path | None, num_prompts: int | None, **options: Any
) -> None:
    """Queue a comparison of the dense model with its variants: same prompts, same seeds."""
    options["variants"] = [v.strip() for v in variants.split(",") if v.strip()]
    if prompts:
        options["prompts"] = read_prompt_file(prompts)
    if prompts or num_prompts is not None:
        options["num_prompts"] = num_prompts or len(options["prompts"])
    _queue(paths, "compare", options)


def checked(data: dict[str, Any]) -> PruneSpec | GenerateSpec | CompareSpec:
    """A spec whose model and variant folders exist. Raises BadSpec, NoSuchModel."""
    spec = parse(data)
    update: dict[str, Any] = {"model": check_model(spec.model)}
    if isinstance(spec, CompareSpec):
        update["variants"] = tuple(check_variant(v) for v in spec.variants)
    elif isinstance(spec, GenerateSpec) and spec.variant:
        update["variant"] = check_variant(spec.variant)
    return spec.model_copy(update=update)


def _queue(paths: Paths, kind: str, options: dict[str, Any]) -> None:
    wait, as_json = options.pop("wait"), options.pop("as_json")
    spec = checked({"kind": kind, **options})

    store = Store.open(paths.ensure())
    try:
        job = store.enqueue(spec)
    finally:
        store.close()
    if not as_json:
        say(f"Queued as job {job.id}: {title(job)}.")
        if isinstance(spec, PruneSpec):
            say(f"Its variants will be {', '.join(variant_id(job.id, s) for s in spec.sparsity)}.")
    if wait:
        job = _waited(paths, job.id, quiet=as_json)
    if as_json:
        emit(as_dict(job))
    elif not wait and not _worker_lives(paths):
        say("No worker is running: start one with obstui worker start.")
    if wait and job.state != "succeeded":
        raise click.exceptions.Exit(1)


def _waited(paths: Paths, job_id: int, *, quiet: bool) -> JobView:
    from obstui.cli.watch import follow
    from obstui.worker.launch import start

    start(paths)
    return follow(paths, [job_id], quiet=quiet)[0]


def _worker_lives(paths: Paths) -> bool:
    reader = Reader.open(paths)
    try:
        return any(worker.alive for worker in reader.workers())
    finally:
        reader.close()
