"""Measure the finished demo model with the judge, and write its model card."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .judge import judge
from .scenes import SIZE, held_out_captions

CAPTIONS, STEPS = 200, 20
SCALES = (1.0, 2.0, 3.0, 5.0)  # guidance scales tried; 1 is none
_BATCH = 50


@dataclass(frozen=True)
class Figure:
    """What the judge says of one guidance scale: shares from 0 to 1.

    `total` is the mean over captions of the share of attributes satisfied, `exact` the share of
    captions satisfied in every attribute, `attributes` the share by attribute ("color" stands for
    the first and the second thing's together); `seconds` the time for one image.
    """

    guidance: float
    total: float
    exact: float
    attributes: dict[str, float]
    seconds: float


def measure(pipe: Any, captions: Sequence[str], guidance: float, seed: int = 0) -> Figure:
    """Judge one picture per caption by the StableDiffusionXLPipeline `pipe`, STEPS steps each."""
    generator = torch.Generator().manual_seed(seed)
    verdicts, started = [], time.monotonic()
    for i in range(0, len(captions), _BATCH):
        part = list(captions[i : i + _BATCH])
        images = pipe(
            part, height=SIZE, width=SIZE, num_inference_steps=STEPS,
            guidance_scale=guidance, generator=generator,
        ).images  # fmt: skip
        verdicts += [judge(*pair) for pair in zip(images, part, strict=True)]
    seconds = (time.monotonic() - started) / len(captions)
    by_name: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        for name, good in verdict.items():
            by_name[name.rpartition(".")[2]].append(good)
    return Figure(
        guidance=guidance,
        total=sum(sum(v.values()) / len(v) for v in verdicts) / len(verdicts),
        exact=sum(all(v.values()) for v in verdicts) / len(verdicts),
        attributes={name: sum(goods) / len(goods) for name, goods in sorted(by_name.items())},
        seconds=seconds,
    )


def write_card(folder: Path, pipe: Any, how: str, scales: Sequence[float] = SCALES) -> Figure:
    """Measure `pipe` on CAPTIONS held-out captions, write `folder`/README.md, return the best.

    `how` is a paragraph on the training.
    """
    captions = held_out_captions(CAPTIONS)
    figures = [measure(pipe, captions, scale) for scale in scales]
    best = max(figures, key=lambda figure: figure.total)
    sizes = "\n".join(
        f"| {name} | {sum(p.numel() for p in module.parameters()):,} |"
        for name, module in pipe.components.items()
        if isinstance(module, torch.nn.Module)
    )
    rows = "\n".join(f"| {f.guidance:g} | {f.total:.1%} | {f.exact:.1%} |" for f in figures)
    parts = "\n".join(f"| {name} | {share:.1%} |" for name, share in best.attributes.items())
    text = _CARD.format(sizes=sizes, how=how, best=best, rows=rows, parts=parts, n=CAPTIONS,
                        steps=STEPS)  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")
    return best


_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---

# The obstui demo model

A `StableDiffusionXLPipeline` with SDXL's exact block structure, some 300 times smaller. It draws
64x64 scenes of one or two flat shapes, so that everything obstui does to SDXL can be tried in
seconds, on a CPU, without a download, and every picture can be checked by a program.

    from diffusers import StableDiffusionXLPipeline
    pipe = StableDiffusionXLPipeline.from_pretrained("core/demo/model")
    pipe("a small yellow star at the top of a purple background",
         num_inference_steps={steps}, guidance_scale={best.guidance:g}).images[0]

It understands only the captions that `core/demo/scenes.py` can write: ten colours, six shapes, two
sizes, nine places, and two things to the left of, to the right of, above or below each other.

| part | parameters |
|---|---|
{sizes}

## Training

All data is drawn by our own code; no picture and no word comes from anywhere else.
{how}
`python -m core.demo.train` trains such a model again.

## Quality

{n} held-out captions (none was trained on), {steps} steps, one picture each, read by
`core/demo/judge.py`. **At guidance {best.guidance:g}, {best.total:.1%} of the attributes are as
captioned; {best.exact:.1%} of the pictures are right in every attribute.**

| guidance | attributes right | pictures wholly right |
|---|---|---|
{rows}

| attribute, at guidance {best.guidance:g} | right |
|---|---|
{parts}

## Limits

Nothing but these scenes. Words outside the captions' vocabulary are ignored at best. Shapes are its
weakest attribute: arms of small stars and crosses are a few pixels wide, and come out rounded, as
the autoencoder already draws them. Orange, pink and yellow things are sometimes mistaken.

## Licence

Apache-2.0.
"""
