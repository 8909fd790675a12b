"""The weighted second moment of a layer's inputs: accumulated, finished, stored.

    H = (1/Z) sum_t alpha_t X_t^T X_t,    Z = sum_t alpha_t n_t,    X_t [n_t, d]: one token a row

(OBS-Diff, arXiv 2510.06751, Eq. 5; the scale changes neither the selection nor the compensation,
and dividing by Z makes tr(dW H dW^T) the mean squared output error of a token.)
A plain sum, divided once: sums of shards add up, and an interrupted sum goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from core.errors import EngineError
from core.panels import panel_width


class Hessian:
    """Running sum of alpha * X^T X for inputs of width d.

    Only the blocks on and above the diagonal are kept: `panels[i]` [p, d - i * p] holds rows
    i * p ... of the sum from column i * p on, in float32. `first` [d] is the sum of alpha * X over
    tokens, `weight` is Z, `tokens` counts rows.
    """

    def __init__(self, columns: int, device: str | torch.device = "cpu") -> None:
        step = panel_width(columns)
        self.columns = columns
        self.weight = 0.0
        self.tokens = 0
        self.panels = [
            torch.zeros(min(step, columns - start), columns - start, device=device)
            for start in range(0, columns, step)
        ]
        self.first = torch.zeros(columns, device=device)

    def add(self, X: Tensor, alpha: float) -> None:
        """Add the tokens X [..., d] at timestep weight `alpha`.

        alpha scales the product, never X: half-precision inputs are not rounded a second time.
        """
        X = X.detach().reshape(-1, self.columns)
        halves = X.is_cuda and X.dtype in (torch.float16, torch.bfloat16)
        if not halves:
            X = X.to(self.panels[0].dtype)
        start = 0
        for index, panel in enumerate(self.panels):
            rows = X[:, start : start + panel.shape[0]].T
            if halves:
                # Exact products of halves, summed in float32 at tensor-core speed.
                self.panels[index] = torch.addmm(
                    panel, rows, X[:, start:], out_dtype=torch.float32, beta=1, alpha=alpha
                )
            else:
                panel.addmm_(rows, X[:, start:], alpha=alpha)
            start += panel.shape[0]
        self.first.add_(X.sum(dim=0, dtype=self.first.dtype), alpha=alpha)
        self.weight += alpha * X.shape[0]
        self.tokens += X.shape[0]

    def finish(self, name: str) -> Tensor:
        """H [d, d], symmetric float32, undamped.

        Raises EngineError naming the layer when it saw no tokens or numbers that are not finite:
        a zero or broken H would otherwise erase the layer's weights without a word.
        """
        if self.tokens == 0:
            raise EngineError(
                f"calibration fed no tokens to {name}, so its Hessian is empty: "
                "check that the model runs this layer and that there are prompts"
            )
        H = torch.zeros(self.columns, self.columns, device=self.panels[0].device)
        start = 0
        for panel in self.panels:
            end = start + panel.shape[0]
            H[start:end, start:] = panel
            H[end:, start:end] = panel[:, panel.shape[0] :].T
            # A product is not symmetric to the last bit inside the diagonal block.
            H[start:end, start:end] = (H[start:end, start:end] + H[start:end, start:end].T) / 2
            start = end
        H /= self.weight
        if not bool(torch.isfinite(H.diagonal()).all()):
            raise EngineError(
                f"calibration fed infinite or undefined numbers to {name}: run the model in a "
                "wider number format (bfloat16 or float32) and calibrate again"
            )
        return H

    def mean(self) -> Tensor:
        """Weighted mean of the inputs [d], float32."""
        return self.first / self.weight

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """The sums by name, for a safetensors file."""
        panels = {f"{prefix}.{index}": panel for index, panel in enumerate(self.panels)}
        return {**panels, f"{prefix}.first": self.first}

    def counts(self) -> dict[str, Any]:
        """`weight` and `tokens`, exact through JSON."""
        return {"weight": self.weight, "tokens": self.tokens}

    def restore(
        self, prefix: str, tensors: Mapping[str, Tensor], counts: Mapping[str, Any]
    ) -> None:
        """Go on from what `to_tensors` and `counts` gave.

        The values are copied into the panels made here: tensors mapped from a file start at odd
        addresses, and BLAS sums in another order there.
        """
        for index, panel in enumerate(self.panels):
            panel.copy_(tensors[f"{prefix}.{index}"])
        self.first.copy_(tensors[f"{prefix}.first"])
        self.weight, self.tokens = float(counts["weight"]), int(counts["tokens"])
