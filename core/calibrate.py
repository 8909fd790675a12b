"""Walk the denoising of calibration prompts and feed the Hessians of the layers to be pruned.

The unit of work, of progress and of resuming is one forward pass of the UNet over one batch of
prompts. Every batch walks its own trajectory from its own noise, so a walk that stopped inside a
batch goes on by repeating that batch's first passes without counting them: no sampler's memory
has to be stored, and the sums come out the same to the last bit.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from core.checkpoint import read_tensors, write_tensors
from core.errors import BadInput, Cancelled
from core.events import CheckpointSaved, Progress
from core.hessian import Hessian
from core.targets import Target

_ALPHA_MIN, _ALPHA_MAX = 0.8, 1.2
_SAVE_EVERY_S = 60.0
# Saving may take this share of the run's time: SDXL's sums are 4.3 GiB.
_SAVE_SHARE = 0.05
_MAX_BATCH = 16
# Latent pixels of a batch: four prompts at 512 x 512.
_BATCH_PIXELS = 4 * 64 * 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is walked: `size` in pixels, `batch_size` in prompts a forward pass (without CFG's
    doubling), `guidance` up to 1 means no classifier-free guidance. Prompt i starts from the noise
    of seed + i, whatever batch it is in."""

    prompts: tuple[str, ...]
    steps: int
    guidance: float
    size: int
    seed: int
    timestep_weights: str
    batch_size: int


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


def default_batch_size(latent_pixels: int) -> int:
    """Prompts a forward pass for latents of so many pixels. From the size alone, never from free
    memory: a resumed run must make up its batches as the first one did."""
    return max(1, min(_MAX_BATCH, _BATCH_PIXELS // latent_pixels))


@dataclass(slots=True)
class Feed:
    """What the hooks do with the current forward pass: its weight, or None to look away."""

    alpha: float | None = None


@contextmanager
def feeding(unet: UNet2DConditionModel, hessians: Mapping[str, Hessian]) -> Iterator[Feed]:
    """Hook the Linear layers named in `hessians` so that their inputs are added to them.

    The hooks leave with the context, whatever ends it.
    """
    feed = Feed()

    def watch(hessian: Hessian) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if feed.alpha is not None:
                hessian.add(inputs[0], feed.alpha)

        return add

    handles = []
    try:
        for layer, hessian in hessians.items():
            handles.append(unet.get_submodule(layer).register_forward_pre_hook(watch(hessian)))
        yield feed
    finally:
        for handle in handles:
            handle.remove()


class Denoising:
    """The denoising of all calibration prompts, batch after batch, in latent space.

    Takes the pipeline over: its encoders and its VAE are freed once the prompts are encoded.
    """

    def __init__(self, pipe: StableDiffusionXLPipeline, calibration: Calibration) -> None:
        if calibration.size % pipe.vae_scale_factor or calibration.size <= 0:
            raise BadInput(
                f"calibration at {calibration.size} pixels does not fit the model: choose a "
                f"multiple of {pipe.vae_scale_factor}"
            )
        if not calibration.prompts or calibration.steps < 1 or calibration.batch_size < 1:
            raise BadInput(
                "calibration needs at least one prompt, one step and a batch of one: "
                f"got {len(calibration.prompts)}, {calibration.steps}, {calibration.batch_size}"
            )
        self.pipe, self.unet, self.calibration = pipe, pipe.unet, calibration
        self.latent_size = calibration.size // pipe.vae_scale_factor
        self.guided = calibration.guidance > 1
        timesteps = self._scheduler().timesteps.tolist()
        # A sampler of second order calls the UNet twice at a noise level: both count alike.
        levels = list(dict.fromkeys(timesteps))
        alphas = timestep_weights(calibration.timestep_weights, len(levels))
        self.alphas = [alphas[levels.index(timestep)] for timestep in timesteps]
        batches = range(0, len(calibration.prompts), calibration.batch_size)
        self.batches = [range(len(calibration.prompts))[at:][: batches.step] for at in batches]
        self.passes = len(self.batches) * len(self.alphas)
        self._encoded: tuple[Tensor, Tensor] | None = None

    def walk(self, done: int, feed: Feed) -> Iterator[int]:
        """Run the forward passes after the first `done`, yielding how many are done after each.

        Inside a batch the passes up to `done` are repeated, with `feed.alpha` None.
        """
        for number in range(done // len(self.alphas), len(self.batches)):
            scheduler = self._scheduler()
            noise = [self._generator(prompt) for prompt in self.batches[number]]
            latents = self._noise(noise) * scheduler.init_noise_sigma
            ancestral = "generator" in inspect.signature(scheduler.step).parameters
            options: dict[str, Any] = {"generator": noise} if ancestral else {}
            conditions = self._conditions(self.batches[number])
            for step, timestep in enumerate(scheduler.timesteps):
                passed = number * len(self.alphas) + step + 1
                feed.alpha = self.alphas[step] if passed > done else None
                with torch.no_grad():
                    model_input = scheduler.scale_model_input(latents, timestep)
                    output = self._predict(model_input, timestep, conditions)
                    latents = scheduler.step(output, timestep, latents, **options).prev_sample
                yield max(done, passed)

    def describe(self, passed: int) -> str:
        """Where the walk is after so many passes, in words."""
        batch, step = divmod(max(passed - 1, 0), len(self.alphas))
        prompts = self.batches[batch]
        return (
            f"prompts {prompts[0] + 1}-{prompts[-1] + 1} of {len(self.calibration.prompts)}, "
            f"step {step + 1} of {len(self.alphas)}"
        )

    def _scheduler(self) -> Any:
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        scheduler.set_timesteps(self.calibration.steps, device=self.unet.device)
        return scheduler

    def _generator(self, prompt: int) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self.calibration.seed + prompt)

    def _noise(self, generators: list[torch.Generator]) -> Tensor:
        channels, side = self.unet.config.in_channels, self.latent_size
        shape = (len(generators), channels, side, side)
        noise: Tensor = randn_tensor(
            shape, generators, device=self.unet.device, dtype=self.unet.dtype
        )
        return noise

    def _conditions(self, prompts: Sequence[int]) -> dict[str, Any]:
        """Arguments of the UNet for a batch; with guidance the unconditional half comes first."""
        if self._encoded is None:
            self._encoded = self._encode()
        at = list(prompts)
        text, pooled = (part[:, at].flatten(0, 1) for part in self._encoded)
        size = self.calibration.size
        # Original size, crop corner, target size: a whole picture at the calibration size.
        time_ids = text.new_tensor([size, size, 0, 0, size, size]).expand(len(text), -1)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return {"encoder_hidden_states": text, "added_cond_kwargs": added}

    def _predict(self, latents: Tensor, timestep: Tensor, conditions: dict[str, Any]) -> Tensor:
        """The model's output for latents [b, c, h, w], guided."""
        if not self.guided:
            alone: Tensor = self.unet(latents, timestep, **conditions).sample
            return alone
        both = self.unet(torch.cat([latents, latents]), timestep, **conditions).sample
        without, with_text = both.chunk(2)
        guided: Tensor = without + self.calibration.guidance * (with_text - without)
        return guided

    def _encode(self) -> tuple[Tensor, Tensor]:
        """Text [g, n, tokens, c] and pooled text [g, n, c] of all prompts; g = 2 with guidance."""
        texts, pools = [], []
        for prompt in self.calibration.prompts:
            with torch.no_grad():
                text, no_text, pooled, no_pooled = self.pipe.encode_prompt(
                    prompt, device=self.unet.device, do_classifier_free_guidance=self.guided
                )
            texts.append(torch.cat([no_text, text] if self.guided else [text]))
            pools.append(torch.cat([no_pooled, pooled] if self.guided else [pooled]))
        self.pipe.text_encoder = self.pipe.text_encoder_2 = self.pipe.vae = None
        return torch.stack(texts, dim=1), torch.stack(pools, dim=1)


def calibrate(
    denoising: Denoising,
    hessians: Mapping[Target, Hessian],
    done: int,
    save: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> Iterator[Progress | CheckpointSaved]:
    """Add the forward passes after the first `done` to the Hessians of the targets' consumers.

    `save(done)` stores the sums (see `save_sums`): about once a minute, at the end, and when
    `cancelled()` turns true between two passes; then Cancelled is raised.
    """
    saved_at, save_cost = time.monotonic(), 0.0
    by_layer = {target.consumer: hessian for target, hessian in hessians.items()}
    with feeding(denoising.unet, by_layer) as feed:
        for passed in denoising.walk(done, feed):
            yield Progress(passed, denoising.passes, denoising.describe(passed))
            stop = cancelled()
            pause = max(_SAVE_EVERY_S, save_cost / _SAVE_SHARE)
            if stop or passed == denoising.passes or time.monotonic() - saved_at > pause:
                begun = time.monotonic()
                save(passed)
                saved_at = time.monotonic()
                save_cost = saved_at - begun
                yield CheckpointSaved(passed, denoising.passes)
            if stop:
                raise Cancelled(f"cancelled after {passed} of {denoising.passes} forward passes")


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
