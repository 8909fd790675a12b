"""A pipeline that is too large for its device paints the same, its parts taking turns there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from core import demo, generate, loading, memory, preview
from core.generate import GenerateSettings
from core.loading import Pipelines
from core.prune import run as prune
from core.settings import PruneSettings

SETTINGS = GenerateSettings("demo", ("a red circle", "a blue square"), steps=2, seed=3)
PARTS = ("text_encoder", "text_encoder_2", "unet", "vae")


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variant")
    settings = PruneSettings("demo", (0.3,), prompts=(), method="magnitude")
    list(prune(settings, out, out / "work", lambda: False))
    return out / "s30"


def hooked(pipe: StableDiffusionXLPipeline) -> set[str]:
    return {part for part in PARTS if hasattr(getattr(pipe, part), "_hf_hook")}


def painted(folder: Path, pipes: Pipelines, variant: Path | None = None) -> dict[str, bytes]:
    settings = SETTINGS if variant is None else replace(SETTINGS, variant=str(variant))
    list(generate.run(settings, folder, lambda: False, pipes))
    # Without the preview, which is made only where a picture takes seconds.
    return {file.name: file.read_bytes() for file in folder.glob("[0-9]*.png")}


def test_the_same_pictures_in_turns_and_at_once(tmp_path: Path, variant: Path) -> None:
    whole = Pipelines(device="cpu", dtype=torch.float32)
    turns = Pipelines(device="cpu", dtype=torch.float32, budget=1.0)
    for name, path in (("dense", None), ("variant", variant), ("again", None)):
        once = painted(tmp_path / "whole" / name, whole, path)
        assert len(once) >= 2
        assert painted(tmp_path / "turns" / name, turns, path) == once
        assert hooked(whole.get("demo", path)) == set()
        assert hooked(turns.get("demo", path)) == set(PARTS)


def test_only_what_does_not_fit_takes_turns() -> None:
    model = memory.read_model(demo.MODEL_DIR)
    size = 64
    needed = memory.forecast_paint(model, size, weight_bytes=4).needed
    for budget, expected in ((needed, set()), (needed - 1, set(PARTS))):
        pipes = Pipelines(device="cpu", dtype=torch.float32, budget=budget)
        assert hooked(pipes.get("demo", size=size)) == expected
    # One pipeline, asked for a larger batch and then for a small one again.
    pipes = Pipelines(device="cpu", dtype=torch.float32, budget=needed)
    assert hooked(pipes.get("demo", size=size, batch_size=16)) == set(PARTS)
    assert hooked(pipes.get("demo", size=size)) == set()


def test_a_preview_leaves_a_resting_vae_where_it_is(tmp_path: Path) -> None:
    pipe = Pipelines(device="cpu", dtype=torch.float32, budget=1.0).get("demo")
    moved = []

    def pre_forward(module: torch.nn.Module, *args: object, **kwargs: object) -> object:
        moved.append(module)
        return args, kwargs

    pipe.vae._hf_hook.pre_forward = pre_forward
    palette = preview.palette(pipe.vae)
    assert palette.shape == (pipe.vae.config.latent_channels + 1, 3)
    assert not moved


@pytest.mark.gpu
def test_turns_take_less_memory_on_a_gpu(tmp_path: Path) -> None:
    peaks = []
    for budget in (float("inf"), 1.0):
        pipes = Pipelines(device="cuda", dtype=torch.float16, budget=budget)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        painted(tmp_path / str(budget), pipes)
        peaks.append(torch.cuda.max_memory_allocated())
        del pipes
    assert peaks[1] < peaks[0]
    assert loading.pick_device() == "cuda"
