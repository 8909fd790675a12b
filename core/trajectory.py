"""The denoising of calibration prompts: walked once, recorded, replayed as often as needed.

A record holds what the UNet was shown at every step of one prompt. Replaying is bare forward
passes: no sampler and its memory, any batch size, any order, and a pass may end early, as soon as
the layers that are watched have run. Prompt i starts from the noise of seed + i, whatever batch it
is in, so nothing depends on how prompts were batched but the last bits of the sums.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from core.checkpoint import read_tensors, write_tensors
from core.errors import BadInput
from core.manifest import fingerprint


@dataclass(frozen=True, slots=True)
class Course:
    """What is denoised: `size` in pixels, `batch_size` in prompts a forward pass (without CFG's
    doubling), `guidance` up to 1 means no classifier-free guidance."""

    prompts: tuple[str, ...]
    steps: int
    guidance: float
    size: int
    seed: int
    batch_size: int


class Enough(Exception):
    """Raised inside a replayed forward pass to end it: a hook has seen all it needs."""


class Trajectories:
    """The denoising of all prompts of a course in latent space, recorded in `folder` under `key`.

    Takes over a pipeline that lies on the CPU. The encoders visit `device`, encode all prompts and
    are freed with the VAE before the UNet goes there: an 8 GB card never holds both.
    `timesteps` has one entry for every forward pass of a prompt. Raises BadInput for a course that
    the model cannot run.
    """

    def __init__(
        self,
        pipe: StableDiffusionXLPipeline,
        course: Course,
        folder: Path,
        key: str,
        device: str | torch.device = "cpu",
    ) -> None:
        if course.size % pipe.vae_scale_factor or course.size <= 0:
            raise BadInput(
                f"calibration at {course.size} pixels does not fit the model: choose a "
                f"multiple of {pipe.vae_scale_factor}"
            )
        if not course.prompts or course.steps < 1 or course.batch_size < 1:
            raise BadInput(
                "calibration needs at least one prompt, one step and a batch of one: "
                f"got {len(course.prompts)}, {course.steps}, {course.batch_size}"
            )
        self.pipe, self.unet, self.course = pipe, pipe.unet, course
        self.folder, self.key = folder, key
        self.latent_size = course.size // pipe.vae_scale_factor
        self.guided = course.guidance > 1
        self._encoded = self._encode(device)
        pipe.unet.to(device)
        self.timesteps: Tensor = self._scheduler().timesteps

    def batches(self, prompts: Sequence[int]) -> list[Sequence[int]]:
        """Prompts, by number, in the batches of the course."""
        size = self.course.batch_size
        return [prompts[at : at + size] for at in range(0, len(prompts), size)]

    def recorded(self, batch: Sequence[int]) -> Tensor | None:
        """What the UNet was shown: [steps, batch, c, h, w]; None where a prompt was not walked."""
        states = []
        for prompt in batch:
            found = read_tensors(self._file(prompt), self._key(prompt))
            if found is None:
                return None
            states.append(found[0]["states"])
        return torch.stack(states, dim=1)

    def walk(self, batch: Sequence[int]) -> Iterator[int]:
        """Denoise one batch, yielding each step before its forward pass, and record it."""
        scheduler = self._scheduler()
        noise = [self._generator(prompt) for prompt in batch]
        latents = self._noise(noise) * scheduler.init_noise_sigma
        ancestral = "generator" in inspect.signature(scheduler.step).parameters
        options: dict[str, Any] = {"generator": noise} if ancestral else {}
        states = []
        for step, timestep in enumerate(scheduler.timesteps):
            yield step
            with torch.no_grad():
                state = scheduler.scale_model_input(latents, timestep)
                states.append(state.cpu())
                output = self._guide(self.forward(batch, state, step))
                latents = scheduler.step(output, timestep, latents, **options).prev_sample
        for at, prompt in enumerate(batch):
            shown = torch.stack([state[at] for state in states])
            write_tensors(self._file(prompt), {"states": shown}, {"key": self._key(prompt)})

    def replay(self, batch: Sequence[int], states: Tensor, first: int = 0) -> Iterator[int]:
        """Repeat a batch from what `recorded` gave, yielding each step from `first` on before its
        forward pass; `Enough` raised in a pass ends that pass."""
        for step in range(first, len(self.timesteps)):
            yield step
            with suppress(Enough):
                self.forward(batch, states[step], step)

    def forward(self, batch: Sequence[int], state: Tensor, step: int) -> Tensor:
        """The UNet's prediction [g * b, c, h, w] for its input [b, c, h, w] at a step; with
        guidance g = 2 and the unconditional half comes first."""
        state = state.to(self.unet.device, self.unet.dtype)
        both = torch.cat([state, state]) if self.guided else state
        with torch.no_grad():
            prediction: Tensor = self.unet(
                both, self.timesteps[step], **self._conditions(batch)
            ).sample
        return prediction

    def _guide(self, prediction: Tensor) -> Tensor:
        if not self.guided:
            return prediction
        without, with_text = prediction.chunk(2)
        return without + self.course.guidance * (with_text - without)

    def _file(self, prompt: int) -> Path:
        return self.folder / f"{prompt:05d}.safetensors"

    def _key(self, prompt: int) -> str:
        return fingerprint([self.key, prompt])

    def _scheduler(self) -> Any:
        scheduler = type(self.pipe.scheduler).from_config(self.pipe.scheduler.config)
        scheduler.set_timesteps(self.course.steps, device=self.unet.device)
        return scheduler

    def _generator(self, prompt: int) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self.course.seed + prompt)

    def _noise(self, generators: list[torch.Generator]) -> Tensor:
        channels, side = self.unet.config.in_channels, self.latent_size
        shape = (len(generators), channels, side, side)
        noise: Tensor = randn_tensor(
            shape, generators, device=self.unet.device, dtype=self.unet.dtype
        )
        return noise

    def _conditions(self, prompts: Sequence[int]) -> dict[str, Any]:
        """Arguments of the UNet for a batch; with guidance the unconditional half comes first."""
        at = list(prompts)
        text, pooled = (part[:, at].flatten(0, 1) for part in self._encoded)
        size = self.course.size
        # Original size, crop corner, target size: a whole picture at the calibration size.
        time_ids = text.new_tensor([size, size, 0, 0, size, size]).expand(len(text), -1)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return {"encoder_hidden_states": text, "added_cond_kwargs": added}

    def _encode(self, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """Text [g, n, tokens, c] and pooled text [g, n, c] of all prompts; g = 2 with guidance."""
        self.pipe.text_encoder.to(device)
        self.pipe.text_encoder_2.to(device)
        texts, pools = [], []
        for prompt in self.course.prompts:
            with torch.no_grad():
                text, no_text, pooled, no_pooled = self.pipe.encode_prompt(
                    prompt, device=device, do_classifier_free_guidance=self.guided
                )
            texts.append(torch.cat([no_text, text] if self.guided else [text]))
            pools.append(torch.cat([no_pooled, pooled] if self.guided else [pooled]))
        self.pipe.text_encoder = self.pipe.text_encoder_2 = self.pipe.vae = None
        return torch.stack(texts, dim=1), torch.stack(pools, dim=1)
