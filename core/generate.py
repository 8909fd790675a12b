"""Text to image, resumable image by image.

Every image has a generator of its own, seeded on the CPU, so it depends on neither the batch it is
made in nor the number of images asked for. Batches are cut from the whole list of images, never
from what is left of it: a run that was interrupted ends with the same bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from greenlet import getcurrent, greenlet
from PIL import Image

from core import pictures, schedulers
from core.errors import BadInput, Cancelled, EngineError
from core.events import Event, ImageSaved, Phase, Progress
from core.loading import Pipelines, default_size, variant_key
from core.manifest import fingerprint
from core.pictures import Picture, Shot
from core.presets import defaults
from core.preview import Previewer

_OnStep = Callable[[Any, int, Any, dict[str, torch.Tensor]], dict[str, torch.Tensor]]
_WARM_UP_STEPS = 2


@dataclass(frozen=True)
class GenerateSettings:
    """One generation: every prompt with the seeds `seed` to `seed + count - 1`, or with `seeds`.

    `variant` is the folder of a pruned UNet, `variant_id` the name to report it by. `scheduler` is
    a name of `core.schedulers.NAMES`; it, `steps`, `guidance` and `size` (pixels, square) fall back
    to what the model does best when None.
    """

    model: str
    prompts: tuple[str, ...]
    variant: str | None = None
    variant_id: str | None = None
    negative: str = ""
    seed: int = 0
    count: int = 1
    steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    batch_size: int = 1
    seeds: tuple[int, ...] = ()
    scheduler: str | None = None


@dataclass(frozen=True)
class Look:
    """All that decides an image apart from prompt and seed, with every default filled in.

    `variant` is empty for the dense model; `variant_key` is the hash of the variant's manifest.
    """

    model: str
    variant: str
    variant_key: str
    negative: str
    steps: int
    guidance: float
    size: int
    sampler: str
    device: str
    dtype: str

    def facts(self, shot: Shot) -> dict[str, Any]:
        """Return the settings of one image, ready for JSON."""
        return {"prompt": shot.prompt, "seed": shot.seed, **asdict(self)}

    def key(self, shot: Shot) -> str:
        """Return a hash that two images share only if they should be the same."""
        return fingerprint(self.facts(shot))


def run(
    settings: GenerateSettings,
    out: Path,
    cancelled: Callable[[], bool],
    pipes: Pipelines | None = None,
) -> Iterator[Event]:
    """Make the images of `settings` in the folder `out`; images already there are reused.

    Phases: "load", then "generate" in denoising steps of single images. Raises `BadInput` for
    settings or a model that cannot work, `Cancelled` at the first step after `cancelled()`.
    """
    if not settings.prompts:
        raise BadInput("There is nothing to generate: give at least one prompt")
    steps = defaults(settings.model).steps if settings.steps is None else settings.steps
    check_counts(count=settings.count, batch_size=settings.batch_size, steps=steps)
    seeds = settings.seeds or range(settings.seed, settings.seed + settings.count)
    shots = [
        Shot(index, prompt, seed) for index, prompt in enumerate(settings.prompts) for seed in seeds
    ]
    yield Phase("load", 1, "model", following=(("generate", steps * len(shots)),))
    if cancelled():
        raise Cancelled("The generation was cancelled before its model was loaded")
    pipe = (pipes or Pipelines()).get(
        settings.model,
        settings.variant,
        size=settings.size or defaults(settings.model).size,
        batch_size=settings.batch_size,
    )
    yield Progress(1, 1, settings.model)
    with schedulers.using(pipe, settings.scheduler) as sampler:
        look = resolve(
            pipe,
            settings.model,
            variant=settings.variant,
            variant_id=settings.variant_id,
            negative=settings.negative,
            steps=settings.steps,
            guidance=settings.guidance,
            size=settings.size,
        )
        look = replace(look, sampler=sampler)
        yield from paint(pipe, look, shots, out, cancelled, batch_size=settings.batch_size)


def check_counts(**counts: int) -> None:
    """Raise `BadInput` for the first named number that is not at least 1."""
    for name, value in counts.items():
        if value < 1:
            raise BadInput(f"The setting {name} is {value}: it must be at least 1")


def resolve(
    pipe: StableDiffusionXLPipeline,
    model: str,
    *,
    variant: str | None,
    variant_id: str | None,
    negative: str,
    steps: int | None,
    guidance: float | None,
    size: int | None,
) -> Look:
    """Fill in what was left open, for `pipe` as it is loaded.

    Raises `BadInput` for a size that the VAE cannot make.
    """
    preset = defaults(model)
    size = size or preset.size or default_size(pipe)
    if size < 1 or size % pipe.vae_scale_factor:
        raise BadInput(
            f"The size {size} does not work with {model}: "
            f"give a positive multiple of {pipe.vae_scale_factor} pixels"
        )
    return Look(
        model=model,
        variant=(variant_id or Path(variant).name) if variant else "",
        variant_key=variant_key(variant) if variant else "",
        negative=negative,
        steps=preset.steps if steps is None else steps,
        guidance=preset.guidance if guidance is None else guidance,
        size=size,
        sampler=type(pipe.scheduler).__name__.removesuffix("Scheduler"),
        device=pipe._execution_device.type,  # not where a part rests between its turns
        dtype=str(pipe.unet.dtype).removeprefix("torch."),
    )


def paint(
    pipe: StableDiffusionXLPipeline,
    look: Look,
    shots: Sequence[Shot],
    out: Path,
    cancelled: Callable[[], bool],
    *,
    batch_size: int = 1,
    phase: str = "generate",
    following: tuple[tuple[str, int], ...] = (),
    warm_up: bool = False,
) -> Iterator[Event]:
    """Make the pictures of `shots` in `out`, reusing the finished ones.

    The pictures are one phase, named `phase`, with `following` after it. With `warm_up` two steps
    run first, uncounted, so that `seconds` compares between models. Raises `Cancelled` between
    steps and `EngineError` when the model yields no finite numbers.
    """
    out.mkdir(parents=True, exist_ok=True)
    name = look.variant or "dense"
    found = {shot: pictures.find(out, shot, look.key(shot)) for shot in shots}
    done = look.steps * sum(picture is not None for picture in found.values())
    total = look.steps * len(shots)
    yield Phase(phase, total, "steps", done=done, following=following)
    for shot, picture in found.items():
        if picture:
            yield _saved(picture, shot, name, reused=True)

    batches = [shots[i : i + batch_size] for i in range(0, len(shots), batch_size)]
    batches = [batch for batch in batches if any(found[shot] is None for shot in batch)]
    if batches and warm_up:
        _warm_up(pipe, look, batches[0], cancelled)
    previewer = Previewer(pipe, out)
    for batch in batches:
        missing = [shot for shot in batch if found[shot] is None]
        count = _Counter(done, total, len(missing), shots.index(missing[0]) + 1, len(shots))
        painted = yield from _paint_batch(pipe, look, batch, cancelled, previewer, count)
        done += look.steps * len(missing)
        for shot, image, latents in zip(batch, painted.images, painted.latents, strict=True):
            if found[shot] is None:
                made = pictures.store(
                    out,
                    shot,
                    look.key(shot),
                    image=image,
                    latents=latents,
                    seconds=painted.seconds / len(batch),
                    facts=look.facts(shot),
                )
                yield _saved(made, shot, name, reused=False)
    yield Progress(total, total)


@dataclass(frozen=True)
class _Counter:
    """Turns the steps of one batch into the progress of the whole phase."""

    done: int  # steps of single images, before this batch
    total: int
    images: int  # that this batch adds
    first: int  # their place among all images, from 1
    of: int

    def at(self, step: int, steps: int) -> Progress:
        """Return the progress after `step` of `steps`, taken by all the batch's images at once."""
        last = self.first + self.images - 1
        which = f"image {self.first}" if self.images == 1 else f"images {self.first} to {last}"
        detail = f"{which} of {self.of}, step {step}/{steps}"
        return Progress(self.done + step * self.images, self.total, detail)


@dataclass(frozen=True)
class _Painted:
    images: list[Image.Image]
    latents: torch.Tensor  # [images, channels, height, width]
    seconds: float


def _paint_batch(
    pipe: StableDiffusionXLPipeline,
    look: Look,
    shots: Sequence[Shot],
    cancelled: Callable[[], bool],
    previewer: Previewer,
    count: _Counter,
) -> Generator[Event, None, _Painted]:
    """Run one batch, yielding an event after each step.

    The pipeline reports through a callback, where a generator cannot yield; a greenlet can switch
    from there. A thread could, too, but on a CPU it would compute with an OpenMP team of its own
    beside the main thread's: more teams than cores put every barrier to sleep, three times slower.
    """
    final: list[torch.Tensor] = []

    def on_step(
        _pipe: Any, index: int, _time: Any, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        if cancelled():
            raise Cancelled("The generation was cancelled; every finished image is kept")
        listener = job.parent
        assert listener is not None
        # Schedulers of second order call twice for a step.
        step = look.steps * (index + 1) // pipe.num_timesteps
        listener.switch(count.at(step, look.steps))
        if preview := previewer.at(step, look.steps, tensors["latents"][0], look.facts(shots[0])):
            listener.switch(preview)
        final[:] = [tensors["latents"]]
        return tensors

    job = greenlet(partial(_call, pipe, look, shots, look.steps, on_step))
    start = time.perf_counter()
    try:
        said = job.switch()
        while not job.dead:
            yield said
            job.parent = getcurrent()
            said = job.switch()
    finally:
        job.throw()  # unwinds the call if whoever listens has closed this generator
    images: list[Image.Image] = said
    seconds = time.perf_counter() - start
    if not torch.isfinite(final[0]).all():
        raise EngineError(
            f"The model {look.model} made values that are not numbers in {look.dtype}: "
            "its weights are damaged or need another precision"
        )
    return _Painted(images, final[0], seconds)


def _call(
    pipe: StableDiffusionXLPipeline,
    look: Look,
    shots: Sequence[Shot],
    steps: int,
    on_step: _OnStep,
) -> list[Image.Image]:
    """Call the pipeline for one batch; return its images in order."""
    try:
        result = pipe(
            prompt=[shot.prompt for shot in shots],
            negative_prompt=[look.negative] * len(shots) if look.negative else None,
            height=look.size,
            width=look.size,
            num_inference_steps=steps,
            guidance_scale=look.guidance,
            generator=[torch.Generator("cpu").manual_seed(shot.seed) for shot in shots],
            callback_on_step_end=on_step,
        )
    finally:
        pipe.maybe_free_model_hooks()  # a cancelled call leaves offloaded models where they are
    return list(result.images)


def _warm_up(
    pipe: StableDiffusionXLPipeline,
    look: Look,
    shots: Sequence[Shot],
    cancelled: Callable[[], bool],
) -> None:
    def on_step(
        _pipe: Any, _index: int, _time: Any, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        if cancelled():
            raise Cancelled("The generation was cancelled; every finished image is kept")
        return tensors

    _call(pipe, look, shots, _WARM_UP_STEPS, on_step)


def _saved(picture: Picture, shot: Shot, model: str, *, reused: bool) -> ImageSaved:
    return ImageSaved(
        path=str(picture.path),
        thumbnail=str(picture.thumbnail),
        model=model,
        prompt=shot.prompt,
        seed=shot.seed,
        seconds=picture.seconds,
        reused=reused,
    )
