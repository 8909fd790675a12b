"""A single-file checkpoint in the original layout, without a network and without a hub's files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core import loading, sdxl
from core.checkpoint import digest
from core.errors import BadInput

UNET = [
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"),
    (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^mid_block\.resnets\.0", "middle_block.0"),
    (r"^mid_block\.resnets\.1", "middle_block.2"),
]
RESNET = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
]


def unet_name(name: str) -> str:
    """The name in the original layout of a UNet parameter of diffusers; two layers a stage."""
    for pattern, new in UNET:
        name = re.sub(pattern, new, name)
    moved = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|\w+samplers)\.(\d+)\.", name)
    if moved:
        way, stage, part, number = moved[1], int(moved[2]), moved[3], int(moved[4])
        rest = name[moved.end() :]
        if way == "down":
            at = 3 * stage + number + 1
            if part == "downsamplers":
                return f"input_blocks.{3 * (stage + 1)}.0.{rest.replace('conv', 'op', 1)}"
            name = f"input_blocks.{at}.{int(part == 'attentions')}.{rest}"
        elif part == "upsamplers":
            return f"output_blocks.{3 * stage + 2}.2.{rest}"
        else:
            name = f"output_blocks.{3 * stage + number}.{int(part == 'attentions')}.{rest}"
    if ".transformer_blocks." not in name and re.match(r"(input|output|middle)_block", name):
        for old, new in RESNET:
            name = name.replace(f".{old}.", f".{new}.")
    return name


def vae_name(name: str) -> str:
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block", name)
    name = re.sub(
        r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name
    )
    for stage in range(4):
        old, new = f"decoder.up_blocks.{stage}", f"decoder.up.{3 - stage}"
        name = name.replace(f"{old}.resnets", f"{new}.block")
        name = name.replace(f"{old}.upsamplers.0", f"{new}.upsample")
    name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
    for part, short in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"mid_block.attentions.0.{part}", f"mid.attn_1.{short}")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The second encoder in the layout of the code that trained it."""
    found: dict[str, Tensor] = {}
    names = [
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("text_model.final_layer_norm", "ln_final"),
        ("text_model.encoder.layers", "transformer.resblocks"),
        ("layer_norm1", "ln_1"),
        ("layer_norm2", "ln_2"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("self_attn.out_proj", "attn.out_proj"),
    ]
    for name, value in state.items():
        short = name
        for old, new in names:
            short = short.replace(old, new)
        if "q_proj" in short:
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            joined = short.replace("self_attn.q_proj.", "attn.in_proj_")
            found[joined] = torch.cat(parts)
        elif "text_projection" in short:
            found["text_projection"] = value.T.contiguous()
        elif "k_proj" not in short and "v_proj" not in short:
            found[short] = value
    return found


def original(pipe: StableDiffusionXLPipeline) -> dict[str, Tensor]:
    """All weights of a pipeline in the original layout of a single file."""
    whole: dict[str, Tensor] = {}
    for name, value in pipe.unet.state_dict().items():
        whole[f"model.diffusion_model.{unet_name(name)}"] = value
    for name, value in pipe.vae.state_dict().items():
        new = vae_name(name)
        if "mid.attn_1" in new and new.endswith("weight") and value.dim() == 2:
            value = value[:, :, None, None]
        whole[f"first_stage_model.{new}"] = value
    for name, value in pipe.text_encoder.state_dict().items():
        whole[
            f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}"
        ] = value
    for name, value in open_clip(pipe.text_encoder_2.state_dict()).items():
        whole[f"conditioner.embedders.1.model.{name}"] = value
    return {name: value.contiguous().clone() for name, value in whole.items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StableDiffusionXLPipeline]:
    """(configuration folder, pipeline): SDXL's own layout of stages and layers, narrow."""
    folder = tmp_path_factory.mktemp("single") / "config"
    shutil.copytree(sdxl.CONFIG_DIR, folder)

    def narrow(part: str, **changes: object) -> dict[str, object]:
        file = folder / part / "config.json"
        config = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps(config))
        return config

    torch.manual_seed(0)
    unet = narrow(
        "unet",
        block_out_channels=[32, 64, 128],
        attention_head_dim=[1, 2, 4],
        transformer_layers_per_block=[1, 1, 2],
        cross_attention_dim=32 + 48,
        projection_class_embeddings_input_dim=6 * 256 + 32,
    )
    vae = narrow("vae", block_out_channels=[32, 32, 32, 32])
    tiny = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    tiny |= {"num_attention_heads": 2, "projection_dim": 32}
    one = narrow("text_encoder", **tiny)
    # diffusers tells the encoders apart by their widths.
    two = narrow("text_encoder_2", **{**tiny, "hidden_size": 48, "num_attention_heads": 3})
    first, second = sdxl.tokenizers()
    pipe = StableDiffusionXLPipeline(
        vae=AutoencoderKL.from_config(vae),
        text_encoder=CLIPTextModel(CLIPTextConfig(**one)),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**two)),
        tokenizer=first,
        tokenizer_2=second,
        unet=UNet2DConditionModel.from_config(unet),
        scheduler=loading_scheduler(folder),
        add_watermarker=False,
    )
    return folder, pipe


def loading_scheduler(folder: Path) -> object:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler.from_config(
        json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    )


def test_every_weight_of_a_single_file_arrives(
    small: tuple[Path, StableDiffusionXLPipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pipe = small
    file = tmp_path / "model.safetensors"
    save_file(original(pipe), file)
    monkeypatch.setattr(sdxl, "CONFIG_DIR", folder)
    monkeypatch.setattr(sdxl, "tokenizers", lambda: (pipe.tokenizer, pipe.tokenizer_2))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = loading.load_pipeline(str(file), device="cpu", dtype=torch.float32)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        mine, theirs = (getattr(p, part).state_dict() for p in (loaded, pipe))
        assert digest(mine) == digest(theirs), part
    assert dict(loaded.scheduler.config) == dict(pipe.scheduler.config)
    image = loaded("a cat", height=32, width=32, num_inference_steps=2, output_type="latent").images
    again = pipe("a cat", height=32, width=32, num_inference_steps=2, output_type="latent").images
    assert image.shape == again.shape == (1, 4, 4, 4)
    missing = dict(list(original(pipe).items())[5:])
    save_file(missing, file)
    with pytest.raises(BadInput, match="cannot be loaded as SDXL"):
        loading.load_pipeline(str(file), device="cpu", dtype=torch.float32)


def test_the_shipped_configuration_is_sdxls() -> None:
    config = json.loads((sdxl.CONFIG_DIR / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        vae = AutoencoderKL.from_config(
            json.loads((sdxl.CONFIG_DIR / "vae" / "config.json").read_text())
        )
        one, two = (
            kind(CLIPTextConfig.from_pretrained(sdxl.CONFIG_DIR / part))
            for kind, part in (
                (CLIPTextModel, "text_encoder"),
                (CLIPTextModelWithProjection, "text_encoder_2"),
            )
        )
    counts = [sum(p.numel() for p in model.parameters()) for model in (unet, vae, one, two)]
    assert counts == [2_567_463_684, 83_653_863, 123_060_480, 694_659_840]


def test_the_tokenizers_speak_clip() -> None:
    first, second = sdxl.tokenizers()
    assert len(first) == len(second) == 49408
    # "a photo of a cat", as every user of CLIP has seen it.
    assert first("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = {"padding": "max_length", "max_length": 6, "truncation": True}
    assert first("a cat", **padded)["input_ids"] == [49406, 320, 2368, 49407, 49407, 49407]
    assert second("a cat", **padded)["input_ids"] == [49406, 320, 2368, 49407, 0, 0]
    assert first("Über-café ☃ 日本")["input_ids"][-1] == 49407
