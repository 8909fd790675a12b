"""Our variants of the demo model at 30 % against the published algorithm's, magnitude's, random's.

make bench: one calibration, the same Hessians and counts for all, everything measured on prompts
that no calibration used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core import evaluate, fidelity, loading, prune
from core.architecture import units_to_keep
from core.calibrate import Walk, calibrate
from core.checkpoint import save_variant
from core.evaluate import CompareSettings
from core.events import Event, ModelMeasured, VariantSaved
from core.hessian import Hessian
from core.prune import PruneSettings
from core.solver import Level, damped, magnitude_order
from core.surgery import cut
from core.targets import Target, consumer_weight, find_targets
from core.trajectory import Course, Trajectories
from tests.bench import published

pytestmark = pytest.mark.bench

SPARSITY, DAMPING = 0.3, 0.01
CALIBRATED, HELD_OUT, PICTURES = 96, 16, 16
Choose = Callable[[Target, torch.Tensor, torch.Tensor], torch.Tensor]


def published_weights(target: Target, W: torch.Tensor, H: torch.Tensor) -> Level:
    H = damped(H, DAMPING)
    gone = target.units - units_to_keep(target.units, SPARSITY)
    if target.unit_width == 1:
        full, alive = published.prune_columns(W, H, gone)
    else:
        full, alive = published.prune_heads(W, H, target.unit_width, gone)
    keep = alive.view(target.units, -1)[:, 0].nonzero().flatten()
    return Level(keep, full[:, target.indices(keep)], math.nan)


def uncompensated(order: list[int], target: Target, W: torch.Tensor) -> Level:
    kept = units_to_keep(target.units, SPARSITY)
    keep = torch.tensor(sorted(order[target.units - kept :]))
    return Level(keep, W[:, target.indices(keep)], math.nan)


def test_variants_at_30_percent(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    prompts = tuple(loading.default_prompts("demo", CALIBRATED, 0))
    others = tuple(loading.held_out_prompts("demo", HELD_OUT))
    pipe = loading.load_pipeline("demo", device="cpu", dtype=torch.float32)
    course = Trajectories(
        pipe, Course((*prompts, *others), 25, 2.0, 64, 0, 16), tmp_path / "records", "bench"
    )
    walk = Walk(course, range(CALIBRATED), "log_decrease")
    targets = find_targets(pipe.unet)
    hessians = {target: Hessian(target.columns) for target in targets}
    list(calibrate(walk, hessians, 0, lambda done: None, lambda: False))
    held_out = course.batches(range(CALIBRATED, CALIBRATED + HELD_OUT))
    for batch in held_out:
        list(course.walk(batch))
    states = fidelity.draw_states(course, held_out, 8, 0)

    g = torch.Generator().manual_seed(0)
    made: dict[str, dict[Target, Level]] = {"published": {}, "magnitude": {}, "random": {}}
    for target in targets:
        W = consumer_weight(pipe.unet, target).detach()
        made["published"][target] = published_weights(
            target, W, hessians[target].finish(target.name)
        )
        made["magnitude"][target] = uncompensated(magnitude_order(W, target.unit_width), target, W)
        shuffled = torch.randperm(target.units, generator=g).tolist()
        made["random"][target] = uncompensated(shuffled, target, W)
    variants = {name: save(tmp_path / name, pipe.unet, levels) for name, levels in made.items()}
    ours: dict[str, tuple[str, dict[str, Any]]] = {
        "ours": ("uniform", {}),
        "ours, 4 packages": ("uniform", {"packages": 4}),
        "ours by loss": ("loss", {}),
    }
    noise: dict[str, float] = {}
    for name, (allocation, more) in ours.items():
        settings = PruneSettings(
            "demo", (SPARSITY,), prompts=prompts, guidance=2.0, allocate=allocation,  # type: ignore[arg-type]
            held_out=HELD_OUT, **more,
        )  # fmt: skip
        folder = tmp_path / name
        begun = time.monotonic()
        events = prune.run(settings, folder, tmp_path / f"{name}.work", lambda: False)
        (saved,) = [event for event in events if isinstance(event, VariantSaved)]
        print(f"{name}: {time.monotonic() - begun:.0f} s")
        variants[name], noise[name] = saved.path, saved.noise_error or 0.0
    for name, levels in made.items():
        *_, found = fidelity.held_out(course, states, levels)
        assert isinstance(found, fidelity.HeldOut)
        noise[name] = found.noise

    measured = compare(variants, tmp_path / "pictures")
    print(f"\ndemo model at {SPARSITY:.0%}, {CALIBRATED} calibration prompts; on {HELD_OUT} other "
          f"prompts ({PICTURES} pictures, seeds 0-{PICTURES - 1})")  # fmt: skip
    print("variant            params   noise error  latent distance   PSNR    SSIM  attributes")
    for row in measured:
        print(
            f"{row.model:17s} {row.params:8d} {noise.get(row.model, 0.0):12.2e} "
            f"{row.latent_distance or 0.0:16.2e} {row.psnr or 0.0:7.1f} {row.ssim or 0.0:7.3f} "
            f"{row.attributes or 0.0:10.1%}"
        )


def save(folder: Path, unet: Any, levels: dict[Target, Level]) -> str:
    by_name = {target.name: level for target, level in levels.items()}
    described = [{**t.to_dict(), "unit_width": t.unit_width} for t in levels]
    facts = {
        "base": "demo",
        "method": folder.name,
        "sparsity": SPARSITY,
        "dense_params": unet.num_parameters(),
        "targets": described,
    }
    kept = {name: level.keep for name, level in by_name.items()}
    small = cut(unet.state_dict(), list(levels), by_name)
    save_variant(folder, small, unet, facts, kept, torch.float32)
    return str(folder)


def compare(variants: dict[str, str], out: Path) -> list[ModelMeasured]:
    settings = CompareSettings(
        "demo", tuple(variants.items()), num_prompts=PICTURES, steps=25, batch_size=8
    )
    events: list[Event] = list(evaluate.run(settings, out, lambda: False))
    return [event for event in events if isinstance(event, ModelMeasured)]
