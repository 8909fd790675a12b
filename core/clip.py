"""CLIP score: how well a picture matches its prompt, 100 * max(0, cos(image, text)).

(Hessel et al., "CLIPScore", EMNLP 2021, Sec. 3, with the weight 100 that most tables use.) Only
where the weights are at hand: nothing is fetched for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

MODEL = "openai/clip-vit-base-patch32"
_BATCH = 16


def clip_scores(
    pictures: Sequence[Image.Image], prompts: Sequence[str], device: str = "cpu"
) -> list[float] | None:
    """One score for each picture and its prompt; None when no CLIP weights are at hand.

    `OBSTUI_CLIP` names another model: a folder or a hub id that is in the local cache.
    """
    name = os.environ.get("OBSTUI_CLIP") or MODEL
    try:
        options: dict[str, Any] = {"local_files_only": True}
        tokenizer = CLIPTokenizer.from_pretrained(name, **options)
        processor = CLIPImageProcessorPil.from_pretrained(name, **options)
        model = CLIPModel.from_pretrained(name, use_safetensors=True, **options)
    except (OSError, ValueError):
        return None
    model = model.to(device).eval()
    length = model.config.text_config.max_position_embeddings
    scores: list[float] = []
    for at in range(0, len(pictures), _BATCH):
        pixels = processor(list(pictures[at : at + _BATCH]), return_tensors="pt")["pixel_values"]
        text = tokenizer(
            list(prompts[at : at + _BATCH]),
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        with torch.no_grad():
            both = model(
                input_ids=text["input_ids"].to(device),
                attention_mask=text["attention_mask"].to(device),
                pixel_values=pixels.to(device),
            )
        cosine: Tensor = (both.image_embeds * both.text_embeds).sum(dim=-1)
        scores += (100 * cosine.clamp(min=0)).tolist()
    return scores
