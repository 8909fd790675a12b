"""SDXL's own architecture with random weights, the whole path on a CPU: `make full-size`.

Record, calibrate, solve, check, save, load, one forward pass: in bfloat16, at a small latent, in
less than 24 GiB. What it proves is shapes, counts and memory; random weights have no quality.
"""

from __future__ import annotations

import resource
import time
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

from core import loading, prune
from core.architecture import SDXL
from core.checkpoint import load_unet
from core.events import Event, Note, Phase, TargetSolved, VariantSaved
from core.prune import PruneSettings

pytestmark = pytest.mark.full

SIZES = {0.1: 2_348_998_404, 0.3: 1_912_067_844}
DENSE = 2_567_463_684
LATENT = 16


def encoder(width: int, model: type) -> torch.nn.Module:
    config = CLIPTextConfig(
        vocab_size=4,
        hidden_size=width,
        intermediate_size=width,
        projection_dim=1280,
        num_hidden_layers=1,
        num_attention_heads=width // 64,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
    )
    made: torch.nn.Module = model(config)
    return made.to(torch.bfloat16)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder of 5.2 GB: SDXL's UNet, and encoders of the right widths."""
    torch.manual_seed(0)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(SDXL))
    unet = unet.to(torch.bfloat16).to_empty(device="cpu")
    for name, value in unet.named_parameters():
        value.requires_grad_(False)
        if value.dim() < 2:
            value.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            value.normal_(0.0, value[0].numel() ** -0.5)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3}

    def tokenizer() -> CLIPTokenizer:
        return CLIPTokenizer(vocab=words, merges=[], model_max_length=77)

    pipe = StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=4,
        ).to(torch.bfloat16),
        text_encoder=encoder(768, CLIPTextModel),
        text_encoder_2=encoder(1280, CLIPTextModelWithProjection),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        add_watermarker=False,
    )
    folder = tmp_path_factory.mktemp("sdxl") / "random"
    pipe.save_pretrained(folder)
    return folder


def test_the_whole_path_at_full_size(
    sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "pick_dtype", lambda device: torch.bfloat16)
    torch.set_num_threads(2)  # the other tests run on one
    settings = PruneSettings(
        str(sdxl),
        tuple(SIZES),
        prompts=tuple("ab" * (number % 3 + 1) for number in range(16)),
        num_prompts=16,
        steps=11,
        guidance=5.0,
        size=8 * LATENT,
        held_out=2,
    )
    begun = time.monotonic()
    events: list[Event] = []
    for event in prune.run(settings, tmp_path / "out", tmp_path / "work", lambda: False):
        events.append(event)
        if isinstance(event, Phase):
            print(f"\n{time.monotonic() - begun:7.1f} s  {event.name} {event.total}", end="")
    solved = [event for event in events if isinstance(event, TargetSolved)]
    saved = {event.sparsity: event for event in events if isinstance(event, VariantSaved)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{time.monotonic() - begun:7.1f} s  peak {peak:.1f} GiB")
    print([event.text for event in events if isinstance(event, Note)])
    assert len(solved) == 210
    assert {sparsity: event.params for sparsity, event in saved.items()} == SIZES
    assert {event.dense_params for event in saved.values()} == {DENSE}
    assert peak < 22
    unet = load_unet(saved[0.3].path)
    assert unet.dtype == torch.bfloat16
    assert sum(parameter.numel() for parameter in unet.parameters()) == SIZES[0.3]
    with torch.no_grad():
        prediction = unet(
            torch.randn(1, 4, LATENT, LATENT, dtype=torch.bfloat16),
            torch.tensor(500),
            torch.randn(1, 77, 2048, dtype=torch.bfloat16),
            added_cond_kwargs={
                "text_embeds": torch.randn(1, 1280, dtype=torch.bfloat16),
                "time_ids": torch.full((1, 6), 128.0, dtype=torch.bfloat16),
            },
        ).sample
    assert prediction.shape == (1, 4, LATENT, LATENT)
    assert bool(prediction.isfinite().all())
