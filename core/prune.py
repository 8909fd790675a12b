"""One pruning run: settings in, events out, variants on disk.

    load -> (calibrate -> solve) for each group of targets that fits the memory -> save

All sparsities come from one calibration and one greedy order per target. What is finished lies in
`work` under a key of everything that decides its bytes, so a run that was cancelled or killed goes
on where it stopped, and ends with the same files as an undisturbed one.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from core import loading, solver
from core.calibrate import (
    Calibration,
    Denoising,
    calibrate,
    default_batch_size,
    restore_sums,
    save_sums,
    timestep_weights,
)
from core.checkpoint import check_files, digest, read_tensors, save_variant, write_tensors
from core.errors import BadInput, Cancelled, EngineError
from core.events import (
    Event,
    Note,
    Phase,
    Progress,
    TargetsFound,
    TargetSolved,
    VariantSaved,
)
from core.hessian import Hessian, size_bytes
from core.manifest import WEIGHTS, fingerprint, read_manifest
from core.surgery import shrink
from core.targets import Target, consumer_weight, find_targets, units_to_keep

# Share of the free GPU memory for Hessians: the rest is for activations and the solver.
_HESSIAN_SHARE = 0.7
# Below this many tokens a column the error on other prompts is visibly above the reported one.
_STARVED = 16
_LIBRARIES = ("diffusers", "safetensors", "torch", "transformers")


@dataclass(frozen=True)
class PruneSettings:
    """What to prune and how.

    `model` is anything `loading.load_pipeline` takes. `sparsities` are shares of heads and neurons
    in (0, 1), the same in every target. Method "obs" calibrates, selects and compensates;
    "magnitude" removes the units of least weight and changes nothing else. Everything below
    `method` is about calibration: empty `prompts` mean the built-in ones, `num_prompts` caps both,
    `size` (pixels) None is the model's own, `guidance` up to 1 turns CFG off, `batch_size` None
    follows from the size.
    """

    model: str
    sparsities: tuple[float, ...]
    method: Literal["obs", "magnitude"] = "obs"
    prompts: tuple[str, ...] = ()
    num_prompts: int = 100
    steps: int = 25
    guidance: float = 7.0
    size: int | None = None
    seed: int = 0
    timestep_weights: str = "log_decrease"
    damping: float = 0.01
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Raise BadInput for settings that no model could run."""
        if not self.sparsities or not all(0 < sparsity < 1 for sparsity in self.sparsities):
            raise BadInput(
                f"sparsities {self.sparsities} must be shares between 0 and 1: "
                "ask for one or several such as 0.1, 0.3"
            )
        if len({variant_name(sparsity) for sparsity in self.sparsities}) < len(self.sparsities):
            raise BadInput(f"sparsities {self.sparsities} repeat one: name each once")
        if self.method not in ("obs", "magnitude"):
            raise BadInput(f"method {self.method!r} is not known: choose obs or magnitude")
        if self.num_prompts < 1 or self.steps < 1 or self.damping < 0:
            raise BadInput(
                "a calibration needs num_prompts and steps of at least 1 and damping of at least "
                f"0: got {self.num_prompts}, {self.steps}, {self.damping}"
            )
        timestep_weights(self.timestep_weights, 1)  # refuses a name it does not know


def variant_name(sparsity: float) -> str:
    """Folder of a variant: s30 for 0.3, s12.5 for 0.125."""
    return f"s{100 * sparsity:g}"


def run(
    settings: PruneSettings, out: Path, work: Path, cancelled: Callable[[], bool]
) -> Iterator[Event]:
    """Prune `settings.model` into `out/s10`, `out/s30`, ..., yielding events on the way.

    `work` keeps what is finished; the caller deletes it when it wants no more runs on the same
    calibration. `cancelled` is asked between forward passes and between targets.
    Raises BadInput for a bad request, Cancelled once the state is on disk, EngineError otherwise.
    """
    levels = len(settings.sparsities)
    ahead = (("calibrate", 0), ("solve", 0)) if settings.method == "obs" else (("solve", 0),)
    yield Phase("load", 1, "model", following=(*ahead, ("save", levels)))
    device = loading.pick_device()
    dtype = loading.pick_dtype(device)
    job = _Job(
        loading.load_pipeline(settings.model, device=device, dtype=dtype), settings, out, work
    )
    yield Progress(1, 1, settings.model)
    yield TargetsFound(tuple(target.to_dict() for target in job.targets))
    job.refuse_foreign_variants()
    _stop_if(cancelled)
    for number in range(len(job.groups)):
        yield from job.solve_group(number, cancelled)
    yield from job.save(cancelled)


def memory_groups(targets: Sequence[Target], budget: float) -> list[list[Target]]:
    """Split targets, in order, into groups whose Hessians take at most `budget` bytes together.

    The model stays dense until the end, so the grouping costs passes and changes no result.
    """
    groups: list[list[Target]] = []
    used = 0
    for target in targets:
        size = size_bytes(target.columns)
        if not groups or used + size > budget:
            groups.append([])
            used = 0
        groups[-1].append(target)
        used += size
    return groups


class _Job:
    """One run once its model is loaded: the dense UNet, its targets, and the keys of its work."""

    def __init__(
        self, pipe: StableDiffusionXLPipeline, settings: PruneSettings, out: Path, work: Path
    ) -> None:
        self.settings, self.out, self.work, self.unet = settings, out, work, pipe.unet
        self.targets = find_targets(pipe.unet)
        self.keeps = {
            target: {s: units_to_keep(target.units, s) for s in sorted(settings.sparsities)}
            for target in self.targets
        }
        state = pipe.unet.state_dict()
        self.dtype = _storage_dtype(state)
        self.dense_params = sum(value.numel() for value in state.values())
        self.identity: dict[str, Any] = {
            "dense_sha256": digest(state),
            "dtype": str(self.dtype).removeprefix("torch."),
            "computed_in": str(pipe.unet.dtype).removeprefix("torch."),
            "device": pipe.unet.device.type,
            "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        }
        self.groups = [self.targets]
        self.denoising: Denoising | None = None
        if settings.method == "obs":
            calibration = _calibration(settings, pipe)
            self.denoising = Denoising(pipe, calibration)
            self.identity["calibration"] = _calibration_facts(calibration, pipe)
            self.groups = memory_groups(self.targets, _hessian_budget(pipe.unet.device))
        damping = settings.damping if settings.method == "obs" else None
        self.recipe = [self.identity, settings.method, damping]
        self.solved: dict[Target, dict[str, Any]] = {}

    def refuse_foreign_variants(self) -> None:
        """Raise BadInput where a variant of other settings, or anything else, is in the way."""
        for sparsity in self.settings.sparsities:
            folder = self.out / variant_name(sparsity)
            if folder.exists() and read_manifest(folder).get("key") != self._variant_key(sparsity):
                raise BadInput(
                    f"{folder} holds a variant made with other settings or libraries: "
                    "choose another output folder or delete it"
                )

    def solve_group(self, number: int, cancelled: Callable[[], bool]) -> Iterator[Event]:
        """Calibrate one group of targets and solve them; what is on disk is taken from there."""
        group = self.groups[number]
        for target in group:
            found = read_tensors(self._record(target), self._target_key(target))
            if found is not None:
                self.solved[target] = found[1]
        reused = {target for target in group if target in self.solved}
        hessians: dict[Target, Hessian] = {}
        if self.denoising is not None:
            hessians = yield from self._calibrate(number, len(reused) == len(group), cancelled)
        yield Phase("solve", len(group), "targets", len(reused), self._following(number))
        done = len(reused)
        for target in group:
            if target not in reused:
                _stop_if(cancelled)
                yield from self._solve(target, hessians.pop(target, None))
                done += 1
                yield Progress(done, len(group), target.name)
            else:
                yield self._solved_event(target, reused=True)

    def save(self, cancelled: Callable[[], bool]) -> Iterator[Event]:
        """Write the variants, cutting one UNet further from level to level: the kept units of a
        higher sparsity are among those of a lower one, so no second copy is needed."""
        sparsities = sorted(self.settings.sparsities)
        yield Phase("save", len(sparsities), "variants")
        kept = {target.name: torch.arange(target.units) for target in self.targets}
        for done, sparsity in enumerate(sparsities, start=1):
            _stop_if(cancelled)
            for target in self.targets:
                keep, W = self._level(target, sparsity)
                now = dataclasses.replace(target, units=len(kept[target.name]))
                shrink(self.unet, now, torch.searchsorted(kept[target.name], keep), W)
                kept[target.name] = keep
            folder = self.out / variant_name(sparsity)
            manifest = self._intact(folder)
            reused = manifest is not None
            if manifest is None:
                folder.parent.mkdir(parents=True, exist_ok=True)
                manifest = save_variant(folder, self.unet, self._facts(sparsity), kept, self.dtype)
            yield VariantSaved(
                sparsity=sparsity,
                method=self.settings.method,
                path=str(folder),
                params=manifest["params"],
                dense_params=self.dense_params,
                size_bytes=(folder / "unet" / WEIGHTS).stat().st_size,
                sha256=manifest["files"][WEIGHTS],
                mean_error=manifest["mean_error"],
                reused=reused,
            )
            yield Progress(done, len(sparsities), folder.name)

    def _calibrate(
        self, number: int, solved: bool, cancelled: Callable[[], bool]
    ) -> Generator[Event, None, dict[Target, Hessian]]:
        """The Hessians of a group's targets that are not solved yet."""
        assert self.denoising is not None
        group, total = self.groups[number], self.denoising.passes
        after = (("solve", len(group)), *self._following(number))
        if solved:
            yield Phase("calibrate", total, "forward passes", total, after)
            return {}
        hessians = {target: Hessian(target.columns, self.unet.device) for target in group}
        key = fingerprint([self.identity, [target.name for target in group]])
        file = self.work / f"calibration-{number}.safetensors"
        done = restore_sums(file, key, hessians)
        yield Phase("calibrate", total, "forward passes", done, after)
        if done < total:
            save = partial(save_sums, file, key, hessians)
            yield from calibrate(self.denoising, hessians, done, save, cancelled)
        starved, hessian = min(hessians.items(), key=lambda item: item[1].tokens / item[0].columns)
        if hessian.tokens < _STARVED * starved.columns:
            yield Note(
                f"The calibration saw {hessian.tokens / starved.columns:.1f} tokens per input of "
                f"{starved.name}; below {_STARVED} the errors on other prompts are clearly higher "
                "than reported: use more prompts or steps."
            )
        return {target: hessians[target] for target in group if target not in self.solved}

    def _solve(self, target: Target, hessian: Hessian | None) -> Iterator[Event]:
        """Solve one target at every level and keep the result on disk."""
        begun = time.monotonic()
        W = consumer_weight(self.unet, target).detach()
        counts = set(self.keeps[target].values())
        facts: dict[str, Any] = {"key": self._target_key(target)}
        if hessian is None:
            order = solver.magnitude_order(W, target.unit_width)
            keep_of = {k: torch.tensor(sorted(order[target.units - k :])) for k in counts}
            tensors = {
                f"W.{k}": W[:, target.indices(keep)].to(self.dtype) for k, keep in keep_of.items()
            }
            facts |= {"tokens": 0, "damping": None, "error": {}}
        else:
            H = hessian.finish(target.name)
            solution = solver.solve(
                W,
                H,
                target.unit_width,
                sorted(counts),
                damping=self.settings.damping,
                name=target.name,
            )
            keep_of = {k: level.keep for k, level in solution.levels.items()}
            tensors = {f"W.{k}": level.W.to(self.dtype) for k, level in solution.levels.items()}
            errors = {str(k): level.error for k, level in solution.levels.items()}
            facts |= {"tokens": hessian.tokens, "damping": solution.damping, "error": errors}
            if solution.damping != self.settings.damping:
                yield Note(
                    f"{target.name} needed damping {solution.damping:g} instead of "
                    f"{self.settings.damping:g}: its inputs are nearly dependent."
                )
        if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise EngineError(
                f"the new weights of {target.name} are too large for {self.dtype}: raise the "
                "damping or calibrate with more prompts"
            )
        tensors |= {f"keep.{k}": keep for k, keep in keep_of.items()}
        facts["seconds"] = time.monotonic() - begun
        write_tensors(self._record(target), tensors, facts)
        self.solved[target] = facts
        yield self._solved_event(target, reused=False)

    def _solved_event(self, target: Target, *, reused: bool) -> TargetSolved:
        facts = self.solved[target]
        keeps = self.keeps[target]
        return TargetSolved(
            name=target.name,
            kind=target.kind,
            units=target.units,
            kept={str(sparsity): k for sparsity, k in keeps.items()},
            error={str(s): facts["error"][str(k)] for s, k in keeps.items() if facts["error"]},
            samples_per_dim=facts["tokens"] / target.columns,
            seconds=facts["seconds"],
            reused=reused,
        )

    def _level(self, target: Target, sparsity: float) -> tuple[Tensor, Tensor]:
        """Kept units and consumer weight of a solved target, from disk."""
        found = read_tensors(self._record(target), self._target_key(target))
        if found is None:
            raise EngineError(
                f"{self._record(target)} was changed during the run: start it again, it will go on"
            )
        k = self.keeps[target][sparsity]
        return found[0][f"keep.{k}"], found[0][f"W.{k}"]

    def _facts(self, sparsity: float) -> dict[str, Any]:
        """What the manifest of a variant says beside its files."""
        targets = []
        for target in self.targets:
            facts = self.solved[target]
            targets.append(
                {
                    **target.to_dict(),
                    "unit_width": target.unit_width,
                    "error": facts["error"].get(str(self.keeps[target][sparsity])),
                    "damping": facts["damping"],
                    "tokens": facts["tokens"],
                }
            )
        errors = [entry["error"] for entry in targets if entry["error"] is not None]
        return {
            **self.identity,
            "key": self._variant_key(sparsity),
            "base": self.settings.model,
            "method": self.settings.method,
            "sparsity": sparsity,
            "dense_params": self.dense_params,
            "damping": self.recipe[2],
            "mean_error": sum(errors) / len(errors) if errors else None,
            "targets": targets,
        }

    def _intact(self, folder: Path) -> dict[str, Any] | None:
        """The manifest of a variant that is there already and whole."""
        try:
            return check_files(folder) if folder.exists() else None
        except BadInput:
            return None

    def _following(self, number: int) -> tuple[tuple[str, int], ...]:
        """The phases after group `number` is solved."""
        phases: list[tuple[str, int]] = []
        for group in self.groups[number + 1 :]:
            if self.denoising is not None:
                phases.append(("calibrate", self.denoising.passes))
            phases.append(("solve", len(group)))
        return (*phases, ("save", len(self.settings.sparsities)))

    def _record(self, target: Target) -> Path:
        return self.work / "solved" / f"{target.name}.safetensors"

    def _target_key(self, target: Target) -> str:
        return fingerprint([self.recipe, target.name, sorted(set(self.keeps[target].values()))])

    def _variant_key(self, sparsity: float) -> str:
        return fingerprint([self.recipe, self.settings.model, sparsity])


def _calibration(settings: PruneSettings, pipe: StableDiffusionXLPipeline) -> Calibration:
    """The calibration that the settings mean for this model."""
    prompts = settings.prompts[: settings.num_prompts] or tuple(
        loading.default_prompts(settings.model, settings.num_prompts, settings.seed)
    )
    size = settings.size or loading.default_size(pipe)
    pixels = (size // pipe.vae_scale_factor) ** 2
    return Calibration(
        prompts=prompts,
        steps=settings.steps,
        guidance=settings.guidance,
        size=size,
        seed=settings.seed,
        timestep_weights=settings.timestep_weights,
        batch_size=min(len(prompts), settings.batch_size or default_batch_size(pixels)),
    )


def _calibration_facts(calibration: Calibration, pipe: StableDiffusionXLPipeline) -> dict[str, Any]:
    """The calibration as the manifest tells it: the prompts by their number and hash."""
    facts = dataclasses.asdict(calibration)
    prompts = facts.pop("prompts")
    scheduler = {
        "name": type(pipe.scheduler).__name__,
        **json.loads(pipe.scheduler.to_json_string()),
    }
    return {
        **facts,
        "num_prompts": len(prompts),
        "prompts_sha256": fingerprint(prompts),
        "scheduler": type(pipe.scheduler).__name__,
        "scheduler_sha256": fingerprint(scheduler),
    }


def _storage_dtype(state: Mapping[str, Tensor]) -> torch.dtype:
    """The number format for the variants: half precision where it holds every dense weight
    exactly, so that a model shipped in halves does not double when a CPU computes in float32."""
    for dtype in (torch.float16, torch.bfloat16):
        if all(bool((value.to(dtype) == value).all()) for value in state.values()):
            return dtype
    return next(iter(state.values())).dtype


def _hessian_budget(device: torch.device) -> float:
    """Bytes that the Hessians of one group may take."""
    if device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    return _HESSIAN_SHARE * free


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("cancelled: everything finished so far is on disk")
