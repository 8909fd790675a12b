"""SDXL's architecture with random weights: its shapes, counts and costs, not its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from core.architecture import SDXL


def random_unet(
    dtype: torch.dtype, device: str = "cpu", config: Mapping[str, Any] = SDXL
) -> UNet2DConditionModel:
    """A UNet whose activations neither vanish nor explode, in eval mode."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(config))
    unet = unet.to(dtype).to_empty(device=device)
    for name, value in unet.named_parameters():
        value.requires_grad_(False)
        if value.dim() < 2:
            value.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            value.normal_(0.0, value[0].numel() ** -0.5)
    return unet.eval()


def random_pipeline(unet: UNet2DConditionModel) -> StableDiffusionXLPipeline:
    """A pipeline around `unet`: encoders of SDXL's widths but one layer, a VAE of its factor."""
    dtype = unet.dtype
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3}

    def config(width: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=width,
            projection_dim=1280,
            num_hidden_layers=1,
            num_attention_heads=width // 64,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
        )

    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
        ).to(dtype),
        text_encoder=CLIPTextModel(config(768)).to(dtype),
        text_encoder_2=CLIPTextModelWithProjection(config(1280)).to(dtype),
        tokenizer=CLIPTokenizer(vocab=words, merges=[], model_max_length=77),
        tokenizer_2=CLIPTokenizer(vocab=words, merges=[], model_max_length=77),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        add_watermarker=False,
    )
