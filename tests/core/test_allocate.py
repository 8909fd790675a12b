"""Allocation: within the budget, equal to brute force, uniform on equal curves."""

from __future__ import annotations

import itertools

import pytest

from core.allocate import Curve, allocate, choices
from core.errors import BadInput


def curve(name: str, price: float, pain: float, power: float = 2.0) -> Curve:
    keeps = (10, 8, 6, 4)
    losses = tuple(pain * (10 - kept) ** power for kept in keeps)
    return Curve(name, keeps, tuple(price * kept for kept in keeps), losses)


def totals(curves: list[Curve], chosen: dict[str, int]) -> tuple[float, float]:
    at = [curve.keeps.index(chosen[curve.name]) for curve in curves]
    pairs = list(zip(curves, at, strict=True))
    return sum(c.costs[i] for c, i in pairs), sum(c.losses[i] for c, i in pairs)


@pytest.mark.parametrize("budget", [60.0, 51.0, 47.5, 40.0, 33.0, 24.0])
@pytest.mark.parametrize("pains", [(1.0, 1.0, 1.0), (1.0, 5.0, 0.1), (3.0, 2.0, 2.5)])
def test_no_choice_within_the_budget_is_clearly_better(
    budget: float, pains: tuple[float, float, float]
) -> None:
    prices = (1.0, 2.0, 3.0)
    curves = [curve(f"{at}", prices[at], pains[at]) for at in range(3)]
    cost, loss = totals(curves, allocate(curves, budget))
    assert cost <= budget
    best, below = float("inf"), float("inf")
    for keeps in itertools.product(curves[0].keeps, repeat=3):
        chosen = {curve.name: kept for curve, kept in zip(curves, keeps, strict=True)}
        other_cost, other_loss = totals(curves, chosen)
        if other_cost <= budget:
            best = min(best, other_loss)
        if other_cost <= budget - 6.0:  # one unit step of the dearest target less
            below = min(below, other_loss)
    assert best <= loss <= max(best * 1.001, below)


def test_equal_targets_give_equally() -> None:
    curves = [curve(str(at), 1.0, 1.0) for at in range(5)]
    chosen = allocate(curves, 40.0)
    assert set(chosen.values()) == {8}


def test_a_dent_in_a_curve_does_not_stop_the_descent() -> None:
    dented = Curve("a", (10, 8, 6), (10.0, 8.0, 6.0), (0.0, 5.0, 5.1))
    steady = Curve("b", (10, 8, 6), (10.0, 8.0, 6.0), (0.0, 3.0, 9.0))
    assert allocate([dented, steady], 16.0) == {"a": 6, "b": 10}
    # A measured cost that does not fall is never chosen.
    flat = Curve("a", (10, 8, 6), (10.0, 11.0, 6.0), (0.0, 1.0, 2.0))
    assert allocate([flat], 9.0) == {"a": 6}


def test_a_budget_below_the_least_is_refused() -> None:
    with pytest.raises(BadInput, match=r"a budget of 10 is below 24"):
        allocate([curve(str(at), 2.0, 1.0) for at in range(3)], 10.0)


def test_choices_are_whole_heads_and_aligned_neurons() -> None:
    assert choices(20, 64, 0.3) == (20, 18, 15, 13, 10, 8)
    neurons = choices(5120, 1, 0.3)
    assert neurons[0] == 5120
    assert all((5120 - kept) % 64 == 0 for kept in neurons)
    assert min(neurons) == 2048
    assert len(neurons) == 6
    assert choices(2, 16, 0.5) == (2, 1)
    assert choices(1, 16, 0.5) == (1,)
    assert min(choices(256, 1, 0.1)) == 208
