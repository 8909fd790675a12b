"""Cutting units out must equal setting them to zero, and never leave a stale attribute."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from core.errors import BadInput, EngineError
from core.surgery import scatter, shrink, validate
from core.targets import consumer_weight, find_targets

Predict = Callable[[UNet2DConditionModel], torch.Tensor]


def cut(unet: UNet2DConditionModel, *, change: bool = True) -> dict[str, torch.Tensor]:
    """Keep a scattered half of every target's units; `change` also alters the consumers."""
    keep = {}
    for target in find_targets(unet):
        order = torch.randperm(target.units, generator=torch.Generator().manual_seed(target.units))
        keep[target.name] = order[: -(-target.units // 2)].sort().values
        W = consumer_weight(unet, target)[:, target.indices(keep[target.name])]
        shrink(unet, target, keep[target.name], W * 1.5 if change else None)
    return keep


def test_a_cut_unet_equals_the_dense_one_with_zeros(
    unet: UNet2DConditionModel, predict: Predict
) -> None:
    dense, targets, before = copy.deepcopy(unet), find_targets(unet), predict(unet)
    keep = cut(unet)
    dense.load_state_dict(scatter(unet.state_dict(), targets, keep), strict=True)
    torch.testing.assert_close(predict(unet), predict(dense), rtol=1e-4, atol=1e-5)
    assert float((predict(unet) - before).abs().max()) > 1e-3
    for target in targets:
        W = consumer_weight(dense, target).view(-1, target.units, target.unit_width)
        whole = W.ne(0).all(dim=0).all(dim=1)
        assert torch.equal(whole, W.ne(0).any(dim=0).any(dim=1))
        assert torch.equal(whole.nonzero().flatten(), keep[target.name])


def test_scattering_puts_every_row_where_it_was(unet: UNet2DConditionModel) -> None:
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    targets = find_targets(unet)
    keep = cut(unet, change=False)
    after = scatter(unet.state_dict(), targets, keep)
    for target in targets:
        for part in target.slices:
            name = f"{target.name}.{part.parameter}"
            if name in before:
                kept = target.indices(keep[target.name], part.copies)
                expected = torch.zeros_like(before[name])
                expected.index_copy_(part.dim, kept, before[name].index_select(part.dim, kept))
                assert torch.equal(after[name], expected)


def test_keeping_every_unit_changes_no_bit(unet: UNet2DConditionModel, predict: Predict) -> None:
    before = predict(unet)
    for target in find_targets(unet):
        shrink(unet, target, torch.arange(target.units))
    assert torch.equal(predict(unet), before)


def test_a_cut_unet_works_with_every_attention_path(
    unet: UNet2DConditionModel, predict: Predict
) -> None:
    cut(unet)
    validate(unet)
    expected = predict(unet)

    def assert_same(other: UNet2DConditionModel, tolerance: float = 1e-5) -> None:
        torch.testing.assert_close(predict(other), expected, rtol=tolerance, atol=tolerance)

    sliced = copy.deepcopy(unet)
    sliced.set_attention_slice("max")
    assert_same(sliced)
    plain = copy.deepcopy(unet)
    plain.set_attn_processor(AttnProcessor())
    assert_same(plain)
    fused = copy.deepcopy(unet)
    fused.fuse_qkv_projections()
    assert_same(fused)
    assert_same(copy.deepcopy(unet).to(torch.bfloat16), tolerance=0.1)


def test_validate_finds_stale_attributes(unet: UNet2DConditionModel) -> None:
    cut(unet)
    path = find_targets(unet)[3].name
    attention = unet.get_submodule(path)
    attention.heads = 1  # still divides the width: diffusers would run without a word
    with pytest.raises(BadInput, match=rf"{path} says 1 heads of 16"):
        validate(unet)
    attention.heads = 2
    attention.inner_dim = 64
    with pytest.raises(BadInput, match="inner_dim"):
        validate(unet)


def test_units_and_weights_that_do_not_fit_are_refused(unet: UNet2DConditionModel) -> None:
    target = find_targets(unet)[0]
    for keep in ([], [1, 0], [0, 99], [-1, 0], [0, 0]):
        with pytest.raises(EngineError, match="must ascend within"):
            shrink(unet, target, torch.tensor(keep, dtype=torch.int64))
    with pytest.raises(EngineError, match=r"\(64, 5\)"):
        shrink(unet, target, torch.tensor([0, 1]), torch.zeros(64, 5))
    shrink(unet, target, torch.tensor([0, 1]))
    with pytest.raises(EngineError, match="find the targets"):
        shrink(unet, target, torch.tensor([0, 1]))
