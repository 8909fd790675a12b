"""Errors on held-out states: those of the variant itself, computed without it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from core.checkpoint import digest
from core.errors import EngineError
from core.fidelity import HeldOut, distance, draw_states, held_out, predict
from core.solver import Level
from core.surgery import cut, masked, shrink
from core.targets import Target, consumer_weight, find_targets
from core.trajectory import Course, Trajectories

COURSE = Course(("a hat", "a cat", "two dogs"), 4, 5.0, 16, 3, 2)


@pytest.fixture
def course(tiny_model: Path, tmp_path: Path) -> Trajectories:
    pipe = StableDiffusionXLPipeline.from_pretrained(tiny_model, add_watermarker=False)
    course = Trajectories(pipe, COURSE, tmp_path / "records", "key")
    for batch in course.batches(range(3)):
        list(course.walk(batch))
    return course


def levels(course: Trajectories) -> dict[Target, Level]:
    """Every target without its last unit, with other weights and another bias."""
    found = {}
    for target in find_targets(course.unet):
        keep = torch.arange(target.units - 1)
        W = consumer_weight(course.unet, target).detach()
        new = 1.1 * W[:, target.indices(keep)]
        found[target] = Level(keep, new, math.nan, torch.full((W.shape[0],), 0.01))
    return found


def test_the_masked_dense_model_computes_what_the_cut_one_does(course: Trajectories) -> None:
    chosen = levels(course)
    states = draw_states(course, course.batches(range(3)), 2, 0)
    before = digest(course.unet.state_dict())
    dense = list(predict(course, states))
    with masked(course.unet, chosen):
        hidden = list(predict(course, states))
    assert digest(course.unet.state_dict()) == before
    by_name = {target.name: level for target, level in chosen.items()}
    small = cut(course.unet.state_dict(), list(chosen), by_name)
    *_, measured = held_out(course, states, chosen)
    assert isinstance(measured, HeldOut)
    assert digest(course.unet.state_dict()) == before
    for target, level in chosen.items():
        shrink(course.unet, target, level.keep)
    course.unet.load_state_dict(small)
    own = list(predict(course, states))
    for a, b in zip(hidden, own, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert distance(dense, dense) == 0
    assert distance(own, dense) == pytest.approx(measured.noise, rel=1e-3)
    assert measured.noise > 1e-6


def test_errors_of_targets_are_those_of_their_outputs(course: Trajectories) -> None:
    chosen = levels(course)
    target = list(chosen)[-1]
    states = draw_states(course, course.batches(range(3)), 1, 0)
    shown: list[torch.Tensor] = []
    layer = course.unet.get_submodule(target.consumer)
    handle = layer.register_forward_pre_hook(lambda _, args: shown.append(args[0].flatten(0, 1)))
    list(predict(course, states))
    handle.remove()
    x = torch.cat(shown).double()
    W, level = consumer_weight(course.unet, target).detach().double(), chosen[target]
    kept = x[:, target.indices(level.keep)]
    moved = kept @ level.W.double().T + 0.01 - x @ W.T
    expected = (moved.square().sum() / (x @ W.T).square().sum()).sqrt()
    *_, measured = held_out(course, states, chosen)
    assert isinstance(measured, HeldOut)
    assert measured.targets[target.name] == pytest.approx(float(expected), rel=1e-4)
    assert not layer._forward_hooks


def test_states_are_drawn_once_and_only_from_what_was_recorded(course: Trajectories) -> None:
    batches = course.batches(range(3))
    states = draw_states(course, batches, 3, 0)
    drawn = [(tuple(state.batch), state.step) for state in states]
    assert len(set(drawn)) == len(drawn) == 6
    assert [tuple(s.batch) for s in draw_states(course, batches, 99, 0)] == [(0, 1)] * 4 + [
        (2,)
    ] * 4
    course.key = "other"
    with pytest.raises(EngineError, match="was changed during the run"):
        draw_states(course, batches, 1, 0)
