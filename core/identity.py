"""What decides the bytes of a run: dense weights, calibration, number formats, libraries."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from core.checkpoint import digest
from core.manifest import fingerprint
from core.settings import PruneSettings
from core.trajectory import Course

# Raised when the same settings give other bits than before.
_ENGINE = 2
_LIBRARIES = ("diffusers", "safetensors", "torch", "transformers")


def identify(state: Mapping[str, Tensor], device: str, stored: torch.dtype) -> dict[str, Any]:
    """The model of a run and where it runs; `stored` is the number format of its variants."""
    return {
        "engine": _ENGINE,
        "dense_sha256": digest(state),
        "dtype": str(stored).removeprefix("torch."),
        "computed_in": str(next(iter(state.values())).dtype).removeprefix("torch."),
        "device": torch.device(device).type,
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def calibration_facts(
    course: Course, prompts: int, settings: PruneSettings, pipe: StableDiffusionXLPipeline
) -> dict[str, Any]:
    """The calibration as the manifest tells it: the prompts by their number and hash."""
    facts = dataclasses.asdict(course)
    shown = facts.pop("prompts")[:prompts]
    scheduler = {
        "name": type(pipe.scheduler).__name__,
        **json.loads(pipe.scheduler.to_json_string()),
    }
    return {
        **facts,
        "timestep_weights": settings.timestep_weights,
        "token_budget": settings.token_budget,
        "num_prompts": prompts,
        "prompts_sha256": fingerprint(shown),
        "scheduler": type(pipe.scheduler).__name__,
        "scheduler_sha256": fingerprint(scheduler),
    }


def storage_dtype(state: Mapping[str, Tensor]) -> torch.dtype:
    """The number format for the variants: half precision where it holds every dense weight
    exactly, so that a model shipped in halves does not double when a CPU computes in float32."""
    for dtype in (torch.float16, torch.bfloat16):
        if all(bool((value.to(dtype) == value).all()) for value in state.values()):
            return dtype
    return next(iter(state.values())).dtype
