"""The demo model's architecture: the whole pipeline, untrained. `train` fills it."""

import json

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from . import scenes

TOKENS = 24  # tokens per caption, padding included; the longest caption takes 18
TEXT_WIDTH = 64  # of each text encoder; the UNet attends to both, side by side
BOS, EOS, UNK = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"


def build_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer that knows each word of the captions as one token.

    Other words fall apart into pieces and letters, as they do in CLIP's own vocabulary.
    """
    phrases = [*scenes.COLORS, *scenes.SHAPES, *scenes.RADII, *scenes.PLACES, *scenes.RELATIONS]
    words = sorted({word for phrase in [*phrases, "a an on background"] for word in phrase.split()})
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bpe.train_from_iterator(
        words, trainers.BpeTrainer(end_of_word_suffix="</w>", show_progress=False)
    )
    learnt = json.loads(bpe.to_str())["model"]
    characters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    entries = [BOS, EOS, UNK, *characters, *(c + "</w>" for c in characters)]
    entries += sorted(set(learnt["vocab"]) - set(entries))
    return CLIPTokenizer(
        vocab={entry: i for i, entry in enumerate(entries)},
        merges=[tuple(merge) for merge in learnt["merges"]],
        bos_token=BOS, eos_token=EOS, unk_token=UNK, pad_token=EOS,
        model_max_length=TOKENS,
    )  # fmt: skip


def build_text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Return the configuration both text encoders share.

    Three layers: SDXL reads the last but one, so two of them shape what the UNet attends to.
    """
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=TOKENS, hidden_act="gelu", bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def build_vae() -> AutoencoderKL:
    """Return an autoencoder of 64x64x3 pixels in [-1, 1] to 16x16x4 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64), layers_per_block=1, latent_channels=4,
        norm_num_groups=16, sample_size=scenes.SIZE, mid_block_add_attention=False,
        force_upcast=False,
    )  # fmt: skip


def build_unet() -> UNet2DConditionModel:
    """Return a UNet of SDXL's block structure, some 300 times smaller: heads of 16 channels."""
    time_dim = 32
    return UNet2DConditionModel(
        sample_size=scenes.SIZE // 4, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 128), layers_per_block=2,
        transformer_layers_per_block=[1, 1, 2],
        attention_head_dim=[1, 4, 8],  # in SDXL's configuration this means the number of heads
        cross_attention_dim=2 * TEXT_WIDTH, use_linear_projection=True, norm_num_groups=16,
        addition_embed_type="text_time", addition_time_embed_dim=time_dim,
        projection_class_embeddings_input_dim=6 * time_dim + TEXT_WIDTH,
    )  # fmt: skip


def build_pipeline(seed: int) -> StableDiffusionXLPipeline:
    """Return the whole untrained pipeline, float32, the same for the same `seed`."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    text = build_text_config(tokenizer)
    return StableDiffusionXLPipeline(
        vae=build_vae(),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=build_tokenizer(),
        unet=build_unet(),
        # With SDXL's own schedule the last timestep still shows the flat backgrounds, and the model
        # learns to read colours there instead of in the caption. Zero terminal SNR leaves no trace.
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            prediction_type="v_prediction", rescale_betas_zero_snr=True,
            timestep_spacing="trailing", clip_sample=False,
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )  # fmt: skip
