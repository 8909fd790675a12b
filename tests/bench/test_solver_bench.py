"""Our solver against the published algorithm, magnitude and random: same H, one run.

make bench: SDXL's four shapes, six minutes on two cores. The published algorithm runs once for each
level, ours once for all five.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from core.architecture import units_to_keep
from core.solver import damped, magnitude_order, solve
from tests.bench import published

pytestmark = pytest.mark.bench

LEVELS = (0.1, 0.15, 0.2, 0.25, 0.3)
DAMPING = 0.01
SHAPES = [
    pytest.param(640, 640, 64, id="attention-640"),
    pytest.param(1280, 1280, 64, id="attention-1280"),
    pytest.param(640, 2560, 1, id="feed-forward-2560"),
    pytest.param(1280, 5120, 1, id="feed-forward-5120"),
]


def layer(r: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """W [r, d] and H [d, d] of correlated, unevenly scaled inputs: 16 tokens a column."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d // 4, generator=g) @ torch.randn(d // 4, d, generator=g) / d
    scale = torch.rand(d, generator=g) * 2 + 0.1
    H = torch.zeros(d, d)
    for _ in range(16):
        X = torch.randn(d, d, generator=g)
        X = (X + X @ mixing) * scale
        H.addmm_(X.T, X)
    return torch.randn(r, d, generator=g) / d**0.5, H / (16 * d)


def loss(W: Tensor, H: Tensor, W_new: Tensor) -> float:
    """tr(dW H dW^T) with the damped H, which every method minimizes or ignores alike."""
    dW = (W - W_new).double()
    return float((dW @ H.double()).mul_(dW).sum())


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    begun = time.perf_counter()
    value = work()
    return time.perf_counter() - begun, value


def dense(W: Tensor, columns: Tensor, W_keep: Tensor) -> Tensor:
    full = torch.zeros_like(W)
    full[:, columns] = W_keep
    return full


@pytest.mark.parametrize(("r", "d", "width"), SHAPES)
def test_five_levels(r: int, d: int, width: int) -> None:
    W, H = layer(r, d)
    H_damped = damped(H, DAMPING)
    units = d // width
    keeps = {level: units_to_keep(units, level) for level in LEVELS}
    column = torch.arange(width)

    begun = time.perf_counter()
    ours = solve(W, H, width, sorted(set(keeps.values())), damping=DAMPING, name="layer")
    our_time = time.perf_counter() - begun

    their_time = 0.0
    print(f"\n{r} x {d}, units of {width}: loss at five levels, one run")
    print("  kept     ours  published   magnitude     random    published s")
    for keep in keeps.values():
        found = ours.levels[keep]
        columns = (found.keep[:, None] * width + column).flatten()
        our_loss = loss(W, H_damped, dense(W, columns, found.W))

        def run(gone: int = units - keep) -> Tensor:
            if width == 1:
                return published.prune_columns(W, H_damped, gone)[0]
            return published.prune_heads(W, H_damped, width, gone)[0]

        seconds, theirs = timed(run)
        their_time += seconds
        their_loss = loss(W, H_damped, theirs)
        others = []
        shuffled = torch.randperm(units, generator=torch.Generator().manual_seed(1)).tolist()
        for order in (magnitude_order(W, width), shuffled):
            kept = torch.tensor(sorted(order[units - keep :]))
            at = (kept[:, None] * width + column).flatten()
            others.append(loss(W, H_damped, dense(W, at, W[:, at])))
        print(
            f"  {keep:5d} {our_loss:8.5f} {their_loss:10.5f} {others[0]:11.5f} {others[1]:10.5f}"
            f" {seconds:14.2f}"
        )
    print(f"  five levels: ours {our_time:.2f} s, published {their_time:.2f} s, "
          f"{their_time / our_time:.1f}x")  # fmt: skip
