"""Calibrate and solve targets; every result is kept on disk (`core.work`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from core import solver
from core.calibrate import Walk, calibrate, restore_sums, save_sums
from core.errors import BadInput
from core.events import Event, Note
from core.hessian import Hessian
from core.manifest import fingerprint
from core.settings import PruneSettings
from core.solver import Level
from core.targets import Target, consumer_weight
from core.work import Solved, Sums

# Below this many tokens a column the error on other prompts is visibly above the reported one.
_STARVED = 16
# Share of the inputs' energy in their mean from which the bias is worth an intercept.
_INTERCEPT_SHARE = 0.01


class Solving:
    """Calibrates and solves the targets of one dense UNet.

    `recipe` is everything that decides the bytes beside the target itself, `walk` None for a method
    without calibration, `dtype` the number format the weights are stored in.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        settings: PruneSettings,
        work: Path,
        cache: Path,
        recipe: object,
        calibration: object,
        walk: Walk | None,
        dtype: torch.dtype,
    ) -> None:
        self.unet, self.settings, self.work, self.cache = unet, settings, work, cache
        self.recipe, self.calibration, self.walk, self.dtype = recipe, calibration, walk, dtype

    def sums(self, before: object = None) -> Sums:
        """Where the Hessians belong: with the cache's when the model was dense, else with the
        run's own. `before` describes what was pruned already, None for the dense model."""
        if before is None:
            return Sums(self.cache, fingerprint(self.calibration))
        return Sums(self.work / "hessians", fingerprint([self.recipe, self.calibration, before]))

    def shelf(self, kind: str, target: Target, about: object, suffix: str = "") -> Solved:
        """The file of a target: `kind` "solved" or "order", `about` the rest of its key."""
        file = self.work / kind / f"{target.name}{suffix}.safetensors"
        key = fingerprint([self.recipe, self.calibration, kind, target.name, about])
        return Solved(file, key, target.name)

    def restore(self, sums: Sums, targets: Sequence[Target]) -> tuple[int, dict[Target, Hessian]]:
        """(forward passes done, Hessians) of the targets that `sums` does not hold yet: what is
        left of an interrupted calibration, or zero."""
        missing = [target for target in targets if not sums.has(target)]
        hessians = {target: Hessian(target.columns, self.unet.device) for target in missing}
        sums.touch()
        if not missing:
            return (self.walk.passes if self.walk else 0), {}
        return restore_sums(self._sums_file, sums.key, hessians), hessians

    def calibrate(
        self,
        sums: Sums,
        hessians: dict[Target, Hessian],
        done: int,
        cancelled: Callable[[], bool],
    ) -> Iterator[Event]:
        """Finish `hessians` from the passes after the first `done`, and store them in `sums`.

        Raises BadInput after the first pass when the whole calibration would not show a target as
        many tokens as it has inputs: its Hessian would be singular.
        """
        assert self.walk is not None
        passes = self.walk.passes

        def save(passed: int) -> None:
            if passed < passes:
                save_sums(self._sums_file, sums.key, hessians, passed)
                return
            for target, hessian in hessians.items():
                sums.write(target, hessian)
            self._sums_file.unlink(missing_ok=True)

        budget = self.settings.token_budget
        steps = calibrate(self.walk, hessians, done, save, cancelled, token_budget=budget)
        for number, event in enumerate(steps):
            if number == 0 and done == 0:
                _refuse_starving(hessians, passes)
            yield event
        shares = {target.name: h.tokens / target.columns for target, h in hessians.items()}
        poorest = min(shares, key=shares.__getitem__)
        if shares[poorest] < _STARVED:
            yield Note(
                f"The calibration saw {shares[poorest]:.1f} tokens per input of {poorest}; below "
                f"{_STARVED} the errors on other prompts are clearly higher than reported: use "
                "more prompts or steps."
            )

    def solve(
        self, target: Target, counts: Sequence[int], hessian: Hessian | None, shelf: Solved
    ) -> Generator[Event, None, dict[str, Any]]:
        """Solve one target at all `counts` of kept units from one greedy run, keep the levels on
        `shelf`, and return the facts beside them. Without a Hessian by magnitude."""
        begun = time.monotonic()
        W = consumer_weight(self.unet, target).detach()
        if hessian is None:
            order = solver.magnitude_order(W, target.unit_width)
            keeps = [torch.tensor(sorted(order[target.units - kept :])) for kept in counts]
            levels = [Level(keep, W[:, target.indices(keep)], math.nan) for keep in keeps]
            facts = {"tokens": 0, "damping": None, "seconds": time.monotonic() - begun}
            return shelf.write(levels, facts, self.dtype, {})
        H, mean = self.moments(target, hessian)
        solution = solver.solve(
            W, H, target.unit_width, counts,
            damping=self.settings.damping, name=target.name, mean=mean,
        )  # fmt: skip
        if solution.damping != self.settings.damping:
            yield Note(
                f"{target.name} needed damping {solution.damping:g} instead of "
                f"{self.settings.damping:g}: its inputs are nearly dependent."
            )
        levels = list(solution.levels.values())
        extra = compensations(target, H, mean, solution.damping, levels)
        return shelf.write(
            levels,
            {
                "tokens": hessian.tokens,
                "damping": solution.damping,
                "intercept": mean is not None,
                "seconds": time.monotonic() - begun,
            },
            self.dtype,
            extra,
        )

    def order(
        self, target: Target, probe: int, least: int, hessian: Hessian, shelf: Solved
    ) -> None:
        """Keep on `shelf` the greedy order of a target down to `least` units, its relative squared
        error after each removal, and the level of `probe` units."""
        W = consumer_weight(self.unet, target).detach()
        H, mean = self.moments(target, hessian)
        solution = solver.solve(
            W, H, target.unit_width, [probe, least],
            damping=self.settings.damping, name=target.name, mean=mean,
        )  # fmt: skip
        energy = float((W.float() @ H).mul_(W).sum(dtype=torch.float64))
        curve = torch.tensor([0.0, *solution.losses], dtype=torch.float64) / (energy or 1.0)
        extra = {"order": torch.tensor(solution.order), "curve": curve}
        facts = {"damping": solution.damping}
        shelf.write([solution.levels[probe]], facts, self.dtype, extra)

    def refit(
        self,
        target: Target,
        counts: Sequence[int],
        order: Sequence[int],
        hessian: Hessian,
        shelf: Solved,
    ) -> dict[str, Any]:
        """As `solve`, for the prefixes of an order that is known."""
        begun = time.monotonic()
        W = consumer_weight(self.unet, target).detach()
        H, mean = self.moments(target, hessian)
        levels = []
        for kept in counts:
            gone = set(order[: target.units - kept])
            keep = torch.tensor([unit for unit in range(target.units) if unit not in gone])
            levels.append(
                solver.refit(
                    W,
                    H,
                    target.unit_width,
                    keep,
                    damping=self.settings.damping,
                    name=target.name,
                    mean=mean,
                )
            )
        facts = {
            "tokens": hessian.tokens,
            "damping": self.settings.damping,
            "intercept": mean is not None,
            "seconds": time.monotonic() - begun,
        }
        extra = compensations(target, H, mean, self.settings.damping, levels)
        return shelf.write(levels, facts, self.dtype, extra)

    def moments(self, target: Target, hessian: Hessian) -> tuple[Tensor, Tensor | None]:
        """H [d, d] and, where it holds enough of the energy and there is a bias to move, the mean
        [d] of the target's inputs."""
        H, mean = hessian.finish(target.name), hessian.mean()
        share = float(mean.square().sum() / H.diagonal().sum())
        biased = self.unet.get_submodule(target.consumer).bias is not None
        return H, mean if biased and share >= _INTERCEPT_SHARE else None

    @property
    def _sums_file(self) -> Path:
        return self.work / "calibration.safetensors"


def compensations(
    target: Target, H: Tensor, mean: Tensor | None, damping: float, levels: Sequence[Level]
) -> dict[str, Tensor]:
    """M [removed, kept columns] in float16 of an attention's levels, as `M.<units kept>`: it
    carries adapters trained on the dense model over. A feed-forward's would be ten times as large,
    and few adapters touch it."""
    if target.kind == "ff":
        return {}
    with solver.full_precision():
        damped = solver.damped(solver.centred(H.float(), mean), damping)
        return {
            f"M.{len(level.keep)}": solver.compensation(
                damped, target.indices(level.keep).to(H.device)
            )[0].half()
            for level in levels
        }


def _refuse_starving(hessians: dict[Target, Hessian], passes: int) -> None:
    for target, hessian in hessians.items():
        if hessian.tokens * passes < target.columns:
            raise BadInput(
                f"the calibration would show {target.name} {hessian.tokens * passes} tokens for "
                f"its {target.columns} inputs, too few to solve for: use more prompts or steps, or "
                "a larger size"
            )
