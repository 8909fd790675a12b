"""The published structured OBS-Diff selection, written from its description, as the baseline.

OBS-Diff, arXiv 2510.06751, Eq. 6 and 7, with the schedule of its public script: one full run per
sparsity; every round inverts the whole damped H again, picks a batch of units by their saliency
under that inverse, and eliminates their columns one after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST_BATCH = 64
_RESERVE = 512


def batches(columns: int) -> list[int]:
    """How many columns each round removes: (n - 512) / 2, by the same rule from the last batch on,
    never under 64. 5120 columns at 10, 15, 20, 25, 30 % take 8, 11, 13, 15, 17 rounds."""
    sizes: list[int] = []
    size = columns
    while (left := columns - sum(sizes)) > 0:
        size = max(_SMALLEST_BATCH, (size - _RESERVE) // 2)
        sizes.append(min(size, left))
    return sizes


def prune_columns(W: Tensor, H: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Remove `columns` single columns; W [r, d] compensated with zeros there, and the kept mask.

    H [d, d] is damped already.
    """
    W, alive = W.clone(), torch.ones(W.shape[1], dtype=torch.bool)
    for size in batches(columns):
        Hinv = _inverse(H, alive)
        saliency = W.square().sum(dim=0) / Hinv.diagonal()
        saliency[~alive] = torch.inf
        _eliminate(W, H, alive, saliency.argsort()[:size])
    return W, alive


def prune_heads(W: Tensor, H: Tensor, head_dim: int, heads: int) -> tuple[Tensor, Tensor]:
    """Remove `heads` heads one a round, by the script's surrogate of Eq. 7: the squared diagonal of
    the Cholesky factor of the head's block of the inverse in place of its diagonal."""
    W, alive = W.clone(), torch.ones(W.shape[1], dtype=torch.bool)
    count = W.shape[1] // head_dim
    for _ in range(heads):
        Hinv = _inverse(H, alive)
        blocks = Hinv.view(count, head_dim, count, head_dim).diagonal(dim1=0, dim2=2)
        scale = torch.linalg.cholesky(blocks.permute(2, 0, 1)).diagonal(dim1=1, dim2=2).square()
        saliency = (W.square().sum(dim=0).view(count, head_dim) / scale).sum(dim=1)
        saliency[~alive.view(count, head_dim)[:, 0]] = torch.inf
        head = int(saliency.argmin())
        _eliminate(W, H, alive, torch.arange(head * head_dim, (head + 1) * head_dim))
    return W, alive


def _masked(H: Tensor, alive: Tensor) -> Tensor:
    """H with the removed rows and columns replaced by the identity's."""
    H = H * alive * alive[:, None]
    H.diagonal()[~alive] = 1
    return H


def _inverse(H: Tensor, alive: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(_masked(H, alive)))


def _eliminate(W: Tensor, H: Tensor, alive: Tensor, batch: Tensor) -> None:
    """OBS update (Eq. 2) for the columns of `batch`, one after the other, in place."""
    rest = torch.ones_like(alive)
    rest[batch] = False
    order = torch.cat([batch, rest.nonzero().flatten()])
    permuted = _masked(H, alive)[order][:, order]
    Hinv = torch.cholesky_inverse(torch.linalg.cholesky(permuted))
    factor = torch.linalg.cholesky(Hinv, upper=True)
    W_permuted = W[:, order]
    for i in range(len(batch)):
        error = W_permuted[:, i] / factor[i, i]
        W_permuted[:, i:] -= error[:, None] * factor[i, i:]
    W[:, order] = W_permuted
    alive[batch] = False
    W[:, ~alive] = 0
