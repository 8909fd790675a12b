"""What pruning costs on prompts that were not calibrated on.

Two errors on recorded states (latents, timestep, prompt) of the dense model's own denoising:

    of a target     sqrt(sum ||W' x_K + b' - W x - b||^2 / sum ||W x||^2) over its tokens x
    of the model    sum ||eps' - eps||^2 / sum ||eps||^2 over its predictions eps

The second is the cheapest signal that sees all targets at once; both need no image.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from core.errors import EngineError
from core.solver import Level
from core.surgery import masked, whole
from core.targets import Target
from core.trajectory import Trajectories


@dataclass(frozen=True, slots=True)
class State:
    """One forward pass: a batch of prompts, their latents [b, c, h, w], and the step."""

    batch: Sequence[int]
    latents: Tensor
    step: int


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Errors of one variant: `noise` of its predictions, `targets` by the target's name."""

    noise: float
    targets: dict[str, float]


def draw_states(
    course: Trajectories, batches: Sequence[Sequence[int]], per_batch: int, seed: int
) -> list[State]:
    """`per_batch` recorded steps of every batch, drawn at random without repetition."""
    states = []
    for number, batch in enumerate(batches):
        recorded = course.recorded(batch)
        if recorded is None:
            raise EngineError(
                "the recorded denoising was changed during the run: start it again, it will go on"
            )
        steps = list(range(len(course.timesteps)))
        draw = random.Random(f"{seed} {number}").sample(steps, min(per_batch, len(steps)))
        states += [State(batch, recorded[step].clone(), step) for step in sorted(draw)]
    return states


def predict(course: Trajectories, states: Sequence[State]) -> Iterator[Tensor]:
    """The predictions of the UNet as it is now, one for each state, on the CPU."""
    for state in states:
        yield course.forward(state.batch, state.latents, state.step).float().cpu()


def distance(predictions: Sequence[Tensor], dense: Sequence[Tensor]) -> float:
    """sum ||p - d||^2 / sum ||d||^2 over all states."""
    moved = sum(float((p - d).square().sum()) for p, d in zip(predictions, dense, strict=True))
    return moved / sum(float(d.square().sum()) for d in dense)


class TargetErrors:
    """Watches the dense UNet's consumers and sums what `levels` would have done differently."""

    def __init__(self, course: Trajectories, levels: Mapping[Target, Level]) -> None:
        self.sums = {target: [0.0, 0.0] for target in levels}
        self._handles = []
        for target, level in levels.items():
            layer = cast(nn.Linear, course.unet.get_submodule(target.consumer))
            W, bias = whole(layer, target, level)
            dW = W - layer.weight.detach()
            shift = None if bias is None else bias - layer.bias
            self._handles.append(
                layer.register_forward_hook(self._watch(self.sums[target], dW, shift))
            )

    def close(self) -> dict[str, float]:
        """Take the hooks away and return the errors by the target's name."""
        for handle in self._handles:
            handle.remove()
        return {
            target.name: math.sqrt(moved / energy) if energy else 0.0
            for target, (moved, energy) in self.sums.items()
        }

    @staticmethod
    def _watch(sums: list[float], dW: Tensor, shift: Tensor | None):  # type: ignore[no-untyped-def]
        def add(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            moved = nn.functional.linear(inputs[0], dW, shift)
            plain = output if layer.bias is None else output - layer.bias
            sums[0] += float(moved.float().square().sum(dtype=torch.float64))
            sums[1] += float(plain.float().square().sum(dtype=torch.float64))

        return add


def held_out(
    course: Trajectories, states: Sequence[State], levels: Mapping[Target, Level]
) -> Iterator[int | HeldOut]:
    """Measure one variant on `states`: yields the passes done, 2 * len(states) in all, then the
    errors. The UNet is dense before and after."""
    watched = TargetErrors(course, levels)
    dense, own = [], []
    try:
        for done, prediction in enumerate(predict(course, states), start=1):
            dense.append(prediction)
            yield done
    finally:
        errors = watched.close()
    with masked(course.unet, levels):
        for done, prediction in enumerate(predict(course, states), start=len(states) + 1):
            own.append(prediction)
            yield done
    yield HeldOut(distance(own, dense), errors)
