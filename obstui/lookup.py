"""What specs name on this machine (models, variants, files), as the worker will find it.

Looked up when a job is queued, so that a wrong name is refused now and not in the middle of the
night; paths become absolute, because the worker works in another folder.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from obstui.config import Paths
from obstui.specs import BadSpec, NoSuchModel, Spec, parse, parse_variant_id
from obstui.text import one_line

MODEL_NAME = re.compile(r"^[A-Za-z][\w.-]{0,63}$")
_HUB_ID = re.compile(r"^(?:modelscope:)?[\w.-]+/[\w.-]+$")


def check_model(model: str) -> str:
    """`model` as the child will find it. Raises NoSuchModel.

    "demo", "owner/name" (a hub id) and "modelscope:owner/name" are taken as they are; a folder
    needs `model_index.json`, a file must be `.safetensors` and as long as its header says; paths
    become absolute, and a name of `obstui models add` what it stands for.
    """
    if model == "demo":
        return model
    if MODEL_NAME.match(model) and (source := registered(model)):
        return check_model(source)
    path = Path(model).expanduser()
    shown = one_line(model, limit=120)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise NoSuchModel(
                f"The folder {shown} holds no diffusers pipeline (no model_index.json): "
                "name the pipeline's own folder."
            )
        return str(path.absolute())
    if path.is_file():
        if path.suffix != ".safetensors":
            raise NoSuchModel(f"{shown} is not a .safetensors file: convert it first.")
        if path.stat().st_size != _safetensors_bytes(path):
            raise NoSuchModel(
                f"{shown} is cut short or damaged, or no safetensors file at all: fetch it again."
            )
        return str(path.absolute())
    if _HUB_ID.match(model) and not model.startswith((".", "/", "~")):
        return model
    raise NoSuchModel(
        f"No model {shown}: give demo, a hub id (owner/name), modelscope:owner/name, "
        "a pipeline folder, a .safetensors file, or a name that obstui models ls shows."
    )


def registered(name: str) -> str | None:
    """What a name of `obstui models add` stands for; None if there is none."""
    try:
        return (Paths.resolve().models / name).read_text(encoding="utf-8") or None
    except (OSError, ValueError):
        return None


def check_variant(variant: str) -> str:
    """A variant's id as it is, or the absolute path of a variant's folder. Raises NoSuchModel,
    BadSpec.

    Only what can be seen without reading the weights is checked: the files are there, and the
    weights file is as long as its own header says, so that a truncated download is refused now and
    not in the middle of the night.
    """
    if parse_variant_id(variant):
        return variant
    path = Path(variant).expanduser()
    shown = one_line(variant, limit=120)
    unet = path if (path / "pruning.json").is_file() else path / "unet"
    weights = unet / "diffusion_pytorch_model.safetensors"
    if not (unet / "pruning.json").is_file():
        raise NoSuchModel(
            f'No variant {shown}: give an id such as "12@30" or the folder of a variant '
            "(it holds unet/pruning.json)."
        )
    if not weights.is_file():
        raise NoSuchModel(f"The variant {shown} has no {weights.name}: prune or copy it again.")
    expected = _safetensors_bytes(weights)
    if weights.stat().st_size != expected:
        raise BadSpec(
            f"The variant {shown} is damaged: {weights.name} has {weights.stat().st_size} bytes, "
            f"its header says {expected or 'nothing readable'}; copy or prune it again."
        )
    return str(path.absolute())


def check_there(variant: str, folder: Path) -> Path:
    """The folder of a variant, unless somebody has deleted it. Raises NoSuchModel."""
    if folder.is_dir():
        return folder
    named, shown = parse_variant_id(variant), one_line(variant, limit=120)
    mend = (
        f"obstui show {named[0]} --yaml is the job to submit anew, and obstui models rm {shown} "
        "takes it off the lists"
        if named
        else "copy it back, or name another"
    )
    raise NoSuchModel(f"The files of the variant {shown} were deleted or moved: {mend}.")


def check_pickle(file: str) -> str:
    """The absolute path of a file as torch.save writes it. Raises NoSuchModel, BadSpec."""
    path = Path(file).expanduser()
    shown = one_line(file, limit=120)
    if path.is_dir():
        raise BadSpec(f"{shown} is a folder: name the .pth file in it.")
    if not path.is_file():
        raise NoSuchModel(f"There is no file {shown}: check the path.")
    if not zipfile.is_zipfile(path):
        raise BadSpec(
            f"{shown} is no whole file of torch.save: give an unet_pruned.pth, or fetch it again."
        )
    return str(path.absolute())


def check_new(name: str) -> str:
    """The absolute path of a file or folder that does not exist and can be made. Raises BadSpec."""
    path = Path(name).expanduser().absolute()
    shown = one_line(name, limit=120)
    try:
        above = next(parent for parent in (path, *path.parents) if parent.exists())
    except OSError as err:
        raise BadSpec(f"{shown} cannot be made: {err.strerror}; choose another name.") from None
    if above == path:
        raise BadSpec(f"{shown} exists already: choose another name, or delete it.")
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK) or _of_the_kernel(above):
        raise BadSpec(f"{shown} cannot be made: {above} is no folder that you may write to.")
    return str(path)


def _of_the_kernel(folder: Path) -> bool:
    """Whether a folder is of /proc or /sys, where root is told that everything may be written."""
    return any(folder.is_relative_to(kernels) for kernels in ("/proc", "/sys"))


LOOKUPS: Mapping[str, Callable[[str], str]] = {
    "model": check_model,
    "base": check_model,
    "variant": check_variant,
    "variants": check_variant,
    "file": check_pickle,
    "to": check_new,
}
"""The fields of specs that name something on this machine: each as the worker will find it."""


def checked(data: dict[str, Any]) -> Spec:
    """A spec from plain data, and what it names is there. Raises BadSpec, NoSuchModel."""
    spec = parse(data)
    found: dict[str, Any] = {}
    for field, check in LOOKUPS.items():
        value = getattr(spec, field, None)
        if isinstance(value, str):
            found[field] = check(value)
        elif value is not None:
            found[field] = tuple(check(name) for name in value)
    return spec.model_copy(update=found)


def _safetensors_bytes(path: Path) -> int | None:
    """The length that a safetensors file's own header promises; None if it is unreadable."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= 100 << 20:
                return None
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
