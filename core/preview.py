"""A cheap look at an image that is still latents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from PIL import Image

from core.events import StepPreview
from core.pictures import png, write_atomically

INTERVAL = 2.0  # seconds between previews, at least
_PATCHES = 8  # a side, of one random colour each, to learn the palette from
_PATCH = 4  # latent pixels a side: the decoder sees more than a single one


class Previewer:
    """Writes `preview.png` into a folder now and then while an image is being made."""

    def __init__(self, pipe: StableDiffusionXLPipeline, folder: Path) -> None:
        self._vae = pipe.vae
        self._palette: torch.Tensor | None = None  # fitted for the first preview: most need none
        self._path = folder / "preview.png"
        self._last = time.monotonic()

    def at(
        self, step: int, steps: int, latents: torch.Tensor, facts: Mapping[str, Any]
    ) -> StepPreview | None:
        """Write a preview of `latents` [channels, height, width] if the last one is old enough,
        with the settings of the picture that it becomes (`core.pictures.parameters`).

        To be called between steps: the first time, it uses the pipeline's VAE.
        """
        if time.monotonic() - self._last < INTERVAL:
            return None
        if self._palette is None:
            self._palette = palette(self._vae)
        write_atomically(self._path, png(picture(latents, self._palette), facts))
        self._last = time.monotonic()
        return StepPreview(str(self._path), step, steps)


@torch.inference_mode()
def palette(vae: AutoencoderKL) -> torch.Tensor:
    """Fit the affine map from latents to RGB of this VAE: [channels + 1, 3], the last row a bias.

    Least squares on one small decoded picture of randomly coloured patches: no table of constants,
    so it holds for every VAE. Colours come out as 0..1.
    """
    channels = int(vae.config.latent_channels)
    noise = torch.randn(1, channels, _PATCHES, _PATCHES, generator=torch.Generator().manual_seed(0))
    latents = noise.repeat_interleave(_PATCH, 2).repeat_interleave(_PATCH, 3)
    dtype = vae.dtype
    if dtype == torch.float16 and vae.config.force_upcast:
        vae.to(dtype=torch.float32)  # SDXL's VAE overflows in float16
    # The decoder itself, past the hooks of a VAE that is on the device only in its turn.
    latents = (latents / vae.config.scaling_factor).to(vae.device, vae.dtype)
    decoded = vae.decoder(latents if vae.post_quant_conv is None else vae.post_quant_conv(latents))
    vae.to(dtype=dtype)
    colours = torch.nn.functional.adaptive_avg_pool2d(decoded.float().cpu(), _PATCHES)
    x = torch.cat([noise[0].flatten(1), torch.ones(1, _PATCHES**2)]).T  # [patches, channels + 1]
    y = colours[0].flatten(1).T / 2 + 0.5  # [patches, 3]
    solution: torch.Tensor = torch.linalg.lstsq(x, y).solution
    return solution


def picture(latents: torch.Tensor, colours: torch.Tensor) -> Image.Image:
    """Paint latents [channels, height, width] with a palette, one pixel for each latent pixel."""
    x = latents.detach().float().cpu()
    x = x / x.std().clamp(min=1)  # early latents carry the scheduler's large noise
    rgb = torch.einsum("chw,cr->hwr", x, colours[:-1]) + colours[-1]
    return Image.fromarray((rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
