"""A tiny random model of SDXL's architecture, float32: two stages, 0.6 M parameters."""

from __future__ import annotations

import copy
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
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

TEXT_WIDTH = 16
TIME_IDS = 6
TIME_WIDTH = 8


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums of floats depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_unet(seed: int = 0) -> UNet2DConditionModel:
    """Heads of 16: 2 in `down1`'s neighbours, 4 in the rest; feed-forwards of 128 and 256."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(2, 4),  # the number of heads, as in SDXL's own configuration
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=TIME_IDS * TIME_WIDTH + TEXT_WIDTH,
    )
    return unet.eval().requires_grad_(False)


def build_pipeline() -> StableDiffusionXLPipeline:
    """The whole pipeline: 16 x 16 pixels, 8 x 8 latents, a tokenizer of single letters."""
    torch.manual_seed(1)
    letters = [*string.ascii_letters, *string.digits, *string.punctuation]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
    )

    def tokenizer() -> CLIPTokenizer:
        vocab = {word: at for at, word in enumerate(words)}
        return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=16)

    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=16,
        ),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=build_unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        add_watermarker=False,
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline saved as a folder."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    build_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def _unet() -> UNet2DConditionModel:
    return build_unet()


@pytest.fixture
def unet(_unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A UNet of one's own, to be cut."""
    return copy.deepcopy(_unet)


@pytest.fixture(scope="session")
def predict() -> Callable[[UNet2DConditionModel], torch.Tensor]:
    """The output of a UNet for one fixed input, [2, 4, 8, 8]."""
    generator = torch.Generator().manual_seed(3)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    latents, text, pooled = noise(2, 4, 8, 8), noise(2, 16, 2 * TEXT_WIDTH), noise(2, TEXT_WIDTH)
    added = {"text_embeds": pooled, "time_ids": torch.full((2, TIME_IDS), 16.0)}

    def output(unet: UNet2DConditionModel) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = unet(
                latents.to(unet.dtype),
                torch.tensor(500),
                encoder_hidden_states=text.to(unet.dtype),
                added_cond_kwargs={name: value.to(unet.dtype) for name, value in added.items()},
            ).sample
        return result.float()

    return output
