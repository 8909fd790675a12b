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


class Clip:
    """The model with what prepares its inputs. It stays on the CPU, where a picture costs it far
    less than painting it did: the memory forecast of a GPU need not know of it."""

    def __init__(self, name: str) -> None:
        """Raises OSError or ValueError where the weights are not at hand."""
        options: dict[str, Any] = {"local_files_only": True}
        self._tokenizer = CLIPTokenizer.from_pretrained(name, **options)
        self._processor = CLIPImageProcessorPil.from_pretrained(name, **options)
        self._model = CLIPModel.from_pretrained(name, use_safetensors=True, **options).eval()

    def scores(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """One score for each picture and its prompt."""
        length = self._model.config.text_config.max_position_embeddings
        scores: list[float] = []
        for at in range(0, len(pictures), _BATCH):
            images = list(pictures[at : at + _BATCH])
            text = self._tokenizer(
                list(prompts[at : at + _BATCH]),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            with torch.no_grad():
                both = self._model(
                    input_ids=text["input_ids"],
                    attention_mask=text["attention_mask"],
                    pixel_values=self._processor(images, return_tensors="pt")["pixel_values"],
                )
            cosine: Tensor = (both.image_embeds * both.text_embeds).sum(dim=-1)
            scores += (100 * cosine.clamp(min=0)).tolist()
        return scores


def load_clip() -> Clip | None:
    """The model that `OBSTUI_CLIP` names, a folder or a hub id that is in the local cache, else the
    usual one; None when its weights are not at hand."""
    try:
        return Clip(os.environ.get("OBSTUI_CLIP") or MODEL)
    except (OSError, ValueError):
        return None
