"""Feed the Hessians of the layers to be pruned from the denoising of calibration prompts.

The unit of work, of progress and of resuming is one forward pass of the UNet over one batch of
prompts. The first time a batch is walked and recorded (`core.trajectory`), its passes feed the
Hessians on the way; later passes over it are replayed. A walk that stopped inside a batch repeats
that batch's first passes without counting them: no sampler's memory has to be stored, and the sums
come out the same to the last bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from core.checkpoint import read_tensors, write_tensors
from core.errors import BadInput, Cancelled
from core.events import CheckpointSaved, Progress
from core.hessian import Hessian
from core.targets import Target
from core.trajectory import Enough, Trajectories

_ALPHA_MIN, _ALPHA_MAX = 0.8, 1.2
_SAVE_EVERY_S = 60.0
# Saving may take this share of the run's time: SDXL's sums are 4.3 GiB.
_SAVE_SHARE = 0.05
# A narrow layer's budget would be a handful of pictures' tokens, which resemble one another.
_MIN_BUDGET = 65_536


def timestep_weights(strategy: str, steps: int) -> list[float]:
    """alpha_t for the denoising steps t = 1 ... T, noisiest first, within 0.8 ... 1.2.

    Log decrease is Eq. 4 of OBS-Diff (arXiv 2510.06751), the others are those of its ablation.
    The log forms divide by ln T: a single step weighs 1. Raises BadInput for an unknown strategy.
    """
    span = _ALPHA_MAX - _ALPHA_MIN
    T = steps
    shapes: dict[str, Callable[[int], float]] = {
        "uniform": lambda t: 1.0,
        "linear_increase": lambda t: _ALPHA_MIN + span * (t - 1) / (T - 1),
        "linear_decrease": lambda t: _ALPHA_MAX - span * (t - 1) / (T - 1),
        "log_increase": lambda t: _ALPHA_MIN + span * math.log(t) / math.log(T),
        "log_decrease": lambda t: _ALPHA_MIN + span * math.log(T - t + 1) / math.log(T),
    }
    if strategy not in shapes:
        raise BadInput(
            f"timestep weights {strategy!r} are not known: choose one of {', '.join(shapes)}"
        )
    return [1.0] if T == 1 else [shapes[strategy](t) for t in range(1, T + 1)]


def pass_weights(strategy: str, timesteps: Tensor) -> list[float]:
    """alpha of every forward pass of a prompt. A sampler of second order calls the UNet twice at a
    noise level: both calls weigh alike."""
    passes = timesteps.tolist()
    levels = list(dict.fromkeys(passes))
    alphas = timestep_weights(strategy, len(levels))
    return [alphas[levels.index(timestep)] for timestep in passes]


@dataclass(slots=True)
class Feed:
    """What the hooks do with the current forward pass.

    `alpha` is its weight, None to look away; `number` names it among all passes and draws the
    tokens; `samples` is how many times the whole calibration shows as many tokens as one prompt
    here; `stop` ends the pass after the last hooked layer.
    """

    samples: float
    token_budget: int | None
    alpha: float | None = None
    number: int = 0
    prompts: int = 1
    stop: bool = False
    _drawn: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def begin(self, number: int, alpha: float | None, prompts: int) -> None:
        """The next pass is number `number`, over `prompts` prompts, at weight `alpha`."""
        self.number, self.alpha, self.prompts = number, alpha, prompts
        self._drawn.clear()

    def sample(self, X: Tensor) -> Tensor:
        """The tokens of X [n, d] that count: all, or a random share that meets the budget of
        `token_budget` tokens a column over the whole calibration."""
        n, d = X.shape
        if self.token_budget is None:
            return X
        wanted = max(self.token_budget * d, _MIN_BUDGET) / (n / self.prompts * self.samples)
        take = math.ceil(n * wanted)
        if take >= n:
            return X
        if (n, take) not in self._drawn:
            # At random in every pass: a fixed grid would see the same pixels again and again.
            draw = torch.Generator().manual_seed(self.number)
            self._drawn[n, take] = torch.randperm(n, generator=draw)[:take].to(X.device)
        return X[self._drawn[n, take]]


@contextmanager
def feeding(
    unet: UNet2DConditionModel, hessians: Mapping[str, Hessian], feed: Feed
) -> Iterator[None]:
    """Hook the Linear layers named in `hessians`, in forward order, so that their inputs are added
    to them. The hooks leave with the context, whatever ends it."""
    last = list(hessians)[-1]

    def watch(layer: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        hessian = hessians[layer]

        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if feed.alpha is not None:
                X = inputs[0].detach().reshape(-1, hessian.columns)
                hessian.add(feed.sample(X), feed.alpha)
                if feed.stop and layer == last:
                    raise Enough

        return add

    handles = []
    try:
        for layer in hessians:
            handles.append(unet.get_submodule(layer).register_forward_pre_hook(watch(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class Walk:
    """The forward passes of a calibration: every step of every batch of its prompts."""

    def __init__(self, course: Trajectories, prompts: Sequence[int], strategy: str) -> None:
        self.course, self.prompts = course, prompts
        self.batches = course.batches(prompts)
        self.alphas = pass_weights(strategy, course.timesteps)
        self.passes = len(self.batches) * len(self.alphas)

    def after(self, done: int, feed: Feed) -> Iterator[int]:
        """Run the passes after the first `done`, yielding how many are done after each.

        Inside a batch that has to be walked, the passes up to `done` are repeated with
        `feed.alpha` None; a recorded batch goes on where it stopped.
        """
        steps = len(self.alphas)
        for number in range(done // steps, len(self.batches)):
            batch = self.batches[number]
            before = number * steps
            states = self.course.recorded(batch)
            feed.stop = states is not None
            if states is None:
                run = self.course.walk(batch)
            else:
                run = self.course.replay(batch, states, max(0, done - before))
            passed = None
            for step in run:
                if passed is not None:
                    yield passed
                passed = max(done, before + step + 1)
                counts = before + step >= done
                feed.begin(before + step, self.alphas[step] if counts else None, len(batch))
            if passed is not None:
                yield passed

    def describe(self, passed: int) -> str:
        """Where the walk is after so many passes, in words."""
        number, step = divmod(max(passed - 1, 0), len(self.alphas))
        batch = self.batches[number]
        return (
            f"prompts {batch[0] + 1}-{batch[-1] + 1} of {len(self.prompts)}, "
            f"step {step + 1} of {len(self.alphas)}"
        )


def calibrate(
    walk: Walk,
    hessians: Mapping[Target, Hessian],
    done: int,
    save: Callable[[int], None],
    cancelled: Callable[[], bool],
    *,
    token_budget: int | None = None,
) -> Iterator[Progress | CheckpointSaved]:
    """Add the forward passes after the first `done` to the Hessians of the targets' consumers.

    `hessians` are in forward order. `token_budget` tokens a column are enough (at least 65,536 in
    all): from more, a random share is drawn in every pass. `save(done)` stores the sums (see
    `save_sums`): about once a minute, at the end, and when `cancelled()` turns true between two
    passes; then Cancelled is raised.
    """
    saved_at, save_cost = time.monotonic(), 0.0
    by_layer = {target.consumer: hessian for target, hessian in hessians.items()}
    feed = Feed(len(walk.prompts) * len(walk.alphas), token_budget)
    with feeding(walk.course.unet, by_layer, feed):
        for passed in walk.after(done, feed):
            yield Progress(passed, walk.passes, walk.describe(passed))
            stop = cancelled()
            pause = max(_SAVE_EVERY_S, save_cost / _SAVE_SHARE)
            if stop or passed == walk.passes or time.monotonic() - saved_at > pause:
                begun = time.monotonic()
                save(passed)
                saved_at = time.monotonic()
                save_cost = saved_at - begun
                yield CheckpointSaved(passed, walk.passes)
            if stop:
                raise Cancelled(f"cancelled after {passed} of {walk.passes} forward passes")


def save_sums(path: Path, key: str, hessians: Mapping[Target, Hessian], done: int) -> None:
    """Store the sums of the first `done` forward passes under `key`."""
    tensors: dict[str, Tensor] = {}
    for target, hessian in hessians.items():
        tensors |= hessian.to_tensors(target.name)
    counts = {target.name: hessian.counts() for target, hessian in hessians.items()}
    write_tensors(path, tensors, {"key": key, "done": done, "counts": counts})


def restore_sums(path: Path, key: str, hessians: Mapping[Target, Hessian]) -> int:
    """Fill fresh Hessians from `path` if it was saved under `key`; the passes they now hold."""
    found = read_tensors(path, key)
    if found is None:
        return 0
    tensors, facts = found
    for target, hessian in hessians.items():
        hessian.restore(target.name, tensors, facts["counts"][target.name])
    return int(facts["done"])
