"""plan: what a job would take, without queueing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from obstui import plan as plans
from obstui.cli import output
from obstui.cli.queueing import (
    bench_options,
    bench_spec,
    compare_options,
    compare_spec,
    generate_options,
    generate_spec,
    prune_options,
    prune_spec,
)
from obstui.config import Paths
from obstui.plan import Duration, Plan
from obstui.specs import PruneSpec
from obstui.text import one_line

Command = Callable[..., Any]


def _gib(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    # Said as what is wanted, which NaN is not either.
    if value is not None and not 0 < value <= 10_000:
        raise click.UsageError(f"--vram {value:g}: give GiB, more than 0 and at most 10000.")
    return value


def _plan_options(command: Command) -> Command:
    vram = click.option(
        "--vram",
        type=float,
        callback=_gib,
        help="Choose what fits a card of so many GiB (8, 12, 16, 24 ...).",
    )
    return vram(output.json_option(command))


@click.group()
def plan() -> None:
    """What a job would take: parameters, FLOP, VRAM, disk, time. Nothing is queued."""


@plan.command()
@prune_options
@_plan_options
@click.pass_obj
def prune(paths: Paths, /, vram: float | None, as_json: bool, **options: Any) -> None:
    """Plan a pruning job."""
    _show(paths, plans.make(prune_spec(**options), vram), as_json)


@plan.command()
@generate_options
@_plan_options
@click.pass_obj
def generate(paths: Paths, /, vram: float | None, as_json: bool, **options: Any) -> None:
    """Plan pictures with a dense model or a variant."""
    _show(paths, plans.make(generate_spec(**options), vram), as_json)


@plan.command()
@compare_options
@_plan_options
@click.pass_obj
def compare(paths: Paths, /, vram: float | None, as_json: bool, **options: Any) -> None:
    """Plan a comparison of the dense model with its variants."""
    _show(paths, plans.make(compare_spec(**options), vram), as_json)


@plan.command()
@bench_options
@_plan_options
@click.pass_obj
def bench(paths: Paths, /, vram: float | None, as_json: bool, **options: Any) -> None:
    """Plan a timing of the dense model and its variants."""
    _show(paths, plans.make(bench_spec(**options), vram), as_json)


def _show(paths: Paths, found: Plan, as_json: bool) -> None:
    time = _time(paths, found)
    if as_json:
        output.emit(_as_dict(found, time))
    else:
        click.echo(_text(found, time))


def _time(paths: Paths, found: Plan) -> Duration | None:
    if not paths.db.is_file():
        return None
    from obstui.store import Reader

    reader = Reader.open(paths)
    try:
        return plans.past(reader.past_runs(), found)
    finally:
        reader.close()


def _as_dict(found: Plan, time: Duration | None) -> dict[str, Any]:
    choice, forecast = found.choice, found.choice.forecast
    return {
        "kind": found.spec.kind,
        "model": found.spec.model,
        "assumed": found.assumed,
        "size": found.size,
        "guided": found.guided,
        "samples": found.samples,
        "passes": found.passes,
        "flops": found.flops,
        "levels": [asdict(level) | {"file_bytes": level.file_bytes} for level in found.levels],
        "vram": {
            "needed_bytes": forecast.needed,
            "allocated_bytes": forecast.allocated,
            "peak_phase": forecast.peak.phase,
            "groups": choice.groups,
            "batch": choice.batch,
            "offload": choice.offload,
            "phases": [asdict(moment) | {"total": moment.total} for moment in forecast.moments],
        },
        "disk_bytes": found.disk,
        "time": {"seconds": time.seconds, **asdict(time)} if time else None,
    }


def _text(found: Plan, time: Duration | None) -> str:
    parts = [_levels(found), _memory(found), _disk(found)]
    lines = [_work(found)]
    if time:
        like = "an earlier job" if time.jobs == 1 else f"{time.jobs} earlier jobs"
        lines.append(f"Time: about {output.duration(time.seconds)}, like {like} on this machine.")
    else:
        lines.append("Time: unknown until a job of this kind, model and size has run here.")
    if found.assumed:
        lines.append(
            f"{one_line(found.spec.model, limit=80)} is not looked up: the figures are those of "
            "Stable Diffusion XL 1.0."
        )
    return "\n\n".join([*parts, "\n".join(lines)])


def _levels(found: Plan) -> str:
    head = ("UNET", "PARAMETERS", "REMOVED", "SIZE (FP16)", "FLOP A SAMPLE", "SPEED-UP AT BEST")
    rows = [
        (
            level.name,
            f"{level.params:,}",
            f"{level.removed:.1%}" if level.removed else "–",
            output.size(level.file_bytes),
            _flop(level.flops),
            f"{level.speedup:.2f}x",
        )
        for level in found.levels
    ]
    return output.table(head, rows, right=",".join(head[1:]))


def _memory(found: Plan) -> str:
    choice, forecast = found.choice, found.choice.forecast
    head = ("VRAM IN PHASE", "WEIGHTS", "HESSIANS", "ACTIVATIONS", "WORKSPACE", "TOGETHER")
    rows = [
        (
            moment.phase,
            *(
                output.size(part) if part else "–"
                for part in (
                    moment.weights,
                    moment.hessians,
                    moment.activations,
                    moment.workspace,
                    moment.total,
                )
            ),
        )
        for moment in forecast.moments
    ]
    how = [f"batch {choice.batch}"]
    if choice.groups > 1:
        how.append(
            f"Hessians in {choice.groups} groups, all prompts once for each; "
            "the job chooses this by itself from what is free"
        )
    if choice.offload == "model":
        how.append("text encoders, UNet and VAE take turns on it")
    return (
        output.table(head, rows, right=",".join(head[1:]))
        + f"\nA GPU needs about {output.size(forecast.needed)} free ({'; '.join(how)})."
    )


def _disk(found: Plan) -> str:
    rows = [(name, output.size(octets)) for name, octets in found.disk.items()]
    rows.append(("together", output.size(sum(found.disk.values()))))
    return output.table(("DISK", "SIZE"), rows, right="SIZE")


def _work(found: Plan) -> str:
    if not found.passes:
        return "Work: no forward pass; the weights alone decide."
    what = "calibration" if isinstance(found.spec, PruneSpec) else "denoising"
    most = "at most " if found.choice.groups > 1 else ""  # later passes are replays that stop early
    twice = " Guidance takes two samples a step." if found.guided else ""
    return (
        f"Work: {most}{found.samples:,} samples through the UNet, {_flop(found.flops)}, in "
        f"{found.passes:,} forward passes of {what} at {found.size} x {found.size}.{twice}"
    )


def _flop(number: float) -> str:
    """6761236398080 -> "6.761 TFLOP"."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if number >= size:
            return f"{number / size:.3f} {unit}FLOP"
    return f"{number / 1e6:.3f} MFLOP"
