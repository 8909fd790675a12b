"""Variants for other programs: a verified copy, the published pickled form, or dense shapes.

Each export carries a model card with the manifest's figures and the lines that load it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

from core import manifest as manifests
from core.checkpoint import load_unet
from core.demo import MODEL_DIR
from core.errors import BadInput, Cancelled
from core.manifest import UNKNOWN
from core.presets import defaults
from core.surgery import scatter
from core.targets import find_targets

Format = Literal["diffusers", "pth", "dense"]
PICKLE = "unet_pruned.pth"
CARD = "README.md"
PICTURES = "pictures"
_SIDE = 384  # pixels: a card is looked at, not measured
_SDXL_BASE = "/stable-diffusion-xl-base-1.0"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE = re.compile(r"---\n(?:(?!---).*\n)*?license: *[\"']?([\w.+-]+)")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures from the same noise, by the dense model and by the variant."""

    prompt: str
    seed: int
    dense: Path
    pruned: Path


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found of the variant, for its card: pictures, figures by their names, and
    under which conditions."""

    pairs: tuple[Pair, ...] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    conditions: str = ""


def export(
    variant: Path,
    form: Format,
    out: Path,
    base: str | None = None,
    compared: Compared | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Write `variant` in the form `form` as the new folder `out`, whole or not at all, and return
    its manifest.

    `diffusers` is a copy, `pth` the whole pickled module in unet_pruned.pth, `dense` a stock UNet
    whose removed units are zeros: the same output, no gain. `base` names the model that the card
    has people load it into; None: what the variant was cut from. The card tells what was
    `compared` and shows those pictures that can be read. Raises BadInput when the variant is
    damaged, or `out` exists or cannot be written; Cancelled, nothing written, at the first step
    after `cancelled()`.
    """

    def go_on() -> None:
        if cancelled():
            raise Cancelled("The export was cancelled; nothing of it was kept")

    go_on()
    manifest = manifests.check_files(variant)
    if out.exists():
        raise BadInput(f"{out} exists already: choose another folder or delete it")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        go_on()
        _write(variant, manifest, form, partial, base)
        go_on()
        if compared is not None:
            _show(compared, partial)
        for file in partial.rglob("*"):
            go_on()
            manifests.sync(file)
        manifests.sync(partial)
        go_on()
        os.rename(partial, out)
        manifests.sync(out.parent)
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):  # tells of the disk, not of the request
            raise
        raise BadInput(
            f"{out} cannot be written ({err.strerror or err}): export to another folder"
        ) from err
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _write(
    variant: Path, manifest: Mapping[str, Any], form: Format, partial: Path, base: str | None
) -> None:
    if form == "diffusers":
        shutil.copytree(manifests.unet_folder(variant), partial / "unet")
        manifests.check_files(partial)
    elif form == "pth":
        torch.save(load_unet(variant), partial / PICKLE)
    else:
        _write_dense(variant, manifest, partial / "unet")
    (partial / CARD).write_text(_card(manifest, form, base), encoding="utf-8")


def _show(compared: Compared, folder: Path) -> None:
    """Add the comparison to the card, dense and pruned pictures side by side in one file each."""
    lines: list[str] = []
    for pair in compared.pairs:
        try:
            with Image.open(pair.dense) as dense, Image.open(pair.pruned) as pruned:
                both = [dense.convert("RGB"), pruned.convert("RGB")]
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        for image in both:
            image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        wide, high = max(image.width for image in both), max(image.height for image in both)
        sheet = Image.new("RGB", (2 * wide, high))
        for column, image in enumerate(both):
            sheet.paste(image, (column * wide, 0))
        name = f"{PICTURES}/{len(lines) + 1}.jpg"
        (folder / PICTURES).mkdir(exist_ok=True)
        sheet.save(folder / name, quality=90)
        prompt = _plain(pair.prompt)
        lines.append(f"![{prompt}]({name})\n\n{prompt}, seed {pair.seed}\n")
    with (folder / CARD).open("a", encoding="utf-8") as card:
        if compared.figures:
            card.write("\n## Against the dense model, from the same noise\n\n")
            card.write(_table(compared.figures) + "\n")
        if compared.conditions:
            card.write(f"\nMeasured with {_plain(compared.conditions)}.\n")
        if lines:
            card.write("\n## Dense (left) and pruned (right)\n\n" + "\n".join(lines))


def _plain(text: str) -> str:
    """Words of others on one line, which Markdown takes for nothing but words."""
    return re.sub(r"([\\`*_\[\]<>#|!&])", r"\\\1", " ".join(text.split())[:300])


def _table(rows: Mapping[str, object]) -> str:
    lines = (f"| {name} | {value} |" for name, value in rows.items())
    return "\n".join(["| | |", "|---|---|", *lines])


def _write_dense(variant: Path, manifest: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir()
    config = manifests.unet_folder(variant) / manifests.CONFIG
    shutil.copyfile(config, folder / manifests.CONFIG)
    with torch.device("meta"):
        dense = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(config))
    keep = {
        entry["name"]: torch.tensor(manifests.decode_kept(entry["kept"], entry["units"]))
        for entry in manifest["targets"]
    }
    state = scatter(load_unet(variant).state_dict(), find_targets(dense), keep)
    plain = {name: value.contiguous() for name, value in state.items()}
    save_file(plain, folder / manifests.WEIGHTS, metadata={"format": "pt"})


def _card(manifest: Mapping[str, Any], form: Format, base: str | None) -> str:
    """The model card: figures, licence, and a Python snippet to run beside it where the base is
    known."""
    params, dense = manifest["params"], manifest["dense_params"]
    base = base or str(manifest["base"])
    rows: dict[str, object] = {
        "base": base,
        "method": manifest["method"],
        "sparsity of heads and neurons": f"{manifest['sparsity']:.1%}",
        "parameters": f"{params:,} of {dense:,} ({1 - params / dense:.1%} fewer)",
    }
    if manifest.get("mean_error") is not None:
        rows["mean relative error, calibration"] = f"{manifest['mean_error']:.4g}"
    held_out = manifest.get("held_out")
    if held_out:
        rows["mean relative error, held-out prompts"] = f"{held_out['mean_error']:.4g}"
        rows["noise prediction error, held-out prompts"] = f"{held_out['noise_error']:.4g}"
    for name in ("damping", "packages", "allocate", "budget", "dtype"):
        if manifest.get(name) is not None:
            rows[name] = manifest[name]
    notes = {
        "diffusers": "Stock `from_pretrained` cannot read the smaller shapes; obstui loads them.",
        "pth": "A pickle: loading it runs code, so load it only from a source you trust.",
        "dense": "Removed units are zeros: loads everywhere, no smaller and no faster.",
    }
    known = base != UNKNOWN
    use = (
        f"Run this in the folder of this card:\n\n```python\n{_snippet(base, form)}```\n"
        if known
        else "Nobody has said which model it was cut from: put it into the pipeline of that one.\n"
    )
    return (
        f"{_header(manifest, base)}# {base if known else 'An SDXL UNet'}, structurally pruned by "
        f"{manifest['sparsity']:.0%}\n\n"
        f"{_table(rows)}\n\n"
        f"The licence of the base model applies to these weights{_licence(manifest, base)}.\n\n"
        f"{notes[form]} {use}"
    )


def _header(manifest: Mapping[str, Any], base: str) -> str:
    """What model hubs read of a card; a base that is on no hub cannot be named there."""
    licence = _known_licence(manifest, base)
    hub = _HUB_ID.fullmatch(base) and not Path(base).exists()
    lines = (
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        f"base_model: {json.dumps(base)}" if hub else "",
        f"license: {json.dumps(licence)}" if licence else "",
        "tags: [stable-diffusion-xl, pruning, obs-diff]",
    )
    return "\n".join(["---", *filter(None, lines), "---", "", ""])


def _licence(manifest: Mapping[str, Any], base: str) -> str:
    """The end of the card's sentence."""
    found = _known_licence(manifest, base)
    return f": {found}" if found else "; SDXL 1.0's is openrail++"


def _known_licence(manifest: Mapping[str, Any], base: str) -> str | None:
    """What the base's own card says, where the base is a folder."""
    for name in (str(manifest["base"]), base):
        folder = MODEL_DIR if name == "demo" else Path(name)
        try:
            found = _LICENCE.match((folder / CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if found:
            return found[1]
    return "openrail++" if base.endswith(_SDXL_BASE) else None


def _snippet(base: str, form: Format) -> str:
    """Lines that load the variant and paint one picture with it."""
    usual = defaults(base)
    prompt = "a large red circle in the center of a purple background"
    if base != "demo":
        prompt = "a lighthouse at dawn, photograph"
    paint = (
        f"image = pipe({prompt!r}, num_inference_steps={usual.steps}, "
        f"guidance_scale={usual.guidance:g}).images[0]\nimage.save('picture.png')\n"
    )
    if form == "diffusers":
        return (
            "from pathlib import Path\n\nfrom core.loading import load_variant_pipeline\n\n"
            f'pipe = load_variant_pipeline({base!r}, Path("."))\n{paint}'
        )
    if base == "demo" or base.startswith("modelscope:") or base.endswith(".safetensors"):
        head = ["from core.loading import load_pipeline"]
        load = f"pipe = load_pipeline({base!r})"
    else:
        head = ["from diffusers import StableDiffusionXLPipeline"]
        load = f"pipe = StableDiffusionXLPipeline.from_pretrained({base!r})"
    if form == "pth":
        head = ["import torch", *head]
        unet = f'torch.load("{PICKLE}", weights_only=False)'
    else:
        head = ["from diffusers import UNet2DConditionModel", *head]
        unet = 'UNet2DConditionModel.from_pretrained(".", subfolder="unet")'
    move = "pipe.unet = pipe.unet.to(pipe.device, pipe.dtype)"
    return "\n".join([*head, "", load, f"pipe.unet = {unet}", move, paint])
