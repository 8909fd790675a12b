"""The walk is SDXL's own denoising, its sums are exact, and it goes on from anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor

from core.calibrate import (
    Calibration,
    Denoising,
    Feed,
    calibrate,
    default_batch_size,
    feeding,
    restore_sums,
    save_sums,
    timestep_weights,
)
from core.errors import BadInput, Cancelled
from core.events import CheckpointSaved, Progress
from core.hessian import Hessian
from core.targets import Target, find_targets

PROMPTS = ("a red hat", "a blue cat", "two dogs", "the sea", "snow")
SETTINGS = Calibration(
    prompts=PROMPTS,
    steps=3,
    guidance=5.0,
    size=16,
    seed=7,
    timestep_weights="log_decrease",
    batch_size=2,
)


@pytest.fixture
def pipe(tiny_model: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(tiny_model, add_watermarker=False)


def fresh(denoising: Denoising) -> dict[Target, Hessian]:
    return {target: Hessian(target.columns) for target in find_targets(denoising.unet)}


def sums(denoising: Denoising) -> dict[Target, Hessian]:
    hessians = fresh(denoising)
    for _ in calibrate(denoising, hessians, 0, lambda done: None, lambda: False):
        pass
    return hessians


def assert_close(one: dict[Target, Hessian], other: dict[Target, Hessian]) -> None:
    for target in one:
        a, b = one[target].finish("one"), other[target].finish("other")
        assert one[target].tokens == other[target].tokens
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


def seen_by(unet: UNet2DConditionModel, walk: Iterator[Any]) -> list[Tensor]:
    """What reaches the UNet during a walk: latents, timestep, text, pooled text, sizes."""
    seen: list[Tensor] = []

    def watch(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.extend([args[0], args[1], kwargs["encoder_hidden_states"]])
        seen.extend(kwargs["added_cond_kwargs"].values())

    handle = unet.register_forward_pre_hook(watch, with_kwargs=True)
    for _ in walk:
        pass
    handle.remove()
    return seen


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_the_unet_sees_what_the_pipeline_shows_it(
    pipe: StableDiffusionXLPipeline, guidance: float
) -> None:
    def drawn() -> Iterator[None]:
        generators = [torch.Generator().manual_seed(7 + at) for at in range(2)]
        pipe.set_progress_bar_config(disable=True)
        yield pipe(
            list(PROMPTS[:2]),
            height=16,
            width=16,
            num_inference_steps=3,
            guidance_scale=guidance,
            generator=generators,
            output_type="latent",
        )

    expected = seen_by(pipe.unet, drawn())
    settings = replace(SETTINGS, prompts=PROMPTS[:2], guidance=guidance)
    denoising = Denoising(pipe, settings)
    found = seen_by(denoising.unet, denoising.walk(0, Feed()))
    assert len(found) == len(expected) == 3 * 5
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_sums_are_the_weighted_inputs_of_the_layers(pipe: StableDiffusionXLPipeline) -> None:
    denoising = Denoising(pipe, SETTINGS)
    target = find_targets(denoising.unet)[2]
    inputs: list[Tensor] = []
    layer = denoising.unet.get_submodule(target.consumer)
    handle = layer.register_forward_pre_hook(
        lambda _, args: inputs.append(args[0].flatten(0, 1).double())
    )
    hessian = sums(denoising)[target]
    handle.remove()
    alphas = timestep_weights("log_decrease", 3) * 3
    total = sum(alpha * X.T @ X for alpha, X in zip(alphas, inputs, strict=True))
    weight = sum(alpha * len(X) for alpha, X in zip(alphas, inputs, strict=True))
    torch.testing.assert_close(hessian.finish("ff").double(), total / weight, rtol=1e-4, atol=1e-6)
    assert hessian.tokens == 5 * 2 * 3 * 16  # prompts, guidance, steps, latent tokens


def test_the_batch_size_does_not_matter_even_to_a_random_sampler(tiny_model: Path) -> None:
    found = []
    for batch_size in (1, 2, 5):
        pipe = StableDiffusionXLPipeline.from_pretrained(tiny_model, add_watermarker=False)
        pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
        found.append(sums(Denoising(pipe, replace(SETTINGS, batch_size=batch_size))))
    assert_close(found[0], found[1])
    assert_close(found[0], found[2])


def test_sums_go_on_from_any_pass_to_the_same_bits(
    pipe: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    denoising = Denoising(pipe, SETTINGS)
    straight = sums(denoising)
    assert denoising.passes == 9
    file = tmp_path / "sums.safetensors"
    for stop in (2, 3, 7):  # inside a batch, at its end, inside the next but one
        hessians = fresh(denoising)
        done = restore_sums(file, "key", hessians)
        save = partial(save_sums, file, "key", hessians)
        repeated = done % 3  # passes of a batch that are walked again to get back to `done`
        answers = iter([False] * (repeated + stop - done - 1) + [True])
        events = calibrate(denoising, hessians, done, save, partial(next, answers))
        with pytest.raises(Cancelled, match=f"after {stop} of 9"):
            list(events)
    hessians = fresh(denoising)
    assert restore_sums(file, "other", hessians) == 0
    done = restore_sums(file, "key", hessians)
    assert done == 7
    *_, progress, saved = calibrate(denoising, hessians, done, lambda passed: None, lambda: False)
    assert progress == Progress(9, 9, "prompts 5-5 of 5, step 3 of 3")
    assert saved == CheckpointSaved(9, 9)
    for target, hessian in straight.items():
        assert hessians[target].counts() == hessian.counts()
        for mine, theirs in zip(hessians[target].panels, hessian.panels, strict=True):
            assert torch.equal(mine, theirs)


def test_hooks_leave_when_the_walk_breaks(pipe: StableDiffusionXLPipeline) -> None:
    denoising = Denoising(pipe, SETTINGS)
    hessians = fresh(denoising)
    events = calibrate(denoising, hessians, 0, lambda done: None, lambda: False)
    next(events)
    layers = [denoising.unet.get_submodule(target.consumer) for target in hessians]
    assert all(layer._forward_pre_hooks for layer in layers)
    events.close()
    assert not any(layer._forward_pre_hooks for layer in layers)
    with (
        pytest.raises(AttributeError),
        feeding(denoising.unet, {"conv_in": Hessian(4), "no": Hessian(4)}),
    ):
        pass
    assert not denoising.unet.conv_in._forward_pre_hooks


def test_weights_of_every_strategy() -> None:
    assert timestep_weights("uniform", 3) == [1, 1, 1]
    assert timestep_weights("linear_increase", 3) == pytest.approx([0.8, 1.0, 1.2])
    assert timestep_weights("linear_decrease", 3) == pytest.approx([1.2, 1.0, 0.8])
    middle = 0.8 + 0.4 * math.log(2) / math.log(3)
    assert timestep_weights("log_increase", 3) == pytest.approx([0.8, middle, 1.2])
    published = timestep_weights("log_decrease", 25)  # rounded values of the paper's formula
    assert [round(published[t - 1], 3) for t in (1, 5, 10, 20, 25)] == [
        1.2,
        1.178,
        1.145,
        1.023,
        0.8,
    ]
    for strategy in ("linear_increase", "linear_decrease", "log_increase", "log_decrease"):
        assert timestep_weights(strategy, 1) == [1.0]
    with pytest.raises(BadInput, match="'steep' are not known: choose one of uniform"):
        timestep_weights("steep", 4)


def test_a_sampler_of_second_order_weighs_both_calls_of_a_noise_level_alike(
    pipe: StableDiffusionXLPipeline,
) -> None:
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    denoising = Denoising(pipe, SETTINGS)
    first, second, third = timestep_weights("log_decrease", 3)
    assert denoising.alphas == [first, second, second, third, third]
    assert denoising.passes == 3 * 5


def test_batches_follow_from_the_size_alone() -> None:
    assert [default_batch_size(side * side) for side in (128, 64, 16, 512)] == [1, 4, 16, 1]


def test_settings_that_cannot_run_are_refused(pipe: StableDiffusionXLPipeline) -> None:
    for wrong in ({"size": 17}, {"prompts": ()}, {"steps": 0}, {"batch_size": 0}):
        with pytest.raises(BadInput):
            Denoising(pipe, replace(SETTINGS, **wrong))
