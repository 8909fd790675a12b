"""SDXL's size on a GPU, random weights: what hooks, solver, memory and pruned widths cost.

make bench-gpu: prints every figure with the device. OBSTUI_BENCH_TINY=1 runs the same code on a
small UNet on the CPU, to see that it runs.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from core import loading, memory, prune
from core.architecture import SDXL, derive, units_to_keep
from core.calibrate import Feed, feeding
from core.events import MemoryMeasured
from core.hessian import Hessian
from core.prune import PruneSettings
from core.solver import solve
from core.surgery import shrink
from core.targets import consumer_weight, find_targets
from tests.random_sdxl import random_pipeline, random_unet

pytestmark = [pytest.mark.bench, pytest.mark.gpu]

TINY = bool(os.environ.get("OBSTUI_BENCH_TINY"))
DEVICE = "cpu" if TINY else "cuda"
DTYPE = torch.float32 if TINY else torch.float16
LATENTS = (8,) if TINY else (64, 128)
LEVELS = (0.1, 0.15, 0.2, 0.25, 0.3)
CONFIG: dict[str, Any] = dict(SDXL)
if TINY:
    CONFIG |= {
        "block_out_channels": [64, 128, 256],
        "attention_head_dim": [1, 2, 4],
        "transformer_layers_per_block": [1, 1, 1],
    }


@pytest.fixture(autouse=True)
def _device() -> None:
    if not TINY and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    name = "cpu" if TINY else torch.cuda.get_device_name()
    print(f"\n[{name}, torch {torch.__version__}]")


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return random_unet(DTYPE, DEVICE, CONFIG)


def forward(unet: UNet2DConditionModel, latent: int, samples: int) -> Callable[[], Tensor]:
    options: dict[str, Any] = {"device": DEVICE, "dtype": DTYPE}
    x = torch.randn(samples, 4, latent, latent, **options)
    text = torch.randn(samples, 77, 2048, **options)
    added = {
        "text_embeds": torch.randn(samples, 1280, **options),
        "time_ids": torch.full((samples, 6), 1024.0, **options),
    }

    def run() -> Tensor:
        with torch.no_grad():
            return unet(x, 500, text, added_cond_kwargs=added).sample  # type: ignore[no-any-return]

    return run


def seconds(work: Callable[[], object], repeats: int = 3 if TINY else 12) -> tuple[float, float]:
    """Median and spread (largest minus smallest) over `repeats`, after two to warm up."""
    times = []
    for number in range(repeats + 2):
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        if number > 1:
            times.append(time.perf_counter() - begun)
    return statistics.median(times), max(times) - min(times)


@pytest.mark.parametrize("latent", LATENTS)
def test_what_the_hooks_cost(unet: UNet2DConditionModel, latent: int) -> None:
    samples = 2 * memory.default_batch_size(latent * latent)
    run = forward(unet, latent, samples)
    plain, spread = seconds(run)
    print(f"{8 * latent} px, {samples} samples: {1e3 * plain:.1f} ms (spread {1e3 * spread:.1f})")
    hessians = {t.consumer: Hessian(t.columns, DEVICE) for t in find_targets(unet)}
    for budget in (None, 64):
        feed = Feed(samples=100 * 25, token_budget=budget)
        with feeding(unet, hessians, feed):
            feed.begin(0, 1.0, samples // 2)
            hooked, spread = seconds(run)
        print(f"  hooked, token budget {budget}: {1e3 * hooked:.1f} ms "
              f"(spread {1e3 * spread:.1f}), {hooked / plain:.2f}x")  # fmt: skip


def test_all_targets_at_five_levels(unet: UNet2DConditionModel) -> None:
    total = 0.0
    by_shape: dict[tuple[int, int], list[float]] = {}
    for target in find_targets(unet):
        W, d = consumer_weight(unet, target), target.columns
        X = torch.randn(2 * d, d, device=DEVICE)
        H = X.T @ X / len(X)
        keeps = sorted({units_to_keep(target.units, level) for level in LEVELS})
        begun = time.perf_counter()
        solve(W, H, target.unit_width, keeps, damping=0.01, name=target.name)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        by_shape.setdefault((d, target.unit_width), []).append(time.perf_counter() - begun)
        total += by_shape[d, target.unit_width][-1]
    for (d, width), times in by_shape.items():
        print(f"  {d} columns, units of {width}: {len(times)} x {statistics.median(times):.3f} s")
    print(f"  all {len(find_targets(unet))} targets, five levels: {total:.1f} s")


@pytest.mark.parametrize("latent", LATENTS)
def test_latency_of_every_level(unet: UNet2DConditionModel, latent: int) -> None:
    model = derive(CONFIG)
    dense, spread = seconds(forward(unet, latent, 2))
    whole = model.flops(latent)
    print(f"{8 * latent} px, 2 samples: dense {1e3 * dense:.1f} ms (spread {1e3 * spread:.1f})")
    for level in LEVELS:
        small = random_unet(DTYPE, DEVICE, CONFIG)
        for target in find_targets(small):
            shrink(small, target, torch.arange(units_to_keep(target.units, level)))
        took, spread = seconds(forward(small, latent, 2))
        ideal = whole / model.flops(latent, model.kept(level))
        print(f"  {level:.0%}: {1e3 * took:.1f} ms (spread {1e3 * spread:.1f}), "
              f"{dense / took:.3f}x, ideal {ideal:.3f}x")  # fmt: skip
        del small


def test_which_widths_are_fast() -> None:
    tokens, width = (64, 128) if TINY else (8192, 1280)
    x = torch.randn(tokens, width, device=DEVICE, dtype=DTYPE)
    for inner in (256, 250) if TINY else (5120, 4608, 4600, 4592, 4607, 3584, 3583, 3580, 3576):
        up = nn.Linear(width, 2 * inner, device=DEVICE, dtype=DTYPE)
        down = nn.Linear(inner, width, device=DEVICE, dtype=DTYPE)

        def run(up: nn.Linear = up, down: nn.Linear = down, inner: int = inner) -> Tensor:
            with torch.no_grad():
                value, gate = up(x).split(inner, dim=-1)
                return down(value * nn.functional.gelu(gate))  # type: ignore[no-any-return]

        took, spread = seconds(run)
        alignment = inner & -inner
        print(f"  {inner} neurons (multiple of {alignment}): {1e3 * took:.3f} ms "
              f"(spread {1e3 * spread:.3f}), {1e6 * took / inner:.3f} us a neuron")  # fmt: skip


@pytest.mark.parametrize("gib", [24] if TINY else [8, 12, 16, 24])
def test_the_forecast_against_the_measured_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib: int
) -> None:
    folder = tmp_path / "model"
    random_pipeline(random_unet(DTYPE, "cpu", CONFIG)).save_pretrained(folder)
    if not TINY:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.set_per_process_memory_fraction(gib * memory.GIB / whole)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (gib * memory.GIB, whole))
    monkeypatch.setattr(loading, "pick_device", lambda: DEVICE)
    settings = PruneSettings(
        str(folder),
        (0.1, 0.3),
        prompts=("a", "b", "a b", "b a") * 4,
        num_prompts=16,
        steps=6,
        size=128 if TINY else 512,
        held_out=0,
    )
    try:
        events = list(prune.run(settings, tmp_path / "out", tmp_path / "work", lambda: False))
    finally:
        if not TINY:
            torch.cuda.set_per_process_memory_fraction(1.0)
    (used,) = [event for event in events if isinstance(event, MemoryMeasured)]
    forecast, peak = (used.forecast or 0) / memory.GIB, (used.peak or 0) / memory.GIB
    print(f"  {gib} GiB: forecast {forecast:.2f} GiB, measured {peak:.2f} GiB")
