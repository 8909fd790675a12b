"""The typed progress events that every run of the engine yields.

Facts (`durable = True`) happen once and are worth keeping: a target solved, an image saved.
`Progress` may come a hundred times a second; only the newest matters to anyone.
A resumed run yields the facts of finished units again with `reused=True`, so the events of one
run always tell its whole story.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    durable: ClassVar[bool] = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping with the class in snake case under `type`."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        return {"type": name, **dataclasses.asdict(self)}


@dataclass(frozen=True, slots=True)
class Phase(Event):
    """A phase of the run begins; `total` units of work are ahead, `done` of them already finished.
    `unit` is what `total` of them are called ("steps").

    `following` lists the phases still to come as (name, total) so that a viewer can say what is
    left after this one.
    """

    name: str
    total: int
    unit: str
    done: int = 0
    following: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """`done` of the current phase's `total` units are finished."""

    durable: ClassVar[bool] = False

    done: int
    total: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """The first `done` of `total` units of the current phase are on disk: a run that is killed now
    goes on from there."""

    done: int
    total: int
    reused: bool = False


@dataclass(frozen=True, slots=True)
class TargetsFound(Event):
    """What the run will prune: one mapping per target, in forward order.

    Keys: `name` (module path), `kind` ("attn1", "attn2", "ff"), `stage` ("down1", "mid", "up0"...),
    `block` (index of the transformer block in forward order), `units` (heads or neurons, dense).
    """

    targets: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class RoundBegun(Event):
    """Hessians of `count` targets are gathered next, together: those from index `first` on in the
    order of `TargetsFound`."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class TargetSolved(Event):
    """One target is solved at every level.

    `kept` and `error` map the sparsity (as text, "0.3") to the units kept and to the relative
    output error sqrt(tr dW H dW^T / tr W H W^T) on the calibration set; a method without
    calibration has no errors. `samples_per_dim` is N / d: tokens accumulated for each column of the
    Hessian.
    """

    name: str
    kind: str
    units: int
    kept: dict[str, int]
    error: dict[str, float]
    samples_per_dim: float
    seconds: float
    reused: bool = False


@dataclass(frozen=True, slots=True)
class HeldOutMeasured(Event):
    """Relative output errors of one variant's targets, by name, on prompts that were not calibrated
    on; `noise` is the relative squared error of the UNet's predictions there."""

    sparsity: float
    noise: float
    error: dict[str, float]


@dataclass(frozen=True, slots=True)
class VariantSaved(Event):
    """A pruned UNet is on disk, complete. `size_bytes` is the weights file; `sha256` is its hash.

    `mean_error` is the mean of its targets' relative errors on the calibration set,
    `held_out_error` the same on prompts that were not calibrated on, and `noise_error` the
    relative squared error of the UNet's predictions there; None where nothing was measured.
    """

    sparsity: float
    method: str
    path: str
    params: int
    dense_params: int
    size_bytes: int
    sha256: str
    mean_error: float | None
    held_out_error: float | None = None
    noise_error: float | None = None
    reused: bool = False


@dataclass(frozen=True, slots=True)
class MemoryMeasured(Event):
    """Device memory of the whole run in bytes of tensors: what was forecast, and the measured peak;
    None for an architecture without a forecast, and for a CPU."""

    forecast: int | None
    peak: int | None


@dataclass(frozen=True, slots=True)
class StepPreview(Event):
    """A small picture of an image being made; `path` is overwritten by the next preview."""

    durable: ClassVar[bool] = False

    path: str
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class ImageSaved(Event):
    """One image is on disk. `model` is "dense" or the variant's id; `seconds` is its share of the
    batch it was made in. `thumbnail` is a PNG of at most 96 pixels."""

    path: str
    thumbnail: str
    model: str
    prompt: str
    seed: int
    seconds: float
    reused: bool = False


@dataclass(frozen=True, slots=True)
class ModelMeasured(Event):
    """One row of a comparison: the dense model or one variant over all prompts and seeds.

    `latency` is seconds per image (median). `psnr` in dB and `ssim` are means against the dense
    images; `latent_distance` is the mean of ||x - x_dense||^2 / ||x_dense||^2 over final latents.
    They are None for the dense model itself. `attributes` is the share of captioned attributes that
    the judge finds in the pictures, None where no judge exists (every model but the demo). `clip`
    is the mean CLIP score, None where no CLIP weights are at hand. `pictures` were measured;
    `apart` are PSNR, SSIM and latent distance of each against its dense twin, by the seed as text.
    """

    model: str
    sparsity: float
    method: str
    params: int
    size_bytes: int
    latency: float
    psnr: float | None
    ssim: float | None
    latent_distance: float | None
    attributes: float | None
    clip: float | None = None
    pictures: int = 0
    apart: dict[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReseedMeasured(Event):
    """How far the dense model's own pictures of the same prompts are apart from one seed to
    another, over `pictures` pairs: the scale for what a variant changes. Fields as in
    `ModelMeasured`. `seconds` are what each took, after all variants: a machine whose pace has
    changed meanwhile shows here."""

    pictures: int
    psnr: float | None
    ssim: float | None
    latent_distance: float | None
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelTimed(Event):
    """One row of a benchmark: the dense model or one variant, over `repeats` pictures of `size`
    pixels a side in `steps` steps on `device`.

    `step_ms` is the median time of a denoising step (the UNet with guidance, and the scheduler),
    `image_s` that of a whole picture with text encoders and VAE; `_low` and `_high` are their
    quartiles. `flops` are those of one sample's forward pass of the UNet, `ideal` is dense over own
    FLOP: the speed-up that fewer operations alone can give, None for an architecture that nobody
    counts. `peak_bytes` is the most device memory that tensors took, None on a CPU. `again`: the
    dense model once more, after the variants, which tells whether the machine has kept its pace.
    """

    model: str
    sparsity: float
    method: str
    params: int
    size_bytes: int
    flops: int | None
    ideal: float | None
    size: int
    steps: int
    guidance: float
    device: str
    dtype: str
    repeats: int
    step_ms: float
    step_ms_low: float
    step_ms_high: float
    image_s: float
    image_s_low: float
    image_s_high: float
    peak_bytes: int | None
    again: bool = False
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A sentence the person should read: a fallback taken, a setting that looks unwise."""

    text: str
