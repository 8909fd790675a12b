"""The walk is SDXL's own denoising, its sums are exact, and it goes on from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
    Feed,
    Walk,
    calibrate,
    feeding,
    restore_sums,
    save_sums,
    timestep_weights,
)
from core.errors import BadInput, Cancelled
from core.events import CheckpointSaved, Progress
from core.hessian import Hessian
from core.memory import default_batch_size
from core.targets import Target, find_targets
from core.trajectory import Course, Trajectories

PROMPTS = ("a red hat", "a blue cat", "two dogs", "the sea", "snow")
SETTINGS = Course(prompts=PROMPTS, steps=3, guidance=5.0, size=16, seed=7, batch_size=2)
EVERYTHING = Feed(1.0, None)


@pytest.fixture
def pipe(tiny_model: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(tiny_model, add_watermarker=False)


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Walk]:
    """A walk over all prompts of a course, recorded under a name of its own."""

    def start(
        pipe: StableDiffusionXLPipeline,
        course: Course = SETTINGS,
        strategy: str = "log_decrease",
        records: str = "records",
    ) -> Walk:
        trajectories = Trajectories(pipe, course, tmp_path / records, "key")
        return Walk(trajectories, range(len(course.prompts)), strategy)

    return start


def pipe_of(model: Path) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    return pipe


def fresh(walk: Walk) -> dict[Target, Hessian]:
    return {target: Hessian(target.columns) for target in find_targets(walk.course.unet)}


def sums(walk: Walk, token_budget: int | None = None) -> dict[Target, Hessian]:
    hessians = fresh(walk)
    for _ in calibrate(
        walk, hessians, 0, lambda done: None, lambda: False, token_budget=token_budget
    ):
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
    pipe: StableDiffusionXLPipeline, begin: Callable[..., Walk], guidance: float
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
    walk = begin(pipe, settings)
    walked = seen_by(pipe.unet, walk.after(0, EVERYTHING))
    replayed = seen_by(pipe.unet, walk.after(0, EVERYTHING))
    assert len(walked) == len(replayed) == len(expected) == 3 * 5
    for mine, again, theirs in zip(walked, replayed, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
        assert torch.equal(mine, again)


def test_sums_are_the_weighted_inputs_of_the_layers(
    pipe: StableDiffusionXLPipeline, begin: Callable[..., Walk]
) -> None:
    walk = begin(pipe)
    target = find_targets(pipe.unet)[2]
    inputs: list[Tensor] = []
    layer = pipe.unet.get_submodule(target.consumer)
    handle = layer.register_forward_pre_hook(
        lambda _, args: inputs.append(args[0].flatten(0, 1).double())
    )
    hessian = sums(walk)[target]
    handle.remove()
    alphas = timestep_weights("log_decrease", 3) * 3
    total = sum(alpha * X.T @ X for alpha, X in zip(alphas, inputs, strict=True))
    weight = sum(alpha * len(X) for alpha, X in zip(alphas, inputs, strict=True))
    torch.testing.assert_close(hessian.finish("ff").double(), total / weight, rtol=1e-4, atol=1e-6)
    assert hessian.tokens == 5 * 2 * 3 * 16  # prompts, guidance, steps, latent tokens


def test_the_batch_size_does_not_matter_even_to_a_random_sampler(
    tiny_model: Path, begin: Callable[..., Walk]
) -> None:
    found = []
    for batch_size in (1, 2, 5):
        pipe = pipe_of(tiny_model)
        course = replace(SETTINGS, batch_size=batch_size)
        found.append(sums(begin(pipe, course, records=str(batch_size))))
        # Recorded by one batch size, replayed by another.
        found.append(sums(begin(pipe_of(tiny_model), course, records="1")))
    for other in found[1:]:
        assert_close(found[0], other)


@pytest.mark.parametrize("token_budget", [None, 1])
def test_sums_go_on_from_any_pass_to_the_same_bits(
    pipe: StableDiffusionXLPipeline,
    begin: Callable[..., Walk],
    tmp_path: Path,
    token_budget: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.calibrate._MIN_BUDGET", 0)
    walk = begin(pipe)
    straight = sums(walk, token_budget)
    assert walk.passes == 9
    walk.course.folder = tmp_path / "other"  # nothing recorded: every resume walks its batch again
    file = tmp_path / "sums.safetensors"
    for stop in (2, 3, 7):  # inside a batch, at its end, inside the next but one
        hessians = fresh(walk)
        done = restore_sums(file, "key", hessians)
        save = partial(save_sums, file, "key", hessians)
        repeated = done % 3  # passes of a batch that are walked again to get back to `done`
        answers = iter([False] * (repeated + stop - done - 1) + [True])
        events = calibrate(
            walk, hessians, done, save, partial(next, answers), token_budget=token_budget
        )
        with pytest.raises(Cancelled, match=f"after {stop} of 9"):
            list(events)
    hessians = fresh(walk)
    assert restore_sums(file, "other", hessians) == 0
    done = restore_sums(file, "key", hessians)
    assert done == 7
    *_, progress, saved = calibrate(
        walk, hessians, done, lambda passed: None, lambda: False, token_budget=token_budget
    )
    assert progress == Progress(9, 9, "prompts 5-5 of 5, step 3 of 3")
    assert saved == CheckpointSaved(9, 9)
    for target, hessian in straight.items():
        assert hessians[target].counts() == hessian.counts()
        for mine, theirs in zip(hessians[target].panels, hessian.panels, strict=True):
            assert torch.equal(mine, theirs)


def test_hooks_leave_when_the_walk_breaks(
    pipe: StableDiffusionXLPipeline, begin: Callable[..., Walk]
) -> None:
    walk = begin(pipe)
    hessians = fresh(walk)
    events = calibrate(walk, hessians, 0, lambda done: None, lambda: False)
    next(events)
    layers = [pipe.unet.get_submodule(target.consumer) for target in hessians]
    assert all(layer._forward_pre_hooks for layer in layers)
    events.close()
    assert not any(layer._forward_pre_hooks for layer in layers)
    with (
        pytest.raises(AttributeError),
        feeding(pipe.unet, {"conv_in": Hessian(4), "no": Hessian(4)}, EVERYTHING),
    ):
        pass
    assert not pipe.unet.conv_in._forward_pre_hooks


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
    pipe: StableDiffusionXLPipeline, begin: Callable[..., Walk]
) -> None:
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    walk = begin(pipe)
    first, second, third = timestep_weights("log_decrease", 3)
    assert walk.alphas == [first, second, second, third, third]
    assert walk.passes == 3 * 5


def test_batches_follow_from_the_size_alone() -> None:
    assert [default_batch_size(side * side) for side in (128, 64, 16, 512)] == [1, 4, 16, 1]


def test_settings_that_cannot_run_are_refused(
    pipe: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    for wrong in ({"size": 17}, {"prompts": ()}, {"steps": 0}, {"batch_size": 0}):
        with pytest.raises(BadInput):
            Trajectories(pipe, replace(SETTINGS, **wrong), tmp_path, "key")


def test_replayed_sums_equal_walked_ones_and_end_after_the_last_hooked_layer(
    pipe: StableDiffusionXLPipeline, begin: Callable[..., Walk]
) -> None:
    walk = begin(pipe)
    walked = sums(walk)
    reached: list[str] = []
    for name in ("mid_block", "up_blocks.1"):
        pipe.unet.get_submodule(name).register_forward_hook(
            lambda *_, name=name: reached.append(name)
        )
    few = dict(list(fresh(walk).items())[:3])  # all of down1
    assert all(target.stage.startswith("down") for target in few)
    for _ in calibrate(walk, few, 0, lambda done: None, lambda: False):
        pass
    assert reached == []
    for target, hessian in few.items():
        assert hessian.counts() == walked[target].counts()
        for mine, theirs in zip(hessian.panels, walked[target].panels, strict=True):
            assert torch.equal(mine, theirs)
    sums(walk)
    assert reached == ["mid_block"] * 9  # the last hooked layer is in up_blocks.0
    pipe.unet(
        torch.zeros(1, 4, 8, 8),
        1,
        torch.zeros(1, 16, 32),
        added_cond_kwargs={"text_embeds": torch.zeros(1, 16), "time_ids": torch.zeros(1, 6)},
    )
    assert reached[-1] == "up_blocks.1"  # the model runs to its end again


def test_a_token_budget_draws_a_share_of_every_pass_without_a_bias(
    pipe: StableDiffusionXLPipeline, begin: Callable[..., Walk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.calibrate._MIN_BUDGET", 0)
    walk = begin(pipe)
    full, half = sums(walk), sums(walk, token_budget=1)
    for target, hessian in half.items():
        assert target.columns <= hessian.tokens <= target.columns + 2 * 9
        assert full[target].tokens == 480
    feed = Feed(samples=6.0, token_budget=2)
    X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    draws = []
    for number in range(400):
        feed.begin(number, 1.0, 1)
        draws.append(feed.sample(X).mean(dim=0))
    torch.testing.assert_close(torch.stack(draws).mean(dim=0), X.mean(dim=0), rtol=0.2, atol=0.1)
    assert len({tuple(draw.tolist()) for draw in draws}) > 300
