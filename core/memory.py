"""How much device memory a run will take, before it runs, and what makes it fit a card.

Arithmetic on configurations, without torch, so that a command line or a form can ask on every
keystroke. What is counted are the tensors that live at the same time: weights, Hessians,
activations of the widest layer with the skip connections held around it, the solver's matrices.
What the CUDA context, the kernels' workspaces and fragmentation add is in `Forecast.needed` only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.architecture import SDXL, TEXT_TOKENS, Architecture, Part, TargetShape, derive, positions
from core.errors import BadInput
from core.manifest import count_params
from core.panels import panel_width, size_bytes

Offload = Literal["none", "model"]

GIB = 1 << 30
_HALF, _FLOAT = 2, 4  # bytes

# The context of a CUDA process outside its allocator, and the share by which an allocator's
# reserve exceeds what is allocated at its peak: estimates on the safe side, not measurements.
_CONTEXT = 600 << 20
_SLACK = 0.05

_MAX_BATCH = 16
# Latent pixels of a batch: four prompts at 512 x 512.
_BATCH_PIXELS = 4 * 64 * 64
_SPLITS = (1, 2, 4, 8, 16, 32, 64)
_OFFLOADS: tuple[Offload, ...] = ("none", "model")
_MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Model:
    """What of an SDXL pipeline decides memory.

    `encoder_params` are the two text encoders', `vae_factor` is image over latent pixels,
    `vae_channels` the widest feature map that the VAE decodes at full size, `size` the model's own
    side in pixels.
    """

    unet: Architecture
    encoder_params: tuple[int, int]
    vae_params: int
    vae_factor: int
    vae_channels: int
    size: int
    text_tokens: int = TEXT_TOKENS

    def latent_size(self, size: int) -> int:
        """Side of the latents for images of `size` pixels. Raises BadInput for a broken pixel."""
        if size < 1 or size % self.vae_factor:
            raise BadInput(
                f"the size {size} does not work with this model: "
                f"give a positive multiple of {self.vae_factor} pixels"
            )
        return size // self.vae_factor


@dataclass(frozen=True, slots=True)
class Moment:
    """Bytes of device memory in one phase of a run, by what they hold."""

    phase: str
    weights: int
    hessians: int = 0
    activations: int = 0
    workspace: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.hessians + self.activations + self.workspace


@dataclass(frozen=True, slots=True)
class Forecast:
    """The phases of a run in order. `peak` is the one that needs the most."""

    moments: tuple[Moment, ...]

    @property
    def peak(self) -> Moment:
        return max(self.moments, key=lambda moment: moment.total)

    @property
    def allocated(self) -> int:
        """Bytes of tensors at the peak; compare with `torch.cuda.max_memory_allocated()`."""
        return self.peak.total

    @property
    def hessians(self) -> int:
        """Bytes of Hessians held together: what a group of targets may take."""
        return max(moment.hessians for moment in self.moments)

    @property
    def needed(self) -> int:
        """Bytes that the card must have free: tensors, context and the allocator's slack."""
        return int(self.allocated * (1 + _SLACK)) + _CONTEXT


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run: Hessians held in `groups` groups one after the other, `batch` prompts or
    images a forward pass, components waiting in main memory with offload "model"."""

    groups: int
    batch: int
    offload: Offload
    forecast: Forecast


def sdxl() -> Model:
    """stable-diffusion-xl-base-1.0: what a hub id and a single file are taken for."""
    return Model(
        unet=derive(SDXL),
        encoder_params=(123_060_480, 694_659_840),
        vae_params=83_653_863,
        vae_factor=8,
        vae_channels=256,
        size=1024,
    )


def read_model(folder: Path) -> Model:
    """The model in a diffusers pipeline folder, from its configurations and weight files' headers.

    Raises BadInput naming the file that is missing, damaged or not SDXL's.
    """
    unet, vae = _config(folder / "unet"), _config(folder / "vae")
    widths = vae.get("block_out_channels")
    side = unet.get("sample_size")
    if not isinstance(widths, list) or not widths or not all(type(w) is int for w in widths):
        raise BadInput(f"{folder / 'vae'} does not say its channels: fetch the model again")
    if type(side) is not int or side < 1:
        raise BadInput(f"{folder / 'unet'} does not say its size: fetch the model again")
    factor = 2 ** (len(widths) - 1)
    tokens = _config(folder / "text_encoder").get("max_position_embeddings", TEXT_TOKENS)
    return Model(
        unet=derive(unet),
        encoder_params=(
            stored_params(folder / "text_encoder"),
            stored_params(folder / "text_encoder_2"),
        ),
        vae_params=stored_params(folder / "vae"),
        vae_factor=factor,
        # The last block's first layer still has the channels of the block before it.
        vae_channels=widths[min(1, len(widths) - 1)],
        size=side * factor,
        text_tokens=tokens if type(tokens) is int and tokens > 0 else TEXT_TOKENS,
    )


def of_pipeline(pipe: Any) -> Model:
    """The model of a loaded StableDiffusionXLPipeline, before any of its parts is freed."""

    def params(part: Any) -> int:
        return sum(parameter.numel() for parameter in part.parameters())

    widths = pipe.vae.config.block_out_channels
    return Model(
        unet=derive(pipe.unet.config),
        encoder_params=(params(pipe.text_encoder), params(pipe.text_encoder_2)),
        vae_params=params(pipe.vae),
        vae_factor=pipe.vae_scale_factor,
        vae_channels=widths[min(1, len(widths) - 1)],
        size=pipe.unet.config.sample_size * pipe.vae_scale_factor,
        text_tokens=pipe.tokenizer.model_max_length,
    )


def default_batch_size(latent_pixels: int) -> int:
    """Prompts a forward pass for latents of so many pixels. From the size alone, never from free
    memory: a resumed run must make up its batches as the first one did."""
    return max(1, min(_MAX_BATCH, _BATCH_PIXELS // latent_pixels))


def hessian_bytes(targets: Sequence[TargetShape], groups: int = 1) -> int:
    """Bytes of the Hessians held together: those of the largest of `groups` nearly equal runs of
    transformer blocks. `targets` in forward order."""
    blocks = 1 + max(target.block for target in targets)
    sizes = [0] * groups
    for target in targets:
        group = target.block * groups // blocks
        sizes[group] += size_bytes(target.columns) + 4 * target.columns
    return max(sizes)


def forecast_prune(
    model: Model,
    size: int,
    *,
    batch: int,
    groups: int = 1,
    sequential: bool = False,
    guided: bool = True,
    levels: int = 1,
    weight_bytes: int = _HALF,
) -> Forecast:
    """A pruning run of `levels` sparsities, calibrated at `size` pixels with `batch` prompts a
    forward pass (twice the samples when `guided`); `sequential` when earlier parts are pruned
    while later ones are calibrated. The encoders leave before the UNet comes, and
    the VAE never does. Raises BadInput for a size that does not fit."""
    targets = model.unet.targets
    unet = model.unet.params() * weight_bytes
    hessians = hessian_bytes(targets, groups)
    widest = max(target.columns for target in targets)
    samples = batch * (2 if guided else 1)
    activations = activation_bytes(model, size, samples=samples, weight_bytes=weight_bytes)
    consumers = sum(target.columns * target.width for target in targets) * weight_bytes
    return Forecast(
        (
            Moment("encode", weights=sum(model.encoder_params) * weight_bytes),
            Moment(
                "calibrate",
                weights=unet,
                hessians=hessians,
                activations=activations,
                # A panel's new sum beside its old one, and pruned consumers beside dense ones.
                workspace=4 * panel_width(widest) * widest + sequential * consumers,
            ),
            Moment(
                "solve",
                weights=unet,
                hessians=hessians,
                workspace=max(
                    solver_bytes(target.columns, target.width, levels) for target in targets
                ),
            ),
            # A variant's consumers lie beside the dense ones while it is measured.
            Moment("check", weights=unet, activations=activations, workspace=consumers),
        )
    )


def forecast_paint(
    model: Model,
    size: int,
    *,
    batch: int = 1,
    guided: bool = True,
    kept: Mapping[str, int] | None = None,
    offload: Offload = "none",
    weight_bytes: int = _HALF,
) -> Forecast:
    """Images of `size` pixels, `batch` at a time, by the dense UNet or one of `kept` units.

    The VAE decodes in float32, as SDXL's own must. Raises BadInput for a size that does not fit.
    """
    unet = model.unet.params(kept) * weight_bytes
    encoders, vae = sum(model.encoder_params) * weight_bytes, model.vae_params * weight_bytes
    samples = batch * (2 if guided else 1)
    beside = 0 if offload == "model" else encoders
    return Forecast(
        (
            _encoding(model, offload, unet, weight_bytes),
            Moment(
                "denoise",
                weights=unet + beside + (0 if offload == "model" else vae),
                activations=activation_bytes(
                    model, size, samples=samples, kept=kept, weight_bytes=weight_bytes
                ),
            ),
            Moment(
                "decode",
                weights=model.vae_params * _FLOAT + (0 if offload == "model" else unet + beside),
                # A normalisation's input, its output, and the activation's.
                activations=3 * model.vae_channels * batch * size * size * _FLOAT,
            ),
        )
    )


def prune_choices(
    model: Model,
    size: int,
    *,
    batch: int | None = None,
    packages: int = 1,
    guided: bool = True,
    levels: int = 1,
) -> Iterator[Choice]:
    """Ways to run a pruning, best first: each further group costs about half a pass over all
    prompts. Groups are made of the `packages` that the
    method asks for. The batch is the one given or the default: its activations are smaller than
    the solver's matrices. Raises BadInput for a size that does not fit the model."""
    batch = batch or default_batch_size(model.latent_size(size) ** 2)
    for groups in (packages * split for split in _SPLITS):
        forecast = forecast_prune(
            model,
            size,
            batch=batch,
            groups=groups,
            sequential=packages > 1,
            guided=guided,
            levels=levels,
        )
        yield Choice(groups, batch, "model", forecast)


def paint_choices(
    model: Model,
    size: int,
    *,
    batch: int = 1,
    guided: bool = True,
    kept: Mapping[str, int] | None = None,
) -> Iterator[Choice]:
    """Ways to paint, best first: smaller batches before components that travel for every image.

    Raises BadInput for a size that does not fit."""
    for offload in _OFFLOADS:
        for batch_size in _halvings(batch):
            forecast = forecast_paint(
                model, size, batch=batch_size, guided=guided, kept=kept, offload=offload
            )
            yield Choice(1, batch_size, offload, forecast)


def fit(choices: Iterable[Choice], budget: float) -> Choice:
    """The first choice that needs at most `budget` bytes. Raises BadInput when none does."""
    least: Choice | None = None
    for choice in choices:
        if choice.forecast.needed <= budget:
            return choice
        if least is None or choice.forecast.needed < least.forecast.needed:
            least = choice
    assert least is not None
    raise BadInput(
        f"this needs at least {least.forecast.needed / GIB:.1f} GiB of device memory (in phase "
        f"{least.forecast.peak.phase}), more than the {budget / GIB:g} GiB given: "
        "choose a smaller size or a smaller model"
    )


def activation_bytes(
    model: Model,
    size: int,
    *,
    samples: int,
    kept: Mapping[str, int] | None = None,
    weight_bytes: int = _HALF,
) -> int:
    """Most bytes of activations that live at once in a forward pass of the UNet over `samples`.

    Attention is taken to be fused: it never holds a matrix of tokens by tokens.
    """
    latent = model.latent_size(size)
    text = model.text_tokens * model.unet.targets[0].width if model.unet.targets else 0
    return samples * weight_bytes * (_live_elements(model.unet, latent, kept or {}) + text)


def solver_bytes(columns: int, rows: int, levels: int) -> int:
    """Workspace of `core.solver.solve` for W [rows, columns] in float32: H, its inverse and the
    copies on the way, W, and what is kept of every level."""
    return 4 * (5 * columns * columns + (1 + levels) * rows * columns)


def _encoding(model: Model, offload: Offload, unet: int, weight_bytes: int) -> Moment:
    """Encoding prompts: their activations are too small to count."""
    encoders = [params * weight_bytes for params in model.encoder_params]
    if offload == "model":
        return Moment("encode", weights=max(encoders))
    return Moment("encode", weights=unet + sum(encoders) + model.vae_params * weight_bytes)


def _live_elements(unet: Architecture, latent: int, kept: Mapping[str, int]) -> int:
    """Most elements alive at once for one sample: what a layer works on, the skip connections and
    its stage's input around it."""
    skips: list[int] = []  # elements of each, as the down stages leave them
    peak = around = held = 0
    stage = ""
    for part in unet.parts:
        if part.kind == "embedding":
            continue
        here = positions(latent, part.level)
        if part.stage != stage:
            # An up stage keeps its skips to its end, its input until the next one's is there.
            del skips[len(skips) - held :]
            stage, held = part.stage, 0
            around = here * part.inputs - skips[-1] if stage.startswith("up") else 0
        if part.kind == "resnet" and stage.startswith("up"):
            held += 1
        peak = max(peak, sum(skips) + around + here * _layer_elements(part, kept))
        if _leaves_skip(part):
            if part.kind == "transformer":
                skips.pop()  # it replaces the output of the resnet before it
            skips.append(here * part.outputs)
    return peak


def _leaves_skip(part: Part) -> bool:
    return part.stage == "conv_in" or part.stage.startswith("down")


def _layer_elements(part: Part, kept: Mapping[str, int]) -> int:
    """Elements for each position at the layer's own peak."""
    if part.kind == "resnet":  # input, and the norm's and the activation's output of either half
        return part.inputs + 2 * max(part.inputs, part.outputs)
    if part.kind == "transformer":
        inner = [kept.get(t.name, t.units) for t in part.targets if t.kind == "ff"]
        # GEGLU: both halves, the gate's activation and their product, beside residuals.
        return max(7 * part.outputs, 5 * part.outputs + 4 * max(inner, default=0))
    return part.inputs + part.outputs


def _halvings(number: int) -> list[int]:
    """12 -> [12, 6, 3, 1]."""
    found = [number]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        if file.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("too large")
        config = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError):
        raise BadInput(f"{file} cannot be read as a configuration: fetch the model again") from None
    return config


def stored_params(folder: Path) -> int:
    """Parameters in a component's safetensors files, of one number format if there are several.

    Raises BadInput where there is none, or one is damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    plain = [file for file in files if ".fp16" not in file.name]
    if not files:
        raise BadInput(f"{folder} has no .safetensors file: fetch the model again")
    return sum(count_params(file) for file in plain or files)
