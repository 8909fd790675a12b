"""Pruned UNets and working state on disk: safetensors, written whole or not at all.

A variant folder:

    unet/config.json                            stock, of the dense UNet
    unet/diffusion_pytorch_model.safetensors    the dense names, smaller shapes
    unet/compensation.safetensors               M of the attentions, for adapters (`core.lora`)
    unet/pruning.json                           see `core.manifest`
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from core import manifest as manifests
from core.errors import BadInput
from core.manifest import check_files, read_manifest
from core.surgery import shrink, validate
from core.targets import find_targets

__all__ = [
    "check_files",
    "digest",
    "load_unet",
    "read_manifest",
    "read_tensors",
    "save_variant",
    "write_tensors",
]

_FACTS = "obstui"


def save_variant(
    folder: Path,
    state: Mapping[str, Tensor],
    dense: UNet2DConditionModel,
    facts: Mapping[str, Any],
    kept: Mapping[str, Tensor],
    dtype: torch.dtype,
    compensation: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Save the `state` of a cut UNet (see `surgery.cut`) as the variant `folder`, stored in
    `dtype`, and return its manifest; `dense` gives the configuration.

    `facts` become the manifest's fields; `facts["targets"]` lists a mapping for every target with
    its `name` and dense `units`, to which the kept units `kept[name]` are added. The folder
    appears under its name only when all of it is on the disk; one that is there is replaced.
    `compensation` holds M [removed, kept columns] by target, for carrying adapters over.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    home = partial / "unet"
    home.mkdir(parents=True)
    state = {name: value.to(dtype).contiguous() for name, value in state.items()}
    save_file(state, home / manifests.WEIGHTS, metadata={"format": "pt"})
    manifests.sync(home / manifests.WEIGHTS)
    manifests.write_json(home / manifests.CONFIG, _stock_config(dense))
    files = [manifests.WEIGHTS, manifests.CONFIG]
    if compensation:
        plain = {name: M.contiguous() for name, M in compensation.items()}
        save_file(plain, home / manifests.COMPENSATION)
        manifests.sync(home / manifests.COMPENSATION)
        files.append(manifests.COMPENSATION)
    targets = [
        {**target, "kept": manifests.encode_kept(kept[target["name"]].tolist(), target["units"])}
        for target in facts["targets"]
    ]
    manifest = {
        **facts,
        "format": manifests.FORMAT,
        "version": manifests.VERSION,
        "params": sum(value.numel() for value in state.values()),
        "targets": targets,
        "files": {name: manifests.sha256_file(home / name) for name in files},
    }
    manifests.write_json(home / manifests.MANIFEST, manifest)
    manifests.sync(home)
    manifests.sync(partial)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    manifests.sync(folder.parent)
    return manifest


def load_unet(
    path: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> UNet2DConditionModel:
    """The pruned UNet of a variant folder (or its unet folder), in eval mode, bit for bit.

    `dtype` None keeps the saved one. Peak memory is about the size of the file. Raises BadInput
    for a damaged or foreign file, naming the tensor and both shapes where shapes are at fault.
    """
    folder = manifests.unet_folder(path)
    manifest = check_files(folder)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(json.loads((folder / manifests.CONFIG).read_text()))
    dense = {target.name: target for target in find_targets(unet)}
    if sorted(dense) != sorted(entry["name"] for entry in manifest["targets"]):
        raise BadInput(
            f"{folder / manifests.MANIFEST} lists other targets than the UNet in "
            f"{manifests.CONFIG} has: make the variant again"
        )
    for entry in manifest["targets"]:
        target = dense[entry["name"]]
        shrink(unet, target, torch.tensor(manifests.decode_kept(entry["kept"], target.units)))
    wanted = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    state = _read_state(folder / manifests.WEIGHTS, wanted, dtype, device)
    unet.load_state_dict(state, strict=True, assign=True)
    validate(unet)
    return unet.eval().requires_grad_(False)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write working state: tensors and JSON facts in one file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One metadata entry only: the order of several is not fixed.
    text = json.dumps({**facts, "digest": digest(plain)}, sort_keys=True)
    partial = path.with_name(f"{path.name}.partial")
    save_file(plain, partial, metadata={_FACTS: text})
    manifests.sync(partial)
    os.replace(partial, path)
    manifests.sync(path.parent)


def read_tensors(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_tensors` wrote with `facts["key"] == key`; None if absent, other or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
            if facts.get("key") != key:
                return None
            # Cloned: a tensor mapped from a file starts at an odd address, where BLAS sums in
            # another order than it does for a fresh one.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return None
    return (tensors, facts) if digest(tensors) == facts.pop("digest") else None


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash in hex of named tensors: names, types, shapes and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        total.update(value.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _stock_config(unet: UNet2DConditionModel) -> dict[str, Any]:
    """The UNet's configuration as diffusers saves it, without where it was loaded from."""
    config: dict[str, Any] = json.loads(unet.to_json_string())
    return {key: value for key, value in config.items() if key != "_name_or_path"}


def _read_state(
    path: Path,
    wanted: Mapping[str, Sequence[int]],
    dtype: torch.dtype | None,
    device: str | torch.device,
) -> dict[str, Tensor]:
    """The tensors of a weights file whose names and shapes must be `wanted`."""
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name in sorted(names ^ wanted.keys()):
                side = "misses" if name in wanted else "has a foreign tensor"
                raise BadInput(f"{path} {side} {name}: make the variant again")
            for name, shape in sorted(wanted.items()):
                found = tuple(file.get_slice(name).get_shape())
                if found != tuple(shape):
                    raise BadInput(
                        f"{name} in {path} is {found}, but {manifests.MANIFEST} says "
                        f"{tuple(shape)}: make the variant again"
                    )
            return {
                name: file.get_tensor(name).clone().to(device=device, dtype=dtype)
                for name in wanted
            }
    except SafetensorError:
        raise BadInput(f"{path} is not a whole safetensors file: make the variant again") from None
