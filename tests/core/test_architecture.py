"""The arithmetic on a configuration against the modules that diffusers builds from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from core import demo
from core.architecture import SDXL, Architecture, derive, unit_costs, units_to_keep
from core.errors import BadInput
from core.surgery import shrink
from core.targets import find_targets

DEMO = json.loads((demo.MODEL_DIR / "unet" / "config.json").read_text())
PUBLISHED = {
    0.0: 2_567_463_684,
    0.10: 2_348_998_404,
    0.15: 2_237_226_244,
    0.20: 2_130_533_124,
    0.25: 2_023_840_004,
    0.30: 1_912_067_844,
}


def on_meta(config: dict[str, Any]) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**config)


def cut(unet: UNet2DConditionModel, kept: dict[str, int]) -> None:
    for target in find_targets(unet):
        shrink(unet, target, torch.arange(kept[target.name]))


def counted_params(unet: UNet2DConditionModel) -> int:
    return sum(parameter.numel() for parameter in unet.parameters())


def counted_flops(unet: UNet2DConditionModel, latent_size: int, text_tokens: int) -> int:
    """Of one forward pass of one sample, as PyTorch counts it."""
    config = unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(
            torch.zeros(1, config.in_channels, latent_size, latent_size),
            torch.zeros(()),
            torch.zeros(1, text_tokens, config.cross_attention_dim),
            added_cond_kwargs={
                "text_embeds": torch.zeros(1, pooled),
                "time_ids": torch.zeros(1, 6),
            },
        )
    return int(counter.get_total_flops())


@pytest.fixture(scope="module")
def sdxl() -> Architecture:
    return derive(SDXL)


def test_sdxl_has_the_published_parameters(sdxl: Architecture) -> None:
    assert {s: sdxl.params(sdxl.kept(s)) for s in PUBLISHED} == PUBLISHED


def test_sdxl_has_the_published_flops(sdxl: Architecture) -> None:
    tera = {s: round(sdxl.flops(128, sdxl.kept(s)) / 1e12, 3) for s in PUBLISHED}
    assert tera == {0.0: 6.761, 0.1: 6.255, 0.15: 5.969, 0.2: 5.748, 0.25: 5.527, 0.3: 5.242}
    assert round(sdxl.flops(64) / 1e12, 3) == 1.589


@pytest.mark.parametrize(
    ("config", "latent_size", "text_tokens"),
    [(SDXL, 128, 77), (DEMO, 16, 24), (DEMO, 15, 24)],
    ids=["sdxl", "demo", "demo-odd-size"],
)
def test_targets_parameters_and_flops_are_those_of_the_module(
    config: dict[str, Any], latent_size: int, text_tokens: int
) -> None:
    unet = on_meta(config)
    architecture = derive(config)
    found = [(t.name, t.kind, t.stage, t.block, t.units, t.columns) for t in find_targets(unet)]
    derived = architecture.targets
    assert [(t.name, t.kind, t.stage, t.block, t.units, t.columns) for t in derived] == found
    assert derive(unet.config) == architecture  # a loaded UNet's own configuration serves as well
    for kept in ({target.name: target.units for target in derived}, architecture.kept(0.3)):
        cut(unet, kept)
        assert architecture.params(kept) == counted_params(unet)
        flops = architecture.flops(latent_size, kept, text_tokens)
        assert flops == counted_flops(unet, latent_size, text_tokens)


def test_a_unit_costs_what_its_removal_saves() -> None:
    config = {
        **DEMO,
        "block_out_channels": [16, 32],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": [1, 2],
        "transformer_layers_per_block": 1,
        "cross_attention_dim": 72,  # unlike any other width
    }
    architecture = derive(config)
    unet = on_meta(config)
    for name, cost in unit_costs(config, 16, text_tokens=24).items():
        if ".attentions.0." not in name:
            continue
        before = counted_params(unet), counted_flops(unet, 16, 24)
        target = next(target for target in find_targets(unet) if target.name == name)
        shrink(unet, target, torch.arange(1, target.units))
        after = counted_params(unet), counted_flops(unet, 16, 24)
        assert (before[0] - after[0], before[1] - after[1]) == (cost.params, cost.flops)
    assert set(unit_costs(config, 16)) == {target.name for target in architecture.targets}


def test_the_units_of_sdxl_cost_what_the_method_says(sdxl: Architecture) -> None:
    costs = sdxl.unit_costs(128)
    found = {
        (target.kind, target.width): (costs[target.name].params, costs[target.name].flops // 10**5)
        for target in sdxl.targets
    }
    assert found == {
        ("ff", 1280): (3_842, 78),
        ("attn1", 1280): (327_680, 9_395),
        ("attn2", 1280): (425_984, 3_960),
        ("ff", 640): (1_922, 157),
        ("attn1", 640): (163_840, 56_371),
        ("attn2", 640): (344_064, 7_921),
    }


def test_rounding_is_half_to_even_in_exact_fractions() -> None:
    assert [units_to_keep(10, s) for s in (0.15, 0.25, 0.35)] == [8, 8, 6]
    assert units_to_keep(100, 0.29) == 71  # 0.29 * 100 is 28.999999999999996 in floats
    assert units_to_keep(2, 0.9) == 1
    with pytest.raises(BadInput, match=r"sparsity 1\.0 is outside"):
        units_to_keep(10, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"down_block_types": ["AttnDownBlock2D"] * 3}, "'AttnDownBlock2D', which is not"),
        ({"down_block_types": ["DownBlock2D"]}, "names not 3 blocks in down_block_types"),
        ({"class_embed_type": "timestep"}, "class_embed_type = 'timestep'"),
        ({"transformer_layers_per_block": [[0, 0], [2, 2], [4, 4]]}, "whole number"),
        ({"transformer_layers_per_block": [1, 2]}, "names 2 stages"),
        ({"attention_head_dim": [5, 7, 20]}, "640 channels among 7 heads"),
        ({"block_out_channels": "wide"}, "no list of stages"),
        ({"cross_attention_dim": 10**12}, "whole number"),
        ({"cross_attention_dim": None}, "cross_attention_dim = 'None'"),
        ({"in_channels": True}, "in_channels = 'True'"),
    ],
)
def test_another_architecture_is_refused_by_the_key(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        derive({**SDXL, **change})
