"""What a job will take, before it is queued: parameters, FLOP, device memory, disk, time.

Forecasts are arithmetic, so a plan is there at once and loads nothing. Time is only said when this
machine has run the like before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from core import demo, memory
from core.architecture import TargetShape, positions
from core.errors import BadInput
from core.manifest import decode_kept, read_manifest
from core.memory import GIB, Choice, Forecast, Model, Moment
from core.presets import CALIBRATION_STEPS, RESEEDED, defaults
from obstui.errors import Problem
from obstui.specs import (
    BadSpec,
    BenchSpec,
    CompareSpec,
    GenerateSpec,
    JobSpec,
    PipelineSpec,
    PruneSpec,
    parse,
    parse_variant_id,
    percent,
)
from obstui.text import one_line

if TYPE_CHECKING:
    from obstui.store import PastRun

Spec = PruneSpec | GenerateSpec | CompareSpec | BenchSpec
"""The jobs that can be planned: those that run a pipeline (`specs.PipelineSpec`)."""

HISTORY_JOBS = 5
_HALF = 2  # bytes
_HESSIANS, _TRAJECTORIES = "Hessians, kept for later jobs", "trajectories"
_LATENT_CHANNELS = 4
_SDXL_BASE = "/stable-diffusion-xl-base-1.0"


class CannotPlan(Problem):
    """The job would not run: its model cannot be read, or it does not fit the device."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Level:
    """One UNet: dense (`sparsity` 0) or a variant. `flops` are those of one sample,
    `speedup` is dense over own FLOP: the most that fewer operations alone can give."""

    name: str
    sparsity: float
    params: int
    removed: float
    flops: int
    speedup: float

    @property
    def file_bytes(self) -> int:
        """The weights file in half precision."""
        return _HALF * self.params


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds that do not depend on the number of forward passes, and those that do, from so many
    jobs of the same kind, model, size and device on this machine. `saved` of the steady ones are
    not needed by a job whose model the one before it has left loaded."""

    steady: float
    growing: float
    jobs: int
    saved: float = 0.0

    @property
    def seconds(self) -> float:
        return self.steady + self.growing


@dataclass(frozen=True, slots=True)
class Plan:
    """`samples` go through the UNet, one for each step of a picture or prompt, two with guidance,
    in `passes` forward passes of a batch each; `flops` are the samples' operations. All count every
    pass in full: replays of recorded denoising stop early. `disk` is bytes by what takes them.
    `assumed` says that the model is not here and was taken for SDXL."""

    spec: Spec
    size: int
    guided: bool
    samples: int
    passes: int
    flops: int
    levels: tuple[Level, ...]
    choice: Choice
    disk: dict[str, int]
    assumed: bool

    @property
    def shared_disk(self) -> int:
        """Bytes that jobs with the same calibration need only once."""
        return sum(self.disk.get(name, 0) for name in (_HESSIANS, _TRAJECTORIES))


def make(spec: JobSpec, vram: float | None = None) -> Plan:
    """The plan of a job; with `vram`, the way to run it within so many GiB of device memory.

    Raises CannotPlan with one sentence, also for a job that runs no pipeline.
    """
    if not isinstance(spec, PipelineSpec):
        raise CannotPlan("Only a job that runs a model can be planned.")
    try:
        return _make(spec, vram)
    except BadInput as err:
        text = one_line(err)
        raise CannotPlan(f"{text[:1].upper()}{text[1:]}.") from None


def check_tokens(spec: JobSpec) -> None:
    """Refuse a calibration that would show a target fewer tokens than it has inputs: it could not
    be solved for, as the engine would say after its first forward pass in the night.

    Sizes that are not known without the model's files are not judged. Raises CannotPlan.
    """
    if not isinstance(spec, PruneSpec) or spec.method != "obs":
        return
    try:
        model, assumed = _model(spec.model)
        if assumed and not spec.model.endswith(_SDXL_BASE):
            return
        _, latent, guided = _geometry(spec, model)
    except BadInput:  # of another fault, that others speak of
        return
    prompts = _prompts(spec)
    batch = min(prompts, memory.default_batch_size(latent * latent))
    samples = batch * ceil(prompts / batch) * _steps(spec) * (2 if guided else 1)

    def shown(target: TargetShape) -> int:
        return samples * positions(latent, target.level)

    poorest = min(model.unet.targets, key=lambda target: shown(target) / target.columns)
    if shown(poorest) < poorest.columns:
        raise CannotPlan(
            f"The calibration would show {poorest.name} {shown(poorest)} tokens for its "
            f"{poorest.columns} inputs, too few to solve for: use more prompts or steps, or a "
            "larger size."
        )


def past(runs: Iterable[PastRun], plan: Plan) -> Duration | None:
    """What finished jobs of the same kind, model and size say about a plan's time, newest first.

    The medians, over the newest few on the newest one's device, of the seconds for each forward
    pass, of those that do not depend on their number, and of loading the model: whether the job
    will find it loaded, nobody knows. None when there is no such job: nothing is invented.
    """
    runs = list(runs)
    usual = defaults(plan.spec.model).size or _model(plan.spec.model)[0].size
    like = [(run, spec) for run in runs if (spec := _like(run.spec, plan.spec, usual)) is not None]
    if not like:
        return None
    device = like[0][0].device
    like = [(run, spec) for run, spec in like if run.device == device][:HISTORY_JOBS]
    prices = [run.price(_steps_painted(spec)) for run, spec in like]
    rest = median(steady - run.ready for (run, _), (steady, _) in zip(like, prices, strict=True))
    growing = median(rate for _, rate in prices) * _steps_painted(plan.spec)
    cold, warm = (_loading(runs, plan.spec, device, warm=warm) for warm in (False, True))
    loading = median(cold or [run.ready for run, _ in like])
    saved = max(0.0, loading - median(warm)) if warm else 0.0
    return Duration(rest + loading, growing, len(like), saved)


def _loading(runs: Iterable[PastRun], spec: Spec, device: str | None, *, warm: bool) -> list[float]:
    """Seconds that the newest few jobs took until they had this model, in a process of their own or
    in one that had it. Whatever paints loads it alike."""
    kinds = ("prune",) if isinstance(spec, PruneSpec) else ("generate", "compare", "bench")
    found = (
        run.ready
        for run in runs
        if run.ready
        and run.warm == warm
        and run.device == device
        and run.spec.get("model") == spec.model
        and run.spec.get("kind") in kinds
    )
    return list(islice(found, HISTORY_JOBS))


def _make(spec: Spec, vram: float | None) -> Plan:
    check_tokens(spec)
    model, assumed = _model(spec.model)
    size, latent, guided = _geometry(spec, model)
    levels = _levels(spec, model, latent)
    choices = _choices(spec, model, size, guided=guided)
    choice = memory.fit(choices, int(vram * GIB)) if vram is not None else next(iter(choices))
    samples = _steps_painted(spec) * (2 if guided else 1)
    dense = model.unet.flops(latent, text_tokens=model.text_tokens)
    if isinstance(spec, PruneSpec):
        rounds = choice.groups if spec.method == "obs" else 0
        samples *= rounds
        flops = samples * dense
        passes = rounds * _steps(spec) * ceil(_prompts(spec) / choice.batch)
        disk = _prune_disk(spec, model, latent, levels)
    else:
        painted = _painted(spec, levels)
        pictures = sum(number for _, number in painted)
        flops = sum(samples // pictures * number * level.flops for level, number in painted)
        passes = _steps(spec) * sum(ceil(number / choice.batch) for _, number in painted)
        kept = 0 if isinstance(spec, BenchSpec) else pictures
        disk = {"pictures at most": kept * _picture_bytes(size, latent)}
    return Plan(spec, size, guided, samples, passes, flops, levels, choice, disk, assumed)


def _model(name: str) -> tuple[Model, bool]:
    """The model's sizes, and whether they are assumed because its files are not here."""
    if name == "demo":
        return memory.read_model(demo.MODEL_DIR), False
    folder = Path(name)
    if folder.is_dir():
        return memory.read_model(folder), False
    return memory.sdxl(), not folder.is_file()


def _geometry(spec: Spec, model: Model) -> tuple[int, int, bool]:
    """Pixels a side, latents a side, and whether guidance doubles every forward pass."""
    size = spec.size or defaults(spec.model).size or model.size
    guidance = defaults(spec.model).guidance if spec.guidance is None else spec.guidance
    return size, model.latent_size(size), guidance > 1


def _choices(spec: Spec, model: Model, size: int, *, guided: bool) -> Iterable[Choice]:
    if not isinstance(spec, PruneSpec):
        # With the dense UNet's weights, also for a variant: its base is loaded first.
        return memory.paint_choices(model, size, guided=guided)
    if spec.method == "magnitude":  # nothing runs: the pipeline is loaded, and that is all
        whole = model.unet.params() + sum(model.encoder_params) + model.vae_params
        return [Choice(1, 1, "none", Forecast((Moment("load", _HALF * whole),)))]
    return memory.prune_choices(
        model, size, packages=spec.packages, guided=guided, levels=len(spec.sparsity)
    )


def _levels(spec: Spec, model: Model, latent: int) -> tuple[Level, ...]:
    """The dense UNet and the job's variants."""
    names: list[tuple[str, float, dict[str, int]]] = [("dense", 0.0, {})]
    if isinstance(spec, PruneSpec):
        names += [(f"{percent(s)} %", s, model.unet.kept(s)) for s in spec.sparsity]
    else:
        names += [_variant(reference, model) for reference in spec.variant_refs]
    unet, tokens = model.unet, model.text_tokens
    dense, work = unet.params(), unet.flops(latent, text_tokens=tokens)
    levels = []
    for name, sparsity, kept in names:
        params, flops = unet.params(kept), unet.flops(latent, kept, tokens)
        levels.append(Level(name, sparsity, params, 1 - params / dense, flops, work / flops))
    return tuple(levels)


def _variant(reference: str, model: Model) -> tuple[str, float, dict[str, int]]:
    """(name, sparsity, kept units): by the rule for an id, as its manifest says for a folder."""
    named = parse_variant_id(reference)
    if named:
        return reference, named[1], model.unet.kept(named[1])
    manifest = read_manifest(reference)
    units = {target.name: target.units for target in model.unet.targets}
    kept = {
        str(entry["name"]): len(decode_kept(str(entry["kept"]), int(entry["units"])))
        for entry in manifest["targets"]
    }
    if kept.keys() - units.keys():
        raise BadInput(f"the variant {one_line(reference, limit=120)} was made from another model")
    return Path(reference).name, float(manifest["sparsity"]), kept


def _painted(
    spec: GenerateSpec | CompareSpec | BenchSpec, levels: tuple[Level, ...]
) -> list[tuple[Level, int]]:
    """The UNets that paint, each with its pictures: a generation has one, a comparison and a
    benchmark all, and the dense one again at the end."""
    painting = levels[-1:] if isinstance(spec, GenerateSpec) else levels
    again = [(levels[0], _again(spec))] if _again(spec) else []
    return [*((level, _images(spec)) for level in painting), *again]


def _prompts(spec: Spec) -> int:
    if isinstance(spec, GenerateSpec):
        return len(spec.prompts)
    if isinstance(spec, BenchSpec):
        return 1
    return min(spec.num_prompts, len(spec.prompts) or spec.num_prompts)


def _images(spec: GenerateSpec | CompareSpec | BenchSpec) -> int:
    """Pictures by one model."""
    if isinstance(spec, BenchSpec):
        return spec.warm_up + spec.repeats
    seeds = len(spec.seeds) if isinstance(spec, GenerateSpec) else 0
    return _prompts(spec) * (seeds or spec.count)


def _again(spec: Spec) -> int:
    """Pictures that the dense model paints after all others: from other seeds, or to be timed."""
    if isinstance(spec, BenchSpec):
        return _images(spec) if spec.variants else 0
    return min(RESEEDED, _images(spec)) if isinstance(spec, CompareSpec) else 0


def _steps(spec: Spec) -> int:
    if spec.steps is not None:
        return spec.steps
    return CALIBRATION_STEPS if isinstance(spec, PruneSpec) else defaults(spec.model).steps


def _steps_painted(spec: Spec) -> int:
    """Steps of all pictures or prompts by all models: what a job's time grows with."""
    if isinstance(spec, PruneSpec):
        return _steps(spec) * _prompts(spec)
    models = 1 if isinstance(spec, GenerateSpec) else 1 + len(spec.variants)
    return _steps(spec) * (_images(spec) * models + _again(spec))


def _prune_disk(
    spec: PruneSpec, model: Model, latent: int, levels: tuple[Level, ...]
) -> dict[str, int]:
    targets = model.unet.targets
    disk = {"variants": sum(level.file_bytes for level in levels[1:])}
    disk["solved targets"] = sum(
        _HALF * target.width * target.unit_width * model.unet.kept(sparsity)[target.name]
        for sparsity in spec.sparsity
        for target in targets
    )
    if spec.method == "obs":
        disk[_HESSIANS] = memory.hessian_bytes(targets)
        state = _LATENT_CHANNELS * latent * latent * _HALF
        disk[_TRAJECTORIES] = _steps_painted(spec) * state
    return disk


def _picture_bytes(size: int, latent: int) -> int:
    """A PNG at its worst, and its latents in half precision."""
    return 3 * size * size + _LATENT_CHANNELS * latent * latent * _HALF


def _like(theirs: dict[str, Any], spec: Spec, usual: int) -> Spec | None:
    """The spec of a finished job if its time tells about `spec`; who names no size means `usual`
    pixels."""
    if theirs.get("kind") != spec.kind:
        return None
    try:
        known = parse(theirs)
    except BadSpec:  # of another version
        return None
    same = ["model"]
    if isinstance(spec, PruneSpec):
        same += ["method", "packages", "allocate"]
    if not isinstance(known, PipelineSpec) or (known.size or usual) != (spec.size or usual):
        return None
    return known if all(getattr(known, name) == getattr(spec, name) for name in same) else None
