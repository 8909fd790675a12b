"""Structured OBS on one layer: which units to remove, and the weights that make up for them.

Shapes: W [r, d] is the consumer's weight, H [d, d] the second moment of its inputs, a unit is
`unit_width` neighbouring columns. Removing the columns S at the least output error gives, with
Hinv the inverse of the damped H (OBS-Diff, arXiv 2510.06751, Eq. 2 and 6, for blocks of columns):

    cost(S) = tr(W_S (Hinv_SS)^-1 W_S^T)
    W      <- W - W_S (Hinv_SS)^-1 Hinv_S:
    Hinv   <- Hinv - Hinv_:S (Hinv_SS)^-1 Hinv_S:      (the exact inverse of H on what is left)

One run removes units in one order, and every level is a prefix of it. The order moves on a fixed
grid of steps, so it does not depend on which levels are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from core.errors import EngineError

# Neurons a step: at SDXL's widths 16 costs under 2 % of loss against one at a time and keeps the
# updates out of the memory-bound range; narrow layers take fewer.
_MAX_RANK = 16
_COLUMNS_PER_RANK = 128
# Share of the largest diagonal entry up to which an input counts as always zero.
_DEAD = 1e-12
_RESIDUAL_TOLERANCE = 1e-4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Level:
    """One sparsity of a layer.

    `keep` [k] are the kept units, ascending; `W` [r, k * unit_width] float32 their compensated
    columns; `error` is sqrt(tr dW H dW^T / tr W H W^T) with the undamped H. `shift` [r] is what
    the consumer's bias gains, None without an intercept.
    """

    keep: Tensor
    W: Tensor
    error: float
    shift: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """All levels of a layer by units kept, and how they were found.

    `order` lists the removed units, first removed first, and `losses[i]` the damped loss without
    `order[: i + 1]`. `damping` is the share of mean diag H that was added: more than asked for
    when the factorization needed it.
    """

    levels: dict[int, Level]
    order: list[int]
    losses: list[float]
    damping: float


class _NotPositiveError(ArithmeticError):
    """A Cholesky factorization failed."""


class _InaccurateError(ArithmeticError):
    """The compensated weights do not minimize the loss to the accuracy asked."""


def solve(
    W: Tensor,
    H: Tensor,
    unit_width: int,
    keeps: Sequence[int],
    *,
    damping: float,
    name: str,
    mean: Tensor | None = None,
) -> Solution:
    """Levels that keep `keeps` units each (1 ... units), from one greedy run; H is undamped.

    With the `mean` [d] of the inputs, the consumer's bias may change too: the loss is then that of
    the centred inputs, H - mean mean^T, and a level's `shift` is what the bias gains.
    Works in float32. A failed factorization is tried again with ten times the damping, three
    times; after that, or when the result is not accurate, once in float64.
    Raises EngineError naming the layer when nothing helps, or when its input is unusable.
    """

    def run(W: Tensor, H: Tensor, damp: float) -> Solution:
        return _sweep(W, H, unit_width, keeps, damp, mean)

    return _persist(run, W, H, damping, name)


def refit(
    W: Tensor,
    H: Tensor,
    unit_width: int,
    keep: Tensor,
    *,
    damping: float,
    name: str,
    mean: Tensor | None = None,
) -> Level:
    """The best weights for a given choice of units `keep` [k], ascending. Arguments, retries and
    errors are those of `solve`."""

    def run(W: Tensor, H: Tensor, damp: float) -> Level:
        columns = _columns(keep, unit_width).to(H.device)
        H_c = centred(H, mean)
        W_keep = compensate(W, damped(H_c, damp), columns)
        dW = -W
        dW[:, columns] += W_keep
        energy = float((W @ H).mul_(W).sum(dtype=torch.float64))
        square = float((dW @ H_c).mul_(dW).sum(dtype=torch.float64)) / energy if energy else 0.0
        shift = None if mean is None else -(dW @ mean.to(dW)).float()
        return Level(keep, W_keep.float(), math.sqrt(max(0.0, square)), shift)

    return _persist(run, W, H, damping, name)


def centred(H: Tensor, mean: Tensor | None) -> Tensor:
    """H - mean mean^T, the covariance of the inputs [d, d]; H itself without a mean."""
    if mean is None:
        return H
    H = torch.addr(H, mean.to(H), mean.to(H), alpha=-1)
    H.diagonal().clamp_(min=0)
    return H


def damped(H: Tensor, damping: float) -> Tensor:
    """H + damping * mean(diag H) * I, a new tensor: done once, on the dense H."""
    H = H.clone()
    H.diagonal().add_(damping * H.diagonal().mean())
    return H


def compensate(W: Tensor, H: Tensor, keep: Tensor) -> Tensor:
    """Best weights W_K + W_S M [r, k] on the columns `keep` [k] for a given choice; H is damped.

    They depend on the choice only, not on the path to it.
    """
    M, removed = compensation(H, keep)
    return W[:, keep] + W[:, removed] @ M


def compensation(H: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """M = H_SK (H_KK)^-1 [s, k] and the removed columns S [s]; H is damped, `keep` [k] columns.

    M does not depend on W: it carries any weight on the dense inputs, an adapter's too, over to
    the kept ones.
    """
    gone = torch.ones(H.shape[0], dtype=torch.bool, device=H.device)
    gone[keep] = False
    removed = gone.nonzero().flatten()
    H_KK, H_KS = H[keep][:, keep], H[keep][:, removed]
    return torch.cholesky_solve(H_KS, _cholesky(H_KK)).T, removed


def magnitude_order(W: Tensor, unit_width: int) -> list[int]:
    """All units, the one with the least L1 norm of its columns first: the "L1" baseline."""
    norms = W.double().abs().sum(dim=0).view(-1, unit_width).sum(dim=1)
    return [int(unit) for unit in norms.argsort(stable=True)]


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products on CUDA without TF32, for the body only."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _persist(
    run: Callable[[Tensor, Tensor, float], T], W: Tensor, H: Tensor, damping: float, name: str
) -> T:
    """`run(W, H, damping)` in float32, then with more damping, then in float64; see `solve`."""
    if not bool(torch.isfinite(W).all() & torch.isfinite(H).all()):
        raise EngineError(
            f"the weights or the Hessian of {name} are not finite: calibrate again in a wider "
            "number format (bfloat16 or float32)"
        )
    if not bool(H.diagonal().max() > 0) or bool(H.diagonal().min() < 0):
        raise EngineError(
            f"the Hessian of {name} has a zero or negative diagonal, so it is no second moment of "
            "inputs: calibrate again with more prompts"
        )
    # Zero has no multiples: its retries start where damping is still too small to see.
    damps = [damping, *(max(damping, 1e-5) * 10.0**power for power in (1, 2, 3))]
    with full_precision():
        for damp in damps:
            try:
                return run(W.float(), H.float(), damp)
            except _NotPositiveError:
                continue
            except _InaccurateError:
                break
        try:
            return run(W.double(), H.double(), damp)
        except ArithmeticError:
            raise EngineError(
                f"the Hessian of {name} cannot be inverted even with damping {damp:g} in float64: "
                "calibrate with more prompts or steps"
            ) from None


def _sweep(
    W: Tensor,
    H: Tensor,
    unit_width: int,
    keeps: Sequence[int],
    damping: float,
    mean: Tensor | None,
) -> Solution:
    """The greedy run in the dtype of W and H. Raises _NotPositiveError or _InaccurateError."""
    energy = float((W @ H).mul_(W).sum(dtype=torch.float64))
    H = centred(H, mean)
    units = H.shape[0] // unit_width
    stops = sorted({units - keep for keep in keeps})
    order, alive = _dead_and_alive(H, unit_width)
    losses = [0.0] * len(order)
    levels: dict[int, Level] = {}
    while stops and stops[0] <= len(order):  # dead units go for free: nothing to compensate
        keep = _all_but(units, order[: stops.pop(0)])
        W_keep = W[:, _columns(keep, unit_width)]
        levels[len(keep)] = Level(keep, W_keep.float(), 0.0, _shift(W, keep, W_keep, mean))
    if not stops:
        return Solution(levels, order, losses, damping)

    every = _columns(alive, unit_width).to(H.device)
    H_alive, W_alive = damped(H, damping), W.clone()
    if order:
        H_alive, W_alive = H_alive[every][:, every], W[:, every]
    left = _Survivors(W_alive, torch.cholesky_inverse(_cholesky(H_alive)), alive, unit_width)
    rank = min(_MAX_RANK, max(1, H.shape[0] // _COLUMNS_PER_RANK)) if unit_width == 1 else 1
    error = _ErrorMeter(W, H, every, damping, energy)
    while stops:
        block = left.cheapest(rank)
        V, G = left.eliminate(block)
        # Row norms of V are the exact costs of the block's columns one after the other.
        costs = V.square().sum(dim=1, dtype=torch.float64).view(-1, unit_width).sum(dim=1)
        before, loss = len(order), losses[-1] if losses else 0.0
        order += [int(unit) for unit in left.units[block]]
        losses += [loss + float(cost) for cost in costs.cumsum(0)]
        while stops and stops[0] <= len(order):
            stop = stops.pop(0)
            keep, W_keep = left.without(block[: stop - before], V, G)
            levels[len(keep)] = Level(
                keep,
                W_keep.float(),
                error(keep, W_keep, losses[stop - 1]),
                _shift(W, keep, W_keep, mean),
            )
        if stops:
            left.drop(block, V, G)
    return Solution(levels, order, losses, damping)


class _Survivors:
    """W and Hinv of the units still alive, compact in the leading columns of their storage.

    `units` [m] names the unit at each position; all positions count units, not columns.
    """

    def __init__(self, W: Tensor, Hinv: Tensor, units: Tensor, unit_width: int) -> None:
        self.W, self.Hinv, self.units, self.unit_width = W, Hinv, units, unit_width

    def cheapest(self, count: int) -> Tensor:
        """Positions of the `count` units of least saliency, cheapest first."""
        width = self.unit_width
        if width == 1:
            saliency = self.W.square().sum(dim=0) / self.Hinv.diagonal()
        else:
            blocks = self.Hinv.view(len(self.units), width, len(self.units), width)
            L = _cholesky(blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1))  # [m, w, w]
            W = self.W.T.view(len(self.units), width, -1)  # [m, w, r]
            saliency = torch.linalg.solve_triangular(L, W, upper=False).square().sum(dim=(1, 2))
        if not bool((saliency >= 0).all()):
            raise _NotPositiveError
        return saliency.sort(stable=True).indices[:count].cpu()

    def eliminate(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """V [s, r] and G [s, n] such that W - V^T G and Hinv - G^T G no longer use the block's
        s columns. Leading rows do the same for the leading units of the block alone."""
        S = _columns(block, self.unit_width).to(self.Hinv.device)
        L = _cholesky(self.Hinv[S][:, S])
        V = torch.linalg.solve_triangular(L, self.W[:, S].T, upper=False)
        return V, torch.linalg.solve_triangular(L, self.Hinv[S], upper=False)

    def without(self, gone: Tensor, V: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
        """Kept units, ascending, and their weights when `gone`, the head of a block, is removed."""
        rest = _all_but(len(self.units), gone.tolist())
        units, by_unit = self.units[rest].sort()
        columns = _columns(rest[by_unit], self.unit_width).to(G.device)
        rank = len(gone) * self.unit_width
        return units, self.W[:, columns] - V[:rank].T @ G[:rank, columns]

    def drop(self, block: Tensor, V: Tensor, G: Tensor) -> None:
        """Remove the block; the last positions move into its holes, so nothing large is copied."""
        self.W.addmm_(V.T, G, alpha=-1)
        self.Hinv.addmm_(G.T, G, alpha=-1)
        left = len(self.units) - len(block)
        holes = block[block < left]
        movers = _all_but(len(self.units), block.tolist())
        movers = movers[movers >= left]
        self.units[holes] = self.units[movers]
        to, source = (_columns(at, self.unit_width).to(G.device) for at in (holes, movers))
        self.W[:, to] = self.W[:, source]
        self.Hinv[:, to] = self.Hinv[:, source]
        self.Hinv[to] = self.Hinv[source]
        end = left * self.unit_width
        self.units, self.W, self.Hinv = self.units[:left], self.W[:, :end], self.Hinv[:end, :end]


class _ErrorMeter:
    """Relative output error of a level, and a check that its weights are the best ones."""

    def __init__(self, W: Tensor, H: Tensor, alive: Tensor, damping: float, energy: float) -> None:
        self.W, self.H, self.energy = W, H, energy
        self.lambda_ = damping * float(H.diagonal().mean())
        self.norms = W.square().sum(dim=0, dtype=torch.float64)
        self.alive = float(self.norms[alive].sum())
        probe = torch.randn(W.shape[0], generator=torch.Generator().manual_seed(0))
        self.probe = probe.to(W)
        self.seen = self.probe @ W
        self.gradient_scale = float((self.seen @ H).norm())

    def __call__(self, keep: Tensor, W_keep: Tensor, loss: float) -> float:
        """The error of the units `keep` with weights `W_keep`, whose damped loss is `loss`.

        The loss counts lambda * ||dW||^2 on top of tr(dW H dW^T): taking it off is d times cheaper
        than the trace. Raises _InaccurateError where the gradient of the loss is not zero.
        """
        columns = _columns(keep, W_keep.shape[1] // len(keep)).to(self.W.device)
        seen = -self.seen
        seen[columns] += self.probe @ W_keep
        gradient = (seen @ self.H + self.lambda_ * seen)[columns]
        if not float(gradient.norm()) <= _RESIDUAL_TOLERANCE * self.gradient_scale:
            raise _InaccurateError
        moved = float((W_keep - self.W[:, columns]).square_().sum(dtype=torch.float64))
        moved += self.alive - float(self.norms[columns].sum())
        square = (loss - self.lambda_ * moved) / self.energy if self.energy > 0 else 0.0
        return math.sqrt(max(0.0, square))


def _shift(W: Tensor, keep: Tensor, W_keep: Tensor, mean: Tensor | None) -> Tensor | None:
    """What the bias must gain so that the mean output stays: W mean - W_keep mean_K, [r]."""
    if mean is None:
        return None
    mean = mean.to(W)
    columns = _columns(keep, W_keep.shape[1] // len(keep)).to(W.device)
    return (W @ mean - W_keep @ mean[columns]).float()


def _cholesky(A: Tensor) -> Tensor:
    L: Tensor
    L, info = torch.linalg.cholesky_ex(A)
    if bool(info.any()):
        raise _NotPositiveError
    return L


def _dead_and_alive(H: Tensor, unit_width: int) -> tuple[list[int], Tensor]:
    """Units whose inputs are all zero, and the others."""
    diagonal = H.diagonal().cpu()
    dead = (diagonal <= _DEAD * diagonal.max()).view(-1, unit_width).all(dim=1)
    return dead.nonzero().flatten().tolist(), (~dead).nonzero().flatten()


def _all_but(count: int, gone: Sequence[int]) -> Tensor:
    kept = torch.ones(count, dtype=torch.bool)
    kept[list(gone)] = False
    return kept.nonzero().flatten()


def _columns(units: Tensor, unit_width: int) -> Tensor:
    return (units[:, None] * unit_width + torch.arange(unit_width)).flatten()
