"""What can be pruned in an SDXL UNet: heads of every attention, neurons of every feed-forward.

Discovered from the modules, so that a tiny UNet, SDXL itself and a pruned variant all work alike.
A target is named by its module path; removing units from it touches only parameters below that
path, so targets never share a parameter and can be solved and cut independently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from core.architecture import Kind
from core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Slice:
    """A parameter that shrinks with its target's units.

    `parameter` is relative to the target's path; along `dim` the units lie `copies` times one
    after the other (GEGLU stacks the value half on the gate half).
    """

    parameter: str
    dim: int
    copies: int = 1


_ATTENTION_SLICES = (
    Slice("to_q.weight", 0),
    Slice("to_q.bias", 0),
    Slice("to_k.weight", 0),
    Slice("to_k.bias", 0),
    Slice("to_v.weight", 0),
    Slice("to_v.bias", 0),
    Slice("to_out.0.weight", 1),
)
_FEED_FORWARD_SLICES = (
    Slice("net.0.proj.weight", 0, copies=2),
    Slice("net.0.proj.bias", 0, copies=2),
    Slice("net.2.weight", 1),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One attention or feed-forward module of one transformer block.

    `name` is its module path, `stage` the UNet stage ("down1", "mid", "up0"), `block` the index of
    its transformer block in forward order. `units` counts heads or neurons as the module has them
    now; a unit spans `unit_width` columns of the consumer: the head dimension, or 1.
    """

    name: str
    kind: Kind
    stage: str
    block: int
    units: int
    unit_width: int

    @property
    def consumer(self) -> str:
        """Path of the Linear whose input columns are the units: `to_out.0` or `net.2`."""
        return f"{self.name}.net.2" if self.kind == "ff" else f"{self.name}.to_out.0"

    @property
    def columns(self) -> int:
        """Input width d of the consumer."""
        return self.units * self.unit_width

    @property
    def slices(self) -> tuple[Slice, ...]:
        """The parameters that shrink with the units; a bias among them may not exist."""
        return _FEED_FORWARD_SLICES if self.kind == "ff" else _ATTENTION_SLICES

    def indices(self, keep: Tensor, copies: int = 1) -> Tensor:
        """Rows or columns that belong to the units `keep` [k]: [copies * k * unit_width], int64."""
        columns = (keep[:, None] * self.unit_width + torch.arange(self.unit_width)).flatten()
        return torch.cat([columns + copy * self.columns for copy in range(copies)])

    def to_dict(self) -> dict[str, Any]:
        """The mapping that `TargetsFound` carries."""
        fields = ("name", "kind", "stage", "block", "units")
        return {field: getattr(self, field) for field in fields}


def find_targets(unet: UNet2DConditionModel) -> list[Target]:
    """All targets of a UNet in forward order: down, mid, up; attn1, attn2, ff in each block.

    Raises BadInput when there is none, or when a module is built in a way that cutting its units
    would break (fused projections, grouped keys, adapters, another activation than GEGLU).
    """
    targets = []
    block = 0
    for stage, path, root in _stages(unet):
        for name, module in root.named_modules(prefix=path):
            if not isinstance(module, BasicTransformerBlock):
                continue
            for kind in ("attn1", "attn2"):
                attention = getattr(module, kind)
                if attention is not None:
                    where = f"{name}.{kind}"
                    units, width = _heads(where, attention)
                    targets.append(Target(where, kind, stage, block, units, width))
            neurons = _neurons(f"{name}.ff", module.ff)
            targets.append(Target(f"{name}.ff", "ff", stage, block, neurons, 1))
            block += 1
    if not targets:
        raise BadInput(
            "the UNet holds no transformer block, so there is nothing to prune: "
            "choose a model of Stable Diffusion XL's architecture"
        )
    return targets


def consumer_weight(unet: UNet2DConditionModel, target: Target) -> Tensor:
    """Weight W [r, d] of the target's consumer, as it is in the UNet (not a copy)."""
    return cast(nn.Linear, unet.get_submodule(target.consumer)).weight


def _stages(unet: UNet2DConditionModel) -> Iterator[tuple[str, str, nn.Module]]:
    """(stage name, module path, module) in forward order; `named_modules` has mid after up."""
    for index, block in enumerate(unet.down_blocks):
        yield f"down{index}", f"down_blocks.{index}", block
    if unet.mid_block is not None:
        yield "mid", "mid_block", unet.mid_block
    for index, block in enumerate(unet.up_blocks):
        yield f"up{index}", f"up_blocks.{index}", block


def _heads(name: str, attention: Attention) -> tuple[int, int]:
    """(heads, head dimension) of a supported attention."""
    linears = (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0])
    plain = (
        all(type(linear) is nn.Linear for linear in linears)
        and not attention.fused_projections
        and attention.added_kv_proj_dim is None
        and attention.norm_q is None
        and attention.scale_qk
    )
    if not plain:
        raise BadInput(
            f"{name} is not plain multi-head attention of nn.Linear layers: unfuse its projections "
            "and unload adapters or quantization, then try again"
        )
    width = attention.to_out[0].in_features
    # The scale is the only trace of the head dimension that a wrong `heads` cannot change.
    head_dim = round(attention.scale**-2)
    rows = {linear.out_features for linear in linears[:3]}
    if rows != {width} or attention.heads * head_dim != width:
        raise BadInput(
            f"{name} says {attention.heads} heads of {head_dim}, but its projections have "
            f"{sorted(rows)} rows and to_out {width} columns: the model is not consistent"
        )
    return attention.heads, head_dim


def _neurons(name: str, ff: FeedForward) -> int:
    """Inner width of a supported feed-forward."""
    plain = (
        isinstance(ff.net[0], GEGLU)
        and type(ff.net[0].proj) is nn.Linear
        and type(ff.net[2]) is nn.Linear
    )
    if not plain:
        raise BadInput(
            f"{name} is not a GEGLU feed-forward of nn.Linear layers: unload adapters or "
            "quantization, or choose a model of Stable Diffusion XL's architecture"
        )
    rows, columns = ff.net[0].proj.out_features, ff.net[2].in_features
    if rows != 2 * columns:
        raise BadInput(
            f"{name} projects to {rows} rows, but its output layer has {columns} columns "
            f"instead of {rows / 2:g}: the model is not consistent"
        )
    return int(columns)
