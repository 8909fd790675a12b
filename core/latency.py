"""Milliseconds that a target's module takes on this device, by the units it keeps."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from core.architecture import derive, positions
from core.surgery import shrink
from core.targets import Target

_WARM_UP, _REPEATS = 3, 9


class Stopwatch:
    """Times modules of one UNet for forward passes of `samples` samples at latents of
    `latent_size`. Targets of equal shape are measured once."""

    def __init__(
        self, unet: UNet2DConditionModel, latent_size: int, samples: int, text_tokens: int
    ) -> None:
        self.unet, self.samples, self.text_tokens = unet, samples, text_tokens
        self.shapes = {
            shape.name: (shape.width, positions(latent_size, shape.level))
            for shape in derive(unet.config).targets
        }
        self._known: dict[tuple[object, ...], float] = {}

    def milliseconds(self, target: Target, kept: int) -> float:
        """Median time of the module with its first `kept` units."""
        width, tokens = self.shapes[target.name]
        key = (target.kind, width, tokens, target.units, kept)
        if key not in self._known:
            self._known[key] = self._measure(target, kept, width, tokens)
        return self._known[key]

    def _measure(self, target: Target, kept: int, width: int, tokens: int) -> float:
        holder = nn.Module()
        holder.add_module("module", copy.deepcopy(self.unet.get_submodule(target.name)))
        alone = dataclasses.replace(target, name="module")
        shrink(holder, alone, torch.arange(kept))
        module = holder.get_submodule("module")
        options = {"device": self.unet.device, "dtype": self.unet.dtype}
        x = torch.randn(self.samples, tokens, width, **options)
        arguments = [x]
        if target.kind == "attn2":
            text = self.unet.config.cross_attention_dim
            arguments.append(torch.randn(self.samples, self.text_tokens, text, **options))
        times = []
        with torch.no_grad():
            for _ in range(_WARM_UP + _REPEATS):
                begun = time.perf_counter()
                module(*arguments)
                if x.is_cuda:
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - begun)
        return 1000 * statistics.median(times[_WARM_UP:])
