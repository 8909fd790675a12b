"""prune, generate, compare, bench: a validated spec becomes a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from obstui.cli.jobs import latency_table, model_table
from obstui.cli.output import as_dict, emit, json_option, say, title
from obstui.config import Paths
from obstui.lookup import checked
from obstui.options import JobOptions, job_options
from obstui.prompt_files import read_prompts
from obstui.specs import (
    ALLOCATIONS,
    BUDGETS,
    CALIBRATION_STEPS,
    DEFAULT_PROMPTS,
    METHODS,
    SCHEDULERS,
    TIMESTEP_WEIGHTS,
    ImportSpec,
    PruneSpec,
    Spec,
    variant_id,
)
from obstui.store import JobView, Reader, Store
from obstui.text import one_line

Command = Callable[..., Any]


def _model_options(
    *, model: str = "what the variant was cut from, else demo", steps: str = "the model's own"
) -> tuple[Callable[[Command], Command], ...]:
    """The options of all these commands, with the words for the defaults that differ."""
    return (
        click.option("--name", default="", help="A label of your own."),
        click.option("--seed", type=int, default=0, show_default=True,
                     help="Of the noise that pictures begin with."),
        click.option("--size", type=int, help="Pixels a side [default: the model's own]."),
        click.option("--guidance", type=float, help="Guidance scale [default: the model's own]."),
        click.option("--steps", type=int, help=f"Denoising steps [default: {steps}]."),
        click.option(
            "--model",
            help="demo, a hub id, modelscope:ID, a folder, a .safetensors file, or a name of yours "
            f"(obstui models add) [default: {model}].",
        ),
    )  # fmt: skip


def _at_least_one(_: click.Context, __: click.Parameter, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise click.UsageError(f"--num-prompts {value}: take at least 1.")
    return value


def _num_prompts(words: str) -> Callable[[Command], Command]:
    return click.option("--num-prompts", type=int, callback=_at_least_one, help=words)


_prompt_file = click.Path(path_type=Path)
_layouts = "text (one a line), .tsv, .csv or COCO's .json."


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator that adds `options`; help lists them from the last to the first."""

    def decorate(command: Command) -> Command:
        for option in options:
            command = option(command)
        return command

    return decorate


prune_options = _with(
    click.option("--held-out", type=int, default=8, show_default=True,
                 help="Other prompts to measure the result on; 0: none."),
    click.option("--budget", type=click.Choice(BUDGETS), default="params", show_default=True,
                 help="What --allocate loss keeps equal to the uniform share."),
    click.option("--allocate", type=click.Choice(ALLOCATIONS), default="uniform",
                 show_default=True,
                 help="The same share of every module, or more where it costs least."),
    click.option("--token-budget", type=int, default=64, show_default=True,
                 help="Tokens drawn from the calibration for each column of a Hessian."),
    click.option("--packages", default="auto", show_default=True,
                 help="Parts calibrated one after the other, each on a model whose earlier parts "
                 "are pruned; auto: one."),
    click.option("--damping", type=float, default=0.01, show_default=True,
                 help="Share of H's mean diagonal added to it."),
    click.option("--timestep-weights", type=click.Choice(TIMESTEP_WEIGHTS), default="log_decrease",
                 show_default=True, help="How much each denoising step counts."),
    _num_prompts("How many of them [default: 100]."),
    click.option("--prompts", type=_prompt_file, help=f"Calibration prompts: {_layouts}"),
    click.option("--method", type=click.Choice(METHODS), default="obs", show_default=True,
                 help="obs: calibrated and compensated; magnitude: the smallest weights, for "
                 "contrast."),
    click.option("--sparsity", default="0.2", show_default=True,
                 help="Shares of the heads and neurons to remove, one or several: 0.1,0.2,0.3."),
    *_model_options(model="demo", steps=str(CALIBRATION_STEPS)),
)  # fmt: skip
generate_options = _with(
    click.option("--batch", type=int, default=1, show_default=True, help="Pictures at once."),
    click.option(
        "--scheduler", type=click.Choice(SCHEDULERS), help="The sampler [default: the model's own]."
    ),
    click.option("--seeds", metavar="1,2,7", help="These seeds instead of --seed and --count."),
    click.option(
        "--count",
        type=int,
        default=1,
        show_default=True,
        help="Pictures per prompt: every prompt gets the same seeds, --seed and on.",
    ),
    click.option("--negative", default="", help="What to avoid."),
    click.option("--variant", help='A pruned variant: its id ("12@30") or folder.'),
    _num_prompts("How many of the file's [default: all]."),
    click.option("--prompts", "file", type=_prompt_file, help=f"Prompts: {_layouts}"),
    click.option("--prompt", "prompts", multiple=True, help="What to paint; may be repeated."),
    *_model_options(),
)
compare_options = _with(
    click.option("--count", type=int, default=1, show_default=True,
                 help="Seeds per prompt, from --seed on and no two prompts the same: with 2, "
                 "seeds 0 and 1 for the first, 2 and 3 for the second."),
    click.option("--negative", default="", help="What to avoid."),
    _num_prompts("How many of them [default: all of the file's, 8 without a file]."),
    click.option("--prompts", type=_prompt_file, help=f"Prompts: {_layouts}"),
    click.option(
        "--variants", required=True, help='Ids or folders, comma separated: "12@10,12@30".'
    ),
    *_model_options(),
)  # fmt: skip
bench_options = _with(
    click.option("--warm-up", type=int, default=1, show_default=True,
                 help="Pictures before those that count."),
    click.option("--repeats", type=int, default=5, show_default=True, help="Pictures timed."),
    click.option(
        "--variants", required=True, help='Ids or folders, comma separated: "12@10,12@30".'
    ),
    *_model_options(),
)  # fmt: skip
queue_options = _with(
    click.option("--after", metavar="ID,...", help="Start only after these jobs have succeeded."),
    click.option("--max-runtime", metavar="8h", help="Fail an attempt that runs longer."),
    click.option("--window", metavar="23:00-07:00", help="Run only in these hours."),
    click.option("--held", is_flag=True, help="Wait until obstui resume ID."),
    click.option("--priority", type=int, default=0, show_default=True, help="Higher runs first."),
    click.option("--wait", is_flag=True, help="Wait for the job; start a worker if none runs."),
    json_option,
)


@click.command()
@prune_options
@queue_options
@click.pass_obj
def prune(paths: Paths, /, **options: Any) -> None:
    """Queue a pruning job: one calibration, one or more sparsities."""
    queue(paths, prune_spec, options)


@click.command()
@generate_options
@queue_options
@click.pass_obj
def generate(paths: Paths, /, **options: Any) -> None:
    """Queue pictures with a dense model or a variant."""
    queue(paths, generate_spec, options)


@click.command()
@compare_options
@queue_options
@click.pass_obj
def compare(paths: Paths, /, **options: Any) -> None:
    """Queue a comparison of the dense model with its variants: same prompts, same seeds."""
    queue(paths, compare_spec, options)


@click.command()
@bench_options
@queue_options
@click.pass_obj
def bench(paths: Paths, /, **options: Any) -> None:
    """Queue a timing of the dense model and its variants: per step, per picture, memory."""
    queue(paths, bench_spec, options)


def prune_spec(prompts: Path | None, num_prompts: int | None, **options: Any) -> Spec:
    """The job that `prune_options` describe. Raises BadSpec, NoSuchModel; so do the next three."""
    if options["method"] == "magnitude" and (prompts or num_prompts is not None):
        raise click.UsageError("Prompts are for --method obs: magnitude needs no calibration.")
    if prompts:
        options["prompts"] = _read(
            prompts, DEFAULT_PROMPTS["prune"] if num_prompts is None else num_prompts
        )
    if num_prompts is not None:
        options["num_prompts"] = num_prompts
    return checked({"kind": "prune", **options, "model": options["model"] or "demo"})


def generate_spec(
    prompts: tuple[str, ...], file: Path | None, num_prompts: int | None, **options: Any
) -> Spec:
    """The job that `generate_options` describe."""
    if num_prompts is not None and file is None:
        raise click.UsageError("--num-prompts is for --prompts FILE: every --prompt is painted.")
    options["prompts"] = prompts + (_read(file, num_prompts) if file else ())
    if not options["prompts"]:
        raise click.UsageError("Nothing to paint: give --prompt TEXT or --prompts FILE.")
    options["model"] = _model(options["model"], [options["variant"]] if options["variant"] else [])
    if options["seeds"] is None:
        del options["seeds"]
    return checked({"kind": "generate", **options})


def compare_spec(
    variants: str, prompts: Path | None, num_prompts: int | None, **options: Any
) -> Spec:
    """The job that `compare_options` describe."""
    options["variants"] = _names(variants)
    options["model"] = _model(options["model"], options["variants"])
    if prompts:
        options["prompts"] = _read(prompts, num_prompts)
        num_prompts = num_prompts or len(options["prompts"])
    if num_prompts is not None:
        options["num_prompts"] = num_prompts
    return checked({"kind": "compare", **options})


def bench_spec(variants: str, **options: Any) -> Spec:
    """The job that `bench_options` describe."""
    options["variants"] = _names(variants)
    options["model"] = _model(options["model"], options["variants"])
    return checked({"kind": "bench", **options})


def _model(given: str | None, variants: Sequence[str]) -> str:
    """The model named, else the one that the first variant was cut from, else the demo model."""
    if given is not None or not variants:
        return given or "demo"
    from obstui.models import UNKNOWN, base_of

    paths = click.get_current_context().find_object(Paths)
    found = base_of(paths, variants[0]) if paths else None
    if found == UNKNOWN:
        shown = one_line(variants[0], limit=120)
        raise click.UsageError(f"Nobody has said which model {shown} was cut from: give --model.")
    return found or "demo"


def _names(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise click.UsageError("--variants names none: write ids or folders, such as 12@10,12@30.")
    return names


def _read(path: Path, first: int | None) -> tuple[str, ...]:
    found = read_prompts(path, first)
    if found.unnamed:
        say(
            f"{one_line(path, limit=120)} names no column caption, text or prompt: its first is "
            f"taken, beginning with {one_line(found.prompts[0], limit=60)!r}."
        )
    if found.skipped:
        say(f"Skipped prompts of {one_line(path, limit=120)}: {found.skipped}.")
    return found.prompts


def queue(paths: Paths, spec_of: Callable[..., Spec], given: dict[str, Any]) -> None:
    """Queue the job that `spec_of` makes of the options given, `queue_options` among them; say so,
    and wait for it if asked to."""
    wait, as_json = given.pop("wait"), given.pop("as_json")
    if wait and given["held"]:
        raise click.UsageError("A held job does not start by itself: leave out --held or --wait.")
    said = {name: given.pop(name) for name in JobOptions.model_fields}
    options = job_options({name: value for name, value in said.items() if value is not None})
    spec = spec_of(**given)
    _check_tokens(spec)
    with Store.open(paths.ensure()) as store:
        job = store.enqueue(spec, options=options)
    if not as_json:
        say(f"Queued as job {job.id}: {title(job)}.")
        if isinstance(spec, PruneSpec):
            say(f"Its variants will be {', '.join(variant_id(job.id, s) for s in spec.sparsity)}.")
        elif isinstance(spec, ImportSpec) and not wait:
            say(f"Its variant gets its name once the file is read: obstui show {job.id}.")
    if wait:
        job = _waited(paths, job.id, quiet=as_json)
        if not as_json:
            _tell_made(job)
    if as_json:
        emit(as_dict(job))
    elif not wait and not _worker_lives(paths):
        say("No worker is running: start one with obstui worker start.")
    if wait and job.state != "succeeded":
        raise click.exceptions.Exit(1)


def _check_tokens(spec: Spec) -> None:
    from obstui.plan import check_tokens

    check_tokens(spec)


def _waited(paths: Paths, job_id: int, *, quiet: bool) -> JobView:
    from obstui.cli.watch import follow
    from obstui.worker.launch import start

    start(paths)
    return follow(paths, [job_id], quiet=quiet)[0]


def _tell_made(job: JobView) -> None:
    """What came of a job that was waited for, where its files or its name tell it."""
    result = job.result or {}
    if result.get("variants"):
        say(f"Made {', '.join(str(variant['id']) for variant in result['variants'])}.")
    if result.get("export"):
        say(f"Wrote {result['export']['folder']}.")
    if result.get("models"):
        click.echo(model_table(result))
    if result.get("latency"):
        click.echo(latency_table(result["latency"]))


def _worker_lives(paths: Paths) -> bool:
    reader = Reader.open(paths)
    try:
        return any(worker.alive for worker in reader.workers())
    finally:
        reader.close()
