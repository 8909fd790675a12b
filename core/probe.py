"""What the allocation must know of every target: its loss curve, and how much it matters.

The sensitivity g_i is measured, not assumed: prune target i alone to 20 %, and divide the change of
the UNet's prediction on recorded states by the target's own relative squared error there. Errors
of different targets are then in one currency, the noise-prediction error of the whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from core import fidelity
from core.allocate import Curve, allocate, choices
from core.architecture import unit_costs, units_to_keep
from core.checkpoint import read_tensors, write_tensors
from core.hessian import Hessian
from core.latency import Stopwatch
from core.manifest import fingerprint
from core.solving import Solving
from core.surgery import masked
from core.targets import Target
from core.work import Solved

# One target at a time gives up this share, on so many batches of prompts and steps of each.
_PROBED = 0.2
_BATCHES, _STEPS = 2, 4


def passes(solving: Solving, targets: Sequence[Target]) -> int:
    """Forward passes of a whole probe, the denoising that it may have to record included."""
    assert solving.walk is not None
    batches = min(_BATCHES, len(solving.walk.batches))
    steps = len(solving.walk.alphas)
    return batches * steps + batches * min(_STEPS, steps) * (1 + len(targets))


class Survey:
    """Orders, curves and sensitivities of the targets of one dense model."""

    def __init__(
        self, solving: Solving, targets: Sequence[Target], sparsities: Sequence[float]
    ) -> None:
        self.solving, self.targets, self.sparsities = solving, targets, sparsities
        self.noise: dict[str, float] = {}

    def facts(self, target: Target) -> dict[str, Any] | None:
        """Facts of an earlier run's order of the target, None if there is none."""
        return self._shelf(target).facts()

    def order(self, target: Target, hessian: Hessian) -> None:
        """Find the greedy order and the loss curve of a target."""
        self.solving.order(
            target, self._probed(target), self._least(target), hessian, self._shelf(target)
        )

    def units(self, target: Target) -> list[int]:
        """The removed units of a target, first removed first."""
        order: list[int] = self._shelf(target).tensors()["order"].tolist()
        return order

    def probe(self) -> Iterator[tuple[int, str]]:
        """Measure the prediction's error under every target alone: yields (passes done, where)."""
        walk = self.solving.walk
        assert walk is not None
        course = walk.course
        done = 0
        batches = walk.batches[:_BATCHES]
        for batch in batches:
            if course.recorded(batch) is None:
                for step in course.walk(batch):
                    yield done + step, "recording"
            done += len(walk.alphas)
        states = fidelity.draw_states(course, batches, _STEPS, self.solving.settings.seed)
        file = self.solving.work / "probe.safetensors"
        key = fingerprint([self.solving.calibration, self.solving.settings.damping, "probe"])
        found = read_tensors(file, key)
        self.noise = found[1]["noise"] if found else {}
        dense = []
        for prediction in fidelity.predict(course, states):
            dense.append(prediction)
            done += 1
            yield done, "dense"
        for target in self.targets:
            if target.name not in self.noise:
                level = self._shelf(target).level(self._probed(target))
                with masked(self.solving.unet, {target: level}):
                    own = list(fidelity.predict(course, states))
                self.noise[target.name] = fidelity.distance(own, dense)
                write_tensors(file, {}, {"key": key, "noise": self.noise})
            done += len(states)
            yield done, target.name

    def allocation(
        self, budget: Literal["params", "flops", "ms"]
    ) -> dict[Target, dict[float, int]]:
        """Kept units of every target at every sparsity: at the budget that the uniform share
        would leave, the least weighted loss. Kept on disk: times are never measured twice alike.
        """
        file = self.solving.work / "allocation.safetensors"
        recipe = [self.solving.recipe, self.solving.calibration, self.sparsities]
        key = fingerprint(["allocation", recipe])
        found = read_tensors(file, key)
        if found is None:
            chosen = [self._choose(sparsity, self._cost(budget)) for sparsity in self.sparsities]
            write_tensors(file, {}, {"key": key, "kept": chosen})
        else:
            chosen = found[1]["kept"]
        return {
            target: {s: kept[target.name] for s, kept in zip(self.sparsities, chosen, strict=True)}
            for target in self.targets
        }

    def _choose(self, sparsity: float, cost: Callable[[Target, int], float]) -> dict[str, int]:
        """Kept units by target's name at one sparsity."""
        offers = []
        for target in self.targets:
            curve = self._shelf(target).tensors()["curve"]
            probed = float(curve[target.units - self._probed(target)])
            weight = self.noise[target.name] / probed if probed > 0 else 0.0
            menu = choices(target.units, target.unit_width, sparsity)
            losses = tuple(weight * float(curve[target.units - kept]) for kept in menu)
            offers.append(
                Curve(target.name, menu, tuple(cost(target, kept) for kept in menu), losses)
            )
        uniform = sum(
            cost(target, units_to_keep(target.units, sparsity)) for target in self.targets
        )
        return allocate(offers, uniform)

    def _cost(self, budget: Literal["params", "flops", "ms"]) -> Callable[[Target, int], float]:
        """What a target costs with so many units."""
        walk, unet = self.solving.walk, self.solving.unet
        assert walk is not None
        course = walk.course
        latent, text = course.latent_size, course.pipe.tokenizer.model_max_length
        if budget == "ms":
            samples = course.course.batch_size * (2 if course.guided else 1)
            return Stopwatch(unet, latent, samples, text).milliseconds
        units = unit_costs(unet.config, latent, text)
        return lambda target, kept: kept * float(getattr(units[target.name], budget))

    def _probed(self, target: Target) -> int:
        return min(units_to_keep(target.units, _PROBED), target.units - 1) or 1

    def _least(self, target: Target) -> int:
        return min(
            choices(target.units, target.unit_width, sparsity)[-1] for sparsity in self.sparsities
        )

    def _shelf(self, target: Target) -> Solved:
        return self.solving.shelf("order", target, [self._probed(target), self._least(target)])
