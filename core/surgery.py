"""Cut units out of a UNet, and put a cut UNet back into dense shape.

A head takes its rows of to_q, to_k, to_v and its columns of to_out.0 with it; a neuron its rows in
both halves of the GEGLU projection and its column of net.2 (`Target.slices`). Everything else,
the residual width above all, stays: ControlNet and T2I-Adapter weights still fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from core.errors import BadInput, EngineError
from core.solver import Level
from core.targets import Target, consumer_weight, find_targets


def shrink(
    unet: UNet2DConditionModel, target: Target, keep: Tensor, W: Tensor | None = None
) -> None:
    """Leave only the units `keep` [k], ascending, of one target, in place.

    `W` [r, k * unit_width] replaces the consumer's weight; None cuts its columns as they are.
    Works on any device, the meta device included. Raises EngineError when `keep` or `W` does not
    fit the module.
    """
    _check_fit(unet, target, keep, W)
    root = unet.get_submodule(target.name)
    for part in target.slices:
        path, _, leaf = part.parameter.rpartition(".")
        layer = root.get_submodule(path)
        old: nn.Parameter | None = getattr(layer, leaf)
        if old is None:
            continue
        if W is not None and f"{target.name}.{path}" == target.consumer:
            new = W.to(old)
        else:
            rows = target.indices(keep, part.copies).to(old.device)
            new = old.detach().index_select(part.dim, rows)
        setattr(layer, leaf, nn.Parameter(new, old.requires_grad))
        if isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = layer.weight.shape
    if isinstance(root, Attention):
        # Attention derives the head dimension from its width and `heads`: a stale count would
        # compute something else without an error.
        root.heads = root.sliceable_head_dim = len(keep)
        root.inner_dim = root.inner_kv_dim = len(keep) * target.unit_width


def cut(
    state: Mapping[str, Tensor], targets: Iterable[Target], levels: Mapping[str, Level]
) -> dict[str, Tensor]:
    """State dict of the cut UNet, on the CPU, from that of the dense one, which stays as it is.

    `levels` holds each target's kept units and consumer weight by the target's name; parameters
    that are not cut are shared. The inverse of `scatter` but for the consumers' new weights.
    """
    small = {name: value.detach().cpu() for name, value in state.items()}
    for target in targets:
        level = levels[target.name]
        for part in target.slices:
            name = f"{target.name}.{part.parameter}"
            if name == f"{target.consumer}.weight":
                small[name] = level.W.to(small[name])
            elif name in small:
                rows = target.indices(level.keep, part.copies)
                small[name] = small[name].index_select(part.dim, rows)
        bias = f"{target.consumer}.bias"
        if level.shift is not None:
            small[bias] = small[bias] + level.shift.to(small[bias])
    return small


@contextmanager
def masked(unet: UNet2DConditionModel, levels: Mapping[Target, Level]) -> Iterator[None]:
    """The dense UNet computing what the cut one would, for the body only: removed units get zero
    columns in their consumer, kept ones their new weights."""
    before = []
    try:
        for target, level in levels.items():
            layer = cast(nn.Linear, unet.get_submodule(target.consumer))
            before.append((layer, layer.weight, layer.bias))
            W, bias = whole(layer, target, level)
            layer.weight = nn.Parameter(W, requires_grad=False)
            if bias is not None:
                layer.bias = nn.Parameter(bias, requires_grad=False)
        yield
    finally:
        for layer, weight, bias in before:
            layer.weight, layer.bias = weight, bias


def whole(layer: nn.Linear, target: Target, level: Level) -> tuple[Tensor, Tensor | None]:
    """Weight [r, d] with zero columns for removed units, and bias [r], of a target's consumer."""
    W = layer.weight.detach()
    columns = target.indices(level.keep).to(W.device)
    full = W.new_zeros(W.shape).index_copy_(1, columns, level.W.to(W))
    bias: Tensor | None = layer.bias
    if bias is not None and level.shift is not None:
        bias = bias + level.shift.to(bias)
    return full, bias


def scatter(
    state: Mapping[str, Tensor], targets: Iterable[Target], keep: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """State dict of the dense shapes, zero where units were cut; it computes the same function.

    `state` belongs to the cut UNet, `targets` describe the dense one, `keep` holds the kept units
    by target name. Parameters that were not cut are shared, not copied.
    """
    dense = dict(state)
    for target in targets:
        for part in target.slices:
            name = f"{target.name}.{part.parameter}"
            if name in dense:
                cut = dense[name]
                shape = list(cut.shape)
                shape[part.dim] = part.copies * target.columns
                at = target.indices(keep[target.name], part.copies).to(cut.device)
                dense[name] = cut.new_zeros(shape).index_copy_(part.dim, at, cut)
    return dense


def validate(unet: UNet2DConditionModel) -> None:
    """Check that every target's shapes and attributes agree. Raises BadInput naming the first
    that does not: such a UNet may run without an error and compute something else."""
    for target in find_targets(unet):
        root = unet.get_submodule(target.name)
        for name, layer in root.named_modules(prefix=target.name):
            if isinstance(layer, nn.Linear):
                says = (layer.out_features, layer.in_features)
                if tuple(layer.weight.shape) != says:
                    raise BadInput(
                        f"{name} says {says}, but its weight is {tuple(layer.weight.shape)}: "
                        "the model is not consistent"
                    )
        if isinstance(root, Attention):
            widths = (root.inner_dim, root.inner_kv_dim, root.sliceable_head_dim)
            right = (target.columns, target.columns, target.units)
            if widths != right:
                raise BadInput(
                    f"{target.name} has inner_dim, inner_kv_dim, sliceable_head_dim {widths} "
                    f"instead of {right}: the model is not consistent"
                )


def _check_fit(unet: UNet2DConditionModel, target: Target, keep: Tensor, W: Tensor | None) -> None:
    ascending = len(keep) > 0 and bool((keep.diff() > 0).all())
    if not ascending or int(keep[0]) < 0 or int(keep[-1]) >= target.units:
        raise EngineError(
            f"the units to keep of {target.name} must ascend within 0 ... {target.units - 1}: "
            "solve this target again"
        )
    old = consumer_weight(unet, target)
    right = (old.shape[0], len(keep) * target.unit_width)
    if old.shape[1] != target.columns or (W is not None and tuple(W.shape) != right):
        raise EngineError(
            f"{target.consumer} is {tuple(old.shape)} and is to become "
            f"{tuple(W.shape) if W is not None else right}, but {len(keep)} of {target.units} "
            f"units mean {right}: find the targets and solve again"
        )
