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

from core import loading, prune
from core.checkpoint import load_unet
from core.events import Event, Note, Phase, TargetSolved, VariantSaved
from core.prune import PruneSettings
from tests.random_sdxl import random_pipeline, random_unet

pytestmark = pytest.mark.full

SIZES = {0.1: 2_348_998_404, 0.3: 1_912_067_844}
DENSE = 2_567_463_684
LATENT = 16


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder of 5.2 GB."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sdxl") / "random"
    random_pipeline(random_unet(torch.bfloat16)).save_pretrained(folder)
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
