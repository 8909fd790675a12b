"""Discovery of what can be pruned, and the sizes that come out of it."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from core.architecture import units_to_keep
from core.errors import BadInput
from core.surgery import shrink
from core.targets import find_targets

SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
PUBLISHED = {
    0.10: 2_348_998_404,
    0.15: 2_237_226_244,
    0.20: 2_130_533_124,
    0.25: 2_023_840_004,
    0.30: 1_912_067_844,
}


def count(unet: UNet2DConditionModel) -> int:
    return sum(parameter.numel() for parameter in unet.parameters())


def test_sdxl_has_the_published_sizes_at_every_sparsity() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    assert count(unet) == 2_567_463_684
    targets = find_targets(unet)
    assert len(targets) == 210
    assert {target.unit_width for target in targets if target.kind != "ff"} == {64}
    stages = list(dict.fromkeys(target.stage for target in targets))
    assert stages == ["down1", "down2", "mid", "up0", "up1"]
    for sparsity, params in PUBLISHED.items():  # each level cuts further what the last one left
        now = {target.name: target for target in find_targets(unet)}
        for target in targets:
            keep = torch.arange(units_to_keep(target.units, sparsity))
            shrink(unet, now[target.name], keep)
        assert count(unet) == params


def test_targets_are_in_forward_order_and_name_their_modules(unet: UNet2DConditionModel) -> None:
    targets = find_targets(unet)
    assert [target.kind for target in targets[:3]] == ["attn1", "attn2", "ff"]
    assert [target.block for target in targets[::3]] == [0, 1, 2, 3]
    assert [target.stage for target in targets[::3]] == ["down1", "mid", "up0", "up0"]
    called: list[str] = []
    for target in targets:
        layer = unet.get_submodule(target.consumer)
        layer.register_forward_pre_hook(lambda *_, name=target.name: called.append(name))
    unet(
        torch.zeros(1, 4, 8, 8),
        1,
        torch.zeros(1, 16, 32),
        added_cond_kwargs={"text_embeds": torch.zeros(1, 16), "time_ids": torch.zeros(1, 6)},
    )
    assert called == [target.name for target in targets]


def test_a_model_that_cannot_be_cut_is_refused_by_name(unet: UNet2DConditionModel) -> None:
    unet.fuse_qkv_projections()
    with pytest.raises(BadInput, match=r"attn1 is not plain.*unfuse"):
        find_targets(unet)
    convolutional = UNet2DConditionModel(
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        block_out_channels=(32,),
    )
    with pytest.raises(BadInput, match="no transformer block"):
        find_targets(convolutional)
