"""One pruning run: settings in, events out, variants on disk.

    load -> (calibrate -> solve) for each round -> check on held-out prompts -> save

All sparsities come from one calibration and one greedy order per target. What is finished lies in
`work` under a key of everything that decides its bytes, so a run that was cancelled or killed goes
on where it stopped, and ends with the same files as an undisturbed one.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from core import fidelity, loading, memory, probe
from core.architecture import units_to_keep
from core.calibrate import Walk
from core.checkpoint import check_files, read_tensors, save_variant, write_tensors
from core.errors import BadInput, Cancelled
from core.events import (
    Event,
    HeldOutMeasured,
    MemoryMeasured,
    Note,
    Phase,
    Progress,
    RoundBegun,
    TargetsFound,
    TargetSolved,
    VariantSaved,
)
from core.hessian import Hessian
from core.identity import calibration_facts, identify, storage_dtype
from core.manifest import WEIGHTS, fingerprint, read_manifest
from core.memory import default_batch_size
from core.settings import PruneSettings, Round, rounds, variant_name
from core.solver import Level
from core.solving import Solving
from core.surgery import cut, masked
from core.targets import Target, find_targets
from core.trajectory import Course, Trajectories
from core.work import Solved

__all__ = ["PruneSettings", "run", "variant_name"]

# Share of the free GPU memory for the weights and Hessians of an architecture without a forecast.
_HESSIAN_SHARE = 0.7
# Steps of every batch of held-out prompts that are measured.
_HELD_OUT_STEPS = 4
_KEPT = (
    "The calibration of this model, prompts and settings was on disk already: no forward pass was "
    "needed for it."
)


def run(
    settings: PruneSettings,
    out: Path,
    work: Path,
    cancelled: Callable[[], bool],
    cache: Path | None = None,
) -> Iterator[Event]:
    """Prune `settings.model` into `out/s10`, `out/s30`, ..., yielding events on the way.

    `work` keeps what is finished; the caller deletes it after success. `cache` keeps finished
    Hessians for later runs of the same calibration, which then need no forward pass for them; None
    keeps them in `work`. `cancelled` is asked between forward passes and between targets.
    Raises BadInput for a bad request, Cancelled once the state is on disk, EngineError otherwise.
    """
    phases = ["calibrate", "solve"] if settings.method == "obs" else ["solve"]
    if settings.allocate == "loss":
        phases[1:1] = ["order", "probe"]
    if settings.method == "obs" and settings.held_out:
        phases.append("check")
    ahead = tuple((name, 0) for name in phases)
    save = ("save", len(settings.sparsities))
    yield Phase("load", 1, "model", following=(*ahead, save))
    device = loading.pick_device()
    dtype = loading.pick_dtype(device)
    pipe = loading.load_pipeline(settings.model, device="cpu", dtype=dtype)
    job = _Job(pipe, settings, out, work, cache or work / "hessians", device)
    yield Progress(1, 1, settings.model)
    yield TargetsFound(tuple(target.to_dict() for target in job.targets))
    job.refuse_foreign_variants()
    _stop_if(cancelled)
    if settings.allocate == "loss":
        yield from job.allocate(cancelled)
    else:
        for this in job.rounds:
            yield from job.solve_round(this, cancelled)
    if job.held_out:
        yield from job.check(cancelled)
    yield from job.save(cancelled)
    on_gpu = device.startswith("cuda")
    yield MemoryMeasured(job.forecast, torch.cuda.max_memory_allocated() if on_gpu else None)


class _Job:
    """One run once its model is loaded: the dense UNet, its targets, and the keys of its work."""

    def __init__(
        self,
        pipe: StableDiffusionXLPipeline,
        settings: PruneSettings,
        out: Path,
        work: Path,
        cache: Path,
        device: str,
    ) -> None:
        self.settings, self.out, self.work, self.unet = settings, out, work, pipe.unet
        self.targets = find_targets(pipe.unet)
        self.sparsities = tuple(sorted(settings.sparsities))
        self.keeps = {
            target: {s: units_to_keep(target.units, s) for s in self.sparsities}
            for target in self.targets
        }
        state = pipe.unet.state_dict()
        self.dtype = storage_dtype(state)
        self.dense_params = sum(value.numel() for value in state.values())
        self.identity = identify(state, device, self.dtype)
        self.course: Trajectories | None = None
        self.held_out: list[Sequence[int]] = []
        self.forecast: int | None = None
        walk = None
        packages, room = 1, math.inf
        if settings.method == "obs":
            packages = settings.packages
            self.forecast, room = _forecast(pipe, settings, device)
            walk = self._calibration(pipe, device)
        self.rounds = rounds(self.targets, self.sparsities, packages, room)
        self.recipe: dict[str, Any] = {
            "method": settings.method,
            "damping": settings.damping if walk else None,
            "packages": packages,
            "allocate": settings.allocate,
            "budget": settings.budget if settings.allocate == "loss" else None,
        }
        calibration = [self.identity]
        self.solving = Solving(
            pipe.unet, settings, work, cache, self.recipe, calibration, walk, self.dtype
        )
        self.solved: dict[tuple[Target, float], tuple[Solved, dict[str, Any]]] = {}
        self.measured: dict[float, fidelity.HeldOut] = {}
        self.ahead = self._phases()

    def refuse_foreign_variants(self) -> None:
        """Raise BadInput where a variant of other settings, or anything else, is in the way."""
        for sparsity in self.sparsities:
            folder = self.out / variant_name(sparsity)
            if folder.exists() and read_manifest(folder).get("key") != self._variant_key(sparsity):
                raise BadInput(
                    f"{folder} holds a variant made with other settings or libraries: "
                    "choose another output folder or delete it"
                )

    def solve_round(self, this: Round, cancelled: Callable[[], bool]) -> Iterator[Event]:
        """Calibrate one round's targets and solve them; what is on disk is taken from there."""
        shelves = {target: self._shelf(target, this) for target in this.targets}
        known = {target: shelf.facts() for target, shelf in shelves.items()}
        unsolved = [target for target in this.targets if known[target] is None]
        pruned = {target: self._level(target, this.sparsities[0]) for target in this.before}
        before = {target.name: self.keeps[target][this.sparsities[0]] for target in this.before}
        sums = self.solving.sums(before or None)
        hessians: dict[Target, Hessian] = {}
        if self.solving.walk is not None:
            done, hessians = self.solving.restore(sums, unsolved)
            yield self._round(this)
            yield self._begin("forward passes", done)
            if hessians:
                with masked(self.unet, pruned):
                    yield from self.solving.calibrate(sums, hessians, done, cancelled)
            elif unsolved:
                yield Note(_KEPT)
        done = len(this.targets) - len(unsolved)
        yield self._begin("targets", done)
        for target in this.targets:
            facts = known[target]
            if facts is None:
                _stop_if(cancelled)
                hessian = hessians.pop(target, None)
                if hessian is None and self.solving.walk is not None:
                    hessian = sums.read(target, self.unet.device)
                counts = sorted({self.keeps[target][s] for s in this.sparsities})
                facts = yield from self.solving.solve(target, counts, hessian, shelves[target])
                done += 1
            reused = target not in unsolved
            yield self._keep_solved(target, this.sparsities, shelves[target], facts, reused=reused)
            if not reused:
                yield Progress(done, len(this.targets), target.name)

    def allocate(self, cancelled: Callable[[], bool]) -> Iterator[Event]:
        """Find the loss curves and the sensitivity of every target, choose what each keeps, and
        solve for that."""
        sums = self.solving.sums()
        survey = probe.Survey(self.solving, self.targets, self.sparsities)
        for this in self.rounds:
            unknown = [target for target in this.targets if survey.facts(target) is None]
            done, hessians = self.solving.restore(sums, unknown)
            yield self._round(this)
            yield self._begin("forward passes", done)
            if hessians:
                yield from self.solving.calibrate(sums, hessians, done, cancelled)
            elif unknown:
                yield Note(_KEPT)
            done = len(this.targets) - len(unknown)
            yield self._begin("targets", done)
            for target in unknown:
                _stop_if(cancelled)
                found = hessians.pop(target, None) or sums.read(target, self.unet.device)
                survey.order(target, found)
                done += 1
                yield Progress(done, len(this.targets), target.name)
        phase = self._begin("forward passes")
        yield phase
        for done, detail in survey.probe():
            _stop_if(cancelled)
            yield Progress(done, phase.total, detail)
        self.keeps = survey.allocation(self.settings.budget)
        phase = self._begin("targets")
        yield phase
        for number, target in enumerate(self.targets, start=1):
            counts = sorted(set(self.keeps[target].values()))
            shelf = self.solving.shelf("solved", target, counts)
            facts = shelf.facts()
            reused = facts is not None
            if facts is None:
                _stop_if(cancelled)
                hessian = sums.read(target, self.unet.device)
                facts = self.solving.refit(target, counts, survey.units(target), hessian, shelf)
            yield self._keep_solved(target, self.sparsities, shelf, facts, reused=reused)
            yield Progress(number, phase.total, target.name)

    def check(self, cancelled: Callable[[], bool]) -> Iterator[Event]:
        """Measure every variant on recorded states of prompts that no calibration used."""
        assert self.course is not None
        phase = self._begin("forward passes")
        yield phase
        done = 0
        for batch in self.held_out:
            if self.course.recorded(batch) is None:
                for _ in self.course.walk(batch):
                    _stop_if(cancelled)
                    done += 1
                    yield Progress(done, phase.total, "held-out prompts")
            else:
                done += len(self.course.timesteps)
        states = fidelity.draw_states(
            self.course, self.held_out, _HELD_OUT_STEPS, self.settings.seed
        )
        for sparsity in self.sparsities:
            key = fingerprint(["held out", self._variant_key(sparsity)])
            file = self.work / f"check-{variant_name(sparsity)}.safetensors"
            found = read_tensors(file, key)
            if found is None:
                levels = {target: self._level(target, sparsity) for target in self.targets}
                for passed in fidelity.held_out(self.course, states, levels):
                    if isinstance(passed, fidelity.HeldOut):
                        self.measured[sparsity] = passed
                    else:
                        _stop_if(cancelled)
                        at = f"{variant_name(sparsity)} on held-out prompts"
                        yield Progress(done + passed, phase.total, at)
                facts = {"key": key, **dataclasses.asdict(self.measured[sparsity])}
                write_tensors(file, {}, facts)
            else:
                facts = found[1]
                self.measured[sparsity] = fidelity.HeldOut(facts["noise"], facts["targets"])
            done += 2 * len(states)
            measured = self.measured[sparsity]
            yield HeldOutMeasured(sparsity, measured.noise, measured.targets)
            yield Progress(done, phase.total, variant_name(sparsity))

    def save(self, cancelled: Callable[[], bool]) -> Iterator[Event]:
        """Write the variants."""
        yield self._begin("variants")
        dense = self.unet.state_dict()
        for done, sparsity in enumerate(self.sparsities, start=1):
            _stop_if(cancelled)
            folder = self.out / variant_name(sparsity)
            manifest = self._intact(folder)
            reused = manifest is not None
            if manifest is None:
                folder.parent.mkdir(parents=True, exist_ok=True)
                levels = {target.name: self._level(target, sparsity) for target in self.targets}
                manifest = save_variant(
                    folder,
                    cut(dense, self.targets, levels),
                    self.unet,
                    self._facts(sparsity),
                    {name: level.keep for name, level in levels.items()},
                    self.dtype,
                    self._compensation(sparsity),
                )
                del levels
            measured = self.measured.get(sparsity)
            yield VariantSaved(
                sparsity=sparsity,
                method=self.settings.method,
                path=str(folder),
                params=manifest["params"],
                dense_params=self.dense_params,
                size_bytes=(folder / "unet" / WEIGHTS).stat().st_size,
                sha256=manifest["files"][WEIGHTS],
                mean_error=manifest["mean_error"],
                held_out_error=_mean(list(measured.targets.values())) if measured else None,
                noise_error=measured.noise if measured else None,
                reused=reused,
            )
            if manifest["params"] == self.dense_params:
                yield Note(
                    f"{folder.name} is the dense model: no head and no neuron was removed; take a "
                    "larger sparsity or another budget."
                )
            yield Progress(done, len(self.sparsities), folder.name)

    def _calibration(self, pipe: StableDiffusionXLPipeline, device: str) -> Walk:
        """The walk of the settings' prompts on this model; fills in the identity."""
        settings = self.settings
        prompts = settings.prompts[: settings.num_prompts] or tuple(
            loading.default_prompts(settings.model, settings.num_prompts, settings.seed)
        )
        others = (
            tuple(loading.held_out_prompts(settings.model, settings.held_out))
            if settings.held_out
            else ()
        )
        size = settings.size or loading.default_size(pipe)
        pixels = (size // pipe.vae_scale_factor) ** 2
        course = Course(
            prompts=(*prompts, *others),
            steps=settings.steps,
            guidance=settings.guidance,
            size=size,
            seed=settings.seed,
            batch_size=min(len(prompts), settings.batch_size or default_batch_size(pixels)),
        )
        self.identity["calibration"] = calibration_facts(course, len(prompts), settings, pipe)
        shown = {**self.identity["calibration"], "timestep_weights": None, "token_budget": None}
        key = fingerprint([{**self.identity, "calibration": shown}, others])
        self.course = Trajectories(pipe, course, self.work / "trajectories", key, device)
        self.held_out = self.course.batches(range(len(prompts), len(course.prompts)))
        return Walk(self.course, range(len(prompts)), settings.timestep_weights)

    def _shelf(self, target: Target, this: Round) -> Solved:
        counts = sorted({self.keeps[target][s] for s in this.sparsities})
        if not this.before:
            return self.solving.shelf("solved", target, counts)
        (sparsity,) = this.sparsities
        earlier = [self.keeps[other][sparsity] for other in this.before]
        suffix = f"@{variant_name(sparsity)}"
        return self.solving.shelf("solved", target, [counts, earlier], suffix)

    def _keep_solved(
        self,
        target: Target,
        sparsities: Sequence[float],
        shelf: Solved,
        facts: dict[str, Any],
        *,
        reused: bool,
    ) -> TargetSolved:
        keeps = {s: self.keeps[target][s] for s in sparsities}
        for sparsity in sparsities:
            self.solved[target, sparsity] = shelf, facts
        errors = facts["error"]
        return TargetSolved(
            name=target.name,
            kind=target.kind,
            units=target.units,
            kept={str(s): kept for s, kept in keeps.items()},
            error={str(s): errors[str(kept)] for s, kept in keeps.items() if errors},
            samples_per_dim=facts["tokens"] / target.columns,
            seconds=facts["seconds"],
            reused=reused,
        )

    def _level(self, target: Target, sparsity: float) -> Level:
        """Kept units and consumer weight of a solved target, from disk."""
        shelf, _ = self.solved[target, sparsity]
        return shelf.level(self.keeps[target][sparsity])

    def _compensation(self, sparsity: float) -> dict[str, Tensor]:
        """M of every target that has one, by the target's name."""
        found = {}
        for target in self.targets:
            shelf, _ = self.solved[target, sparsity]
            M = shelf.tensors().get(f"M.{self.keeps[target][sparsity]}")
            if M is not None:
                found[target.name] = M
        return found

    def _facts(self, sparsity: float) -> dict[str, Any]:
        """What the manifest of a variant says beside its files."""
        targets = []
        measured = self.measured.get(sparsity)
        for target in self.targets:
            _, facts = self.solved[target, sparsity]
            targets.append(
                {
                    **target.to_dict(),
                    "unit_width": target.unit_width,
                    "error": facts["error"].get(str(self.keeps[target][sparsity])),
                    "held_out_error": measured.targets[target.name] if measured else None,
                    "damping": facts["damping"],
                    "intercept": facts.get("intercept", False),
                    "tokens": facts["tokens"],
                }
            )
        errors = [entry["error"] for entry in targets if entry["error"] is not None]
        held_out = measured and {
            "prompts": self.settings.held_out,
            "states": _HELD_OUT_STEPS * len(self.held_out),
            "noise_error": measured.noise,
            "mean_error": _mean(list(measured.targets.values())),
        }
        return {
            **self.identity,
            **self.recipe,
            "key": self._variant_key(sparsity),
            "base": self.settings.model,
            "sparsity": sparsity,
            "dense_params": self.dense_params,
            "mean_error": _mean(errors),
            "held_out": held_out,
            "targets": targets,
        }

    def _intact(self, folder: Path) -> dict[str, Any] | None:
        """The manifest of a variant that is there already and whole."""
        try:
            return check_files(folder) if folder.exists() else None
        except BadInput:
            return None

    def _phases(self) -> list[tuple[str, int]]:
        """All phases after "load", with what they count."""
        phases: list[tuple[str, int]] = []
        walk = self.solving.walk
        for this in self.rounds:
            if walk is not None:
                phases.append(("calibrate", walk.passes))
            name = "order" if self.settings.allocate == "loss" else "solve"
            phases.append((name, len(this.targets)))
        if self.settings.allocate == "loss":
            phases.append(("probe", probe.passes(self.solving, self.targets)))
            phases.append(("solve", len(self.targets)))
        if self.held_out and self.course is not None:
            steps = len(self.course.timesteps)
            drawn = min(_HELD_OUT_STEPS, steps) * len(self.held_out)
            walked = steps * len(self.held_out)
            phases.append(("check", walked + 2 * drawn * len(self.sparsities)))
        return [*phases, ("save", len(self.sparsities))]

    def _round(self, this: Round) -> RoundBegun:
        return RoundBegun(self.targets.index(this.targets[0]), len(this.targets))

    def _begin(self, unit: str, done: int = 0) -> Phase:
        name, total = self.ahead.pop(0)
        return Phase(name, total, unit, done, tuple(self.ahead))

    def _variant_key(self, sparsity: float) -> str:
        held_out = self.settings.held_out if self.course else 0
        return fingerprint([self.identity, self.recipe, self.settings.model, sparsity, held_out])


def _forecast(
    pipe: StableDiffusionXLPipeline, settings: PruneSettings, device: str
) -> tuple[int | None, float]:
    """Bytes of device memory the run will take at its peak, None where no arithmetic covers the
    architecture, and how many of them the Hessians of one group may take.

    Raises BadInput when the free memory of a GPU is too small however the targets are grouped.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else math.inf
    size = settings.size or loading.default_size(pipe)
    try:
        choices = memory.prune_choices(
            memory.of_pipeline(pipe),
            size,
            batch=settings.batch_size,
            packages=settings.packages,
            guided=settings.guidance > 1,
            levels=len(settings.sparsities),
        )
        first = next(choices)
    except BadInput:
        return None, _HESSIAN_SHARE * (free - pipe.unet.num_parameters() * pipe.unet.dtype.itemsize)
    chosen = memory.fit(itertools.chain([first], choices), free)
    if math.isinf(free):
        return chosen.forecast.allocated, math.inf
    return chosen.forecast.allocated, chosen.forecast.hessians


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise Cancelled("cancelled: everything finished so far is on disk")
