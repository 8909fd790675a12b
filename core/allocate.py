"""How many units to take from each target: the same share everywhere, or where it hurts least.

Minimize sum_i g_i e_i(k_i) under a budget sum_i c_i(k_i) <= B, with e_i the relative loss curve of
target i over its kept units k_i, g_i how strongly the model's prediction reacts to an error there,
and c_i the cost of its units. The curves are made convex first; taking the cheapest loss per cost,
step after step, is then the solution of the Lagrangian (no step could be exchanged for a better).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.errors import BadInput

# Kept counts a target may choose from. All targets of one kind and width share them, so that few
# distinct shapes come out: compilers specialize on every shape.
_CHOICES = 6
_CAP = 0.6
# Matrix units want widths in multiples of 64; narrow layers have no room for that.
_ALIGN = 64
_ALIGN_SHARE = 16


@dataclass(frozen=True, slots=True)
class Curve:
    """One target's choices, most units first: `keeps` units, at `costs`, with `losses` (weighted,
    comparable between targets)."""

    name: str
    keeps: tuple[int, ...]
    costs: tuple[float, ...]
    losses: tuple[float, ...]


def choices(units: int, unit_width: int, sparsity: float) -> tuple[int, ...]:
    """Kept counts to choose from when the mean is to be `sparsity`: from all units down to the
    smaller of twice the sparsity and 60 %, heads whole, neurons in multiples of 64."""
    deepest = min(_CAP, max(2 * sparsity, sparsity + 0.1))
    grid = 1 if unit_width > 1 else max(1, min(_ALIGN, units // _ALIGN_SHARE))
    removed = {
        round(units * deepest * step / (_CHOICES - 1) / grid) * grid for step in range(_CHOICES)
    }
    return tuple(units - gone for gone in sorted(removed) if units - gone >= 1)


def allocate(curves: Sequence[Curve], budget: float) -> dict[str, int]:
    """Kept units by target's name with the least total loss at a total cost up to `budget`.

    Raises BadInput when even the fewest units cost more.
    """
    steps = []
    for at, curve in enumerate(curves):
        hull = _convex(curve)
        for here, there in pairwise(hull):
            saved = curve.costs[here] - curve.costs[there]
            lost = curve.losses[there] - curve.losses[here]
            steps.append((lost / saved, at, there, saved))
    chosen = [0] * len(curves)
    cost = sum(curve.costs[0] for curve in curves)
    least = cost - sum(saved for _, _, _, saved in steps)
    if least > budget * (1 + 1e-9):
        raise BadInput(
            f"a budget of {budget:.4g} is below {least:.4g}, what is left when every target gives "
            "as much as it may: ask for a lower sparsity"
        )
    # Slopes of a convex curve rise, so a target's steps come in order.
    for _, at, there, saved in sorted(steps):
        if cost <= budget * (1 + 1e-9):
            break
        chosen[at] = there
        cost -= saved
    _give_back(curves, chosen, budget - cost)
    return {curve.name: curve.keeps[at] for curve, at in zip(curves, chosen, strict=True)}


def _give_back(curves: Sequence[Curve], chosen: list[int], room: float) -> None:
    """Spend what the last step saved too much: the best single steps back that still fit."""
    while True:
        best = None
        for at, curve in enumerate(curves):
            for back in range(chosen[at]):
                extra = curve.costs[back] - curve.costs[chosen[at]]
                gain = curve.losses[chosen[at]] - curve.losses[back]
                if 0 < extra <= room and gain > 0 and (best is None or gain > best[0]):
                    best = (gain, at, back, extra)
        if best is None:
            return
        _, at, back, extra = best
        chosen[at] = back
        room -= extra


def _convex(curve: Curve) -> list[int]:
    """Indices of the lower convex hull of loss over cost, from the dearest choice on."""
    hull: list[int] = []
    for at in range(len(curve.keeps)):
        if hull and curve.costs[at] >= curve.costs[hull[-1]]:
            continue  # a measured cost may not fall: such a choice has no use
        while len(hull) > 1 and _slope(curve, hull[-2], hull[-1]) >= _slope(curve, hull[-1], at):
            hull.pop()
        hull.append(at)
    return hull


def _slope(curve: Curve, dear: int, cheap: int) -> float:
    lost = curve.losses[cheap] - curve.losses[dear]
    return lost / (curve.costs[dear] - curve.costs[cheap])
