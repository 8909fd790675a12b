"""The mathematics of structured OBS against independent float64 formulas."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.errors import EngineError
from core.solver import (
    Solution,
    compensate,
    compensation,
    damped,
    magnitude_order,
    refit,
    solve,
)

DAMPING = 0.01
seeds = st.integers(0, 2**16)
some = settings(max_examples=15, deadline=None)


def layer(seed: int, r: int = 6, d: int = 16, n: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """W [r, d], X [n, d] with correlated columns of very different size, H = X^T X / n; float64."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(r, d, generator=generator, dtype=torch.float64)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    scale = torch.rand(d, generator=generator, dtype=torch.float64) * 3 + 0.1
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    X = (X + X @ mix) * scale
    return W, X, X.T @ X / n


def columns(keep: Tensor, width: int) -> Tensor:
    return (keep[:, None] * width + torch.arange(width)).flatten()


def loss(W: Tensor, H: Tensor, W_keep: Tensor, at: Tensor) -> float:
    dW = -W.double()
    dW[:, at] += W_keep.double()
    return float((dW @ H.double() * dW).sum())


def run(W: Tensor, H: Tensor, width: int, keeps: Sequence[int], damping: float = 0.01) -> Solution:
    return solve(W, H, width, keeps, damping=damping, name="net.2")


@some
@given(seeds, st.sampled_from([1, 4]))
def test_weights_are_the_ridge_least_squares_fit(seed: int, width: int) -> None:
    W, X, H = layer(seed)
    d, n = H.shape[0], X.shape[0]
    solution = run(W, H, width, [d // width * 3 // 4, d // width // 2])
    # ||(W' - W) [X; sqrt(n lambda) I]||^2 over the kept columns, solved without H.
    ridge = (n * DAMPING * H.diagonal().mean()).sqrt() * torch.eye(d, dtype=torch.float64)
    stacked = torch.cat([X, ridge])
    for level in solution.levels.values():
        at = columns(level.keep, width)
        fit = torch.linalg.lstsq(stacked[:, at], stacked @ W.T).solution.T
        torch.testing.assert_close(level.W.double(), fit, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(compensate(W, damped(H, DAMPING), at), fit)


@some
@given(seeds, st.sampled_from([1, 4]))
def test_running_cost_is_the_damped_loss_and_the_error_the_undamped_one(
    seed: int, width: int
) -> None:
    W, _, H = layer(seed)
    units = H.shape[0] // width
    solution = run(W, H, width, range(1, units))
    energy = float((W @ H * W).sum())
    for k, level in solution.levels.items():
        at = columns(level.keep, width)
        expected = loss(W, damped(H, DAMPING), level.W, at)
        assert solution.losses[units - k - 1] == pytest.approx(expected, rel=1e-4)
        assert level.error == pytest.approx(
            (loss(W, H, level.W, at) / energy) ** 0.5, rel=1e-3, abs=1e-4
        )
    assert solution.losses == sorted(solution.losses)


@some
@given(seeds)
def test_greedy_takes_the_cheapest_unit_each_time(seed: int) -> None:
    W, _, H = layer(seed, d=12)
    H_damped, width = damped(H, DAMPING), 2
    gone: list[int] = []
    for unit in run(W, H, width, [1]).order:
        cost = {}
        for candidate in set(range(6)) - set(gone):
            at = columns(torch.tensor(sorted(set(range(6)) - {*gone, candidate})), width)
            cost[candidate] = loss(W, H_damped, compensate(W, H_damped, at), at)
        assert cost[unit] == pytest.approx(min(cost.values()), rel=1e-4)
        gone.append(unit)
        if len(gone) == 5:
            break


def test_first_pick_is_the_best_and_no_set_beats_the_exhaustive_best() -> None:
    W, _, H = layer(5, d=12)
    H_damped = damped(H, DAMPING)

    def best(removed: int) -> float:
        kept = itertools.combinations(range(6), 6 - removed)
        at = (columns(torch.tensor(keep), 2) for keep in kept)
        return min(loss(W, H_damped, compensate(W, H_damped, keep), keep) for keep in at)

    losses = run(W, H, 2, [3]).losses
    assert losses[0] == pytest.approx(best(1), rel=1e-4)
    assert losses[2] >= best(3) * (1 - 1e-4)


@pytest.mark.parametrize(("d", "width"), [(24, 1), (512, 1), (24, 4)])
def test_levels_nest_and_do_not_depend_on_which_are_asked_for(d: int, width: int) -> None:
    W, _, H = layer(7, d=d, n=4 * d)
    units = d // width
    keeps = sorted({units * part // 100 for part in (90, 83, 71, 60, 55)})
    together = run(W, H, width, keeps)
    for k in keeps:
        alone = run(W, H, width, [k]).levels[k]
        assert torch.equal(alone.keep, together.levels[k].keep)
        assert torch.equal(alone.W, together.levels[k].W)
    for fewer, more in itertools.pairwise(keeps):
        assert set(together.levels[fewer].keep.tolist()) < set(together.levels[more].keep.tolist())
    assert run(W, H, width, keeps[::-1]).order == together.order


def test_keeping_everything_changes_no_bit() -> None:
    W, _, H = layer(1)
    level = run(W.float(), H.float(), 1, [16]).levels[16]
    assert torch.equal(level.W, W.float())
    assert level.error == 0


def test_dead_inputs_go_first_and_for_free() -> None:
    W, _, H = layer(2)
    dead = [3, 4, 5, 9]
    H[dead], H[:, dead] = 0, 0
    solution = run(W, H, 1, [14, 12, 10])
    assert solution.order[:4] == dead
    level = solution.levels[12]
    assert torch.equal(level.W, W[:, level.keep].float())
    assert solution.levels[14].error == level.error == 0
    assert solution.levels[10].error > 0
    heads = run(W, H, 2, [7])  # columns 4 and 5 are all of head 2; 3 and 9 only half of a head
    assert heads.order == [2]


def test_a_duplicate_takes_over_the_weight_of_its_twin() -> None:
    W, X, _ = layer(3)
    X[:, 5] = X[:, 11]
    H = X.T @ X / len(X)
    solution = run(W, H, 1, [15, 14], damping=1e-5)
    (gone,) = solution.order[:1]
    assert gone in (5, 11)
    level = solution.levels[15]
    twin = level.keep.tolist().index(16 - gone)
    torch.testing.assert_close(level.W[:, twin].double(), W[:, 5] + W[:, 11], rtol=1e-2, atol=1e-2)
    assert level.error < 1e-3
    # Its own saliency is no longer small once the twin is gone.
    assert 16 - gone not in solution.order[:2]


def test_order_follows_columns_and_ignores_scale_and_output_rotation() -> None:
    W, _, H = layer(4)
    order = run(W, H, 1, [8]).order
    shuffle = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = run(W[:, shuffle], H[shuffle][:, shuffle], 1, [8]).order
    assert [int(shuffle[unit]) for unit in moved] == order
    Q = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    assert run(Q @ W, H, 1, [8]).order == order
    scaled = run(3 * W, 25 * H, 1, [8])
    assert scaled.order == order
    assert scaled.losses[-1] == pytest.approx(225 * run(W, H, 1, [8]).losses[-1], rel=1e-4)


def test_independent_inputs_need_no_compensation() -> None:
    W, _, H = layer(6)
    H = H.diagonal().diag()
    solution = run(W, H, 1, [6], damping=0.0)
    assert solution.order == (W.square().sum(dim=0) * H.diagonal()).argsort()[:10].tolist()
    level = solution.levels[6]
    torch.testing.assert_close(level.W, W[:, level.keep].float())


def test_float32_agrees_with_float64_at_condition_1e6() -> None:
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(96, 96, generator=generator, dtype=torch.float64)).Q
    H = Q * torch.logspace(0, -6, 96, dtype=torch.float64) @ Q.T
    W = torch.randn(32, 96, generator=generator, dtype=torch.float64)
    level = run(W, H, 1, [48], damping=0.0).levels[48]
    exact = compensate(W, H, level.keep)
    assert float((level.W.double() - exact).norm() / exact.norm()) < 1e-3
    excess = loss(W, H, level.W, level.keep) / loss(W, H, exact, level.keep)
    assert excess < 1 + 1e-4


def indefinite(by: float) -> Tensor:
    """A correlation matrix of 4 tokens on 16 columns whose least eigenvalue is moved from 0 to
    -by while its diagonal stays 1."""
    _, X, _ = layer(8, n=4)
    X = X / X.norm(dim=0)
    H: Tensor = (1 + by) * X.T @ X - by * torch.eye(16)
    return H


def test_failed_factorizations_raise_the_damping_and_say_so() -> None:
    W, _, _ = layer(8)
    solution = run(W, indefinite(0.03), 1, [8])
    assert solution.damping == pytest.approx(0.1)
    assert all(bool(torch.isfinite(level.W).all()) for level in solution.levels.values())
    assert run(W, indefinite(0.0), 1, [8]).damping == 0.01
    assert run(W, indefinite(1e-6), 1, [8], damping=0.0).damping == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("H", "fault"),
    [
        (indefinite(100), "cannot be inverted"),
        (indefinite(0.0) * torch.nan, "not finite"),
        (torch.zeros(16, 16), "zero"),
        (-torch.eye(16), "negative"),
    ],
)
def test_a_hopeless_hessian_is_an_error_that_names_the_layer(H: Tensor, fault: str) -> None:
    W, _, _ = layer(9)
    with pytest.raises(EngineError, match=fault) as caught:
        run(W, H, 1, [8])
    assert "net.2" in str(caught.value)


def test_what_float32_cannot_solve_well_is_solved_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    W, _, H = layer(11)
    monkeypatch.setattr("core.solver._RESIDUAL_TOLERANCE", 1e-12)
    level = run(W, H, 1, [8]).levels[8]
    exact = compensate(W, damped(H, DAMPING), level.keep)
    assert torch.equal(level.W, exact.float())
    monkeypatch.setattr("core.solver._RESIDUAL_TOLERANCE", 0.0)
    with pytest.raises(EngineError, match=r"net\.2"):
        run(W, H, 1, [8])


def test_obs_beats_magnitude_on_other_tokens_and_magnitude_has_its_order() -> None:
    W, X, _ = layer(10, d=64, n=2048)
    train, test = X[:1024], X[1024:]
    level = run(W, train.T @ train / 1024, 1, [45]).levels[45]
    order = magnitude_order(W, 1)
    assert order == W.abs().sum(dim=0).argsort().tolist()
    kept = torch.tensor(sorted(order[19:]))
    H = test.T @ test / 1024
    assert loss(W, H, level.W, level.keep) < 0.5 * loss(W, H, W[:, kept], kept)


def inputs(n: int, d: int, shift: float, seed: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=g, dtype=torch.float64)
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ mixing / d**0.5 + shift


def test_an_intercept_is_the_least_squares_fit_with_a_constant() -> None:
    X = inputs(200, 12, 0.7)
    W = torch.randn(5, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    H, mean = X.T @ X / len(X), X.mean(dim=0)
    level = solve(W, H, 1, [8], damping=0.0, name="layer", mean=mean).levels[8]
    assert level.shift is not None
    constant = torch.cat([X[:, level.keep], torch.ones(len(X), 1, dtype=torch.float64)], dim=1)
    best = torch.linalg.lstsq(constant, X @ W.T).solution
    torch.testing.assert_close(level.W.double(), best[:-1].T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(level.shift.double(), best[-1], rtol=1e-4, atol=1e-4)
    residual = (constant @ best - X @ W.T).square().sum() / (X @ W.T).square().sum()
    assert level.error == pytest.approx(float(residual.sqrt()), rel=1e-3)
    # Never worse than without: the constant may be zero.
    plain = refit(W, H, 1, level.keep, damping=0.0, name="layer")
    assert level.error < plain.error


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_a_refit_of_a_level_is_that_level(shift: float) -> None:
    X = inputs(300, 32, shift)
    W = torch.randn(6, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    H, mean = X.T @ X / len(X), X.mean(dim=0) if shift else None
    for width, kept in ((1, 20), (8, 3)):
        level = solve(W, H, width, [kept], damping=0.01, name="layer", mean=mean).levels[kept]
        again = refit(W, H, width, level.keep, damping=0.01, name="layer", mean=mean)
        torch.testing.assert_close(again.W, level.W, rtol=1e-4, atol=1e-5)
        assert again.error == pytest.approx(level.error, rel=1e-3)
        assert (again.shift is None) == (level.shift is None) == (mean is None)
        if again.shift is not None and level.shift is not None:
            torch.testing.assert_close(again.shift, level.shift, rtol=1e-4, atol=1e-5)


def test_the_compensation_matrix_carries_any_weight_over() -> None:
    X = inputs(100, 10, 0.0)
    H = damped(X.T @ X / len(X), 0.01)
    keep = torch.tensor([0, 3, 4, 8])
    M, removed = compensation(H, keep)
    assert removed.tolist() == [1, 2, 5, 6, 7, 9]
    g = torch.Generator().manual_seed(6)
    W = torch.randn(4, 10, generator=g, dtype=torch.float64)
    BA = torch.randn(4, 2, generator=g, dtype=torch.float64) @ torch.randn(
        2, 10, generator=g, dtype=torch.float64
    )
    carried = compensate(W, H, keep) + BA[:, keep] + BA[:, removed] @ M
    torch.testing.assert_close(carried, compensate(W + BA, H, keep), rtol=1e-12, atol=1e-12)
