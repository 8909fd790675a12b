"""Published `.pth` files, each a whole pickled UNet, turned into variant folders unexecuted.

Every class such a file names is met by an inert stand-in that takes no arguments and runs nothing;
a global outside the fixed list is refused by name before a byte of the pickle is interpreted.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from core import loading
from core.architecture import units_to_keep
from core.checkpoint import save_variant
from core.errors import BadInput
from core.manifest import UNKNOWN, sha256_file
from core.surgery import shrink
from core.targets import Target, find_targets

_LARGEST = 16 << 30  # bytes; SDXL's dense UNet in float32 has 10.3e9
_LARGEST_PICKLE = 64 << 20
_PUBLISHED = (0.1, 0.15, 0.2, 0.25, 0.3)

_CLASSES = (
    "diffusers.models.activations.GEGLU",
    "diffusers.models.attention.BasicTransformerBlock",
    "diffusers.models.attention.FeedForward",
    "diffusers.models.attention_processor.Attention",
    "diffusers.models.attention_processor.AttnProcessor",
    "diffusers.models.attention_processor.AttnProcessor2_0",
    "diffusers.models.downsampling.Downsample2D",
    "diffusers.models.embeddings.TimestepEmbedding",
    "diffusers.models.embeddings.Timesteps",
    "diffusers.models.resnet.ResnetBlock2D",
    "diffusers.models.transformers.transformer_2d.Transformer2DModel",
    "diffusers.models.unets.unet_2d_blocks.CrossAttnDownBlock2D",
    "diffusers.models.unets.unet_2d_blocks.CrossAttnUpBlock2D",
    "diffusers.models.unets.unet_2d_blocks.DownBlock2D",
    "diffusers.models.unets.unet_2d_blocks.UNetMidBlock2DCrossAttn",
    "diffusers.models.unets.unet_2d_blocks.UpBlock2D",
    "diffusers.models.unets.unet_2d_condition.UNet2DConditionModel",
    "diffusers.models.upsampling.Upsample2D",
    "torch.nn.modules.activation.SiLU",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.conv.Conv2d",
    "torch.nn.modules.dropout.Dropout",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.linear.Linear",
    "torch.nn.modules.normalization.GroupNorm",
    "torch.nn.modules.normalization.LayerNorm",
)


class _Inert:
    """Stands for a class of the file: holds what the file says of an object, does nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        if args or kwargs:
            raise BadInput(
                f"the file calls {cls.__name__} with arguments, which no saved UNet does: "
                "it was not loaded, and nothing in it was run"
            )
        return super().__new__(cls)


_STAND_INS: list[Any] = [(type(name, (_Inert,), {}), name) for name in _CLASSES]
# The unpickler fills only this class item by item; FrozenDict is one of its subclasses.
_STAND_INS.append((OrderedDict, "diffusers.configuration_utils.FrozenDict"))


def adopt(file: Path, folder: Path, base: str | None = None) -> dict[str, Any]:
    """Write the pickled UNet in `file` as the variant `folder`, and return its manifest.

    With `base`, the dense model it was cut from, the kept units are recovered by comparing rows;
    without it, or where rows were changed, the manifest says that they are unknown. Raises
    BadInput for a file that is not such a UNet, asks for anything but its data, or is of another
    architecture than `base`.
    """
    root = _read(file)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_config(root, file))
    state = _state(root, file)
    dense_params = sum(value.numel() for value in unet.state_dict().values())
    targets = find_targets(unet)
    counts = {target.name: _count(state, target, file) for target in targets}
    dtype = next(iter(state.values())).dtype
    dense = None
    if base:
        dense = loading.load_pipeline(base, device="cpu", dtype=dtype).unet.state_dict()
        if _shapes(dense) != _shapes(unet.state_dict()):
            raise BadInput(
                f"{file} was not cut from {base}, whose layers are others: name the dense model "
                "that it was cut from, or none"
            )
    kept, described = {}, []
    for target in targets:
        found = _match(state, dense, target, counts[target.name]) if dense else None
        known = found is not None
        kept[target.name] = torch.tensor(found or range(counts[target.name]))
        described.append({**target.to_dict(), "unit_width": target.unit_width, "kept_known": known})
    for target in targets:
        shrink(unet, target, kept[target.name])
    _check_shapes(state, unet.state_dict(), file)
    facts = {
        "base": base or UNKNOWN,
        "method": "imported",
        "source_sha256": sha256_file(file),
        "sparsity": _sparsity(targets, counts),
        "dense_params": dense_params,
        "mean_error": None,
        "targets": described,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    return save_variant(folder, state, unet, facts, kept, dtype)


def _read(file: Path) -> _Inert:
    """The root object of the pickle, in stand-ins."""
    foreign = f"{file} is not a pickled UNet as torch.save writes it: give an unet_pruned.pth"
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except FileNotFoundError:
        raise BadInput(f"There is no file {file}: check the path") from None
    except (OSError, zipfile.BadZipFile):
        raise BadInput(foreign) from None
    pickles = [entry.file_size for entry in entries if entry.filename.endswith("data.pkl")]
    if sum(entry.file_size for entry in entries) > _LARGEST or max(pickles, default=0) > (
        _LARGEST_PICKLE
    ):
        raise BadInput(f"{file} unpacks to more than any SDXL UNet holds: it is not one")
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            refused = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            if refused:
                raise BadInput(
                    f"{file} names {', '.join(sorted(refused))}, which no plain UNet needs: "
                    "it was not loaded, and nothing in it was run"
                )
            root = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except BadInput:
        raise
    except Exception as error:  # a hostile file can make the reader fail in any way
        # Without torch's words, which advise to load the file with its code.
        raise BadInput(foreign) from error
    if not isinstance(root, _Inert):
        raise BadInput(foreign)
    return root


def _config(root: _Inert, file: Path) -> dict[str, Any]:
    config = vars(root).get("_internal_dict")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(config or {})))
    except (TypeError, ValueError):
        plain = {}
    if "block_out_channels" not in plain:
        raise BadInput(f"{file} holds no UNet's configuration: give an unet_pruned.pth")
    return {key: value for key, value in plain.items() if not key.startswith("_")}


def _state(root: _Inert, file: Path) -> dict[str, Tensor]:
    """The parameters by their dotted names."""
    state: dict[str, Tensor] = {}
    ahead, seen, size = [("", root)], {id(root)}, 0
    while ahead:
        path, module = ahead.pop()
        fields = vars(module)
        for name, value in (*_items(fields, "_parameters"), *_items(fields, "_buffers")):
            if isinstance(value, Tensor):
                size += value.numel() * value.element_size()
                state[f"{path}{name}"] = value.detach()
        for name, child in _items(fields, "_modules"):
            if isinstance(child, _Inert) and id(child) not in seen:
                seen.add(id(child))
                ahead.append((f"{path}{name}.", child))
    # Counted as stored out in full: a view can claim far more than the file holds.
    if size > _LARGEST:
        raise BadInput(f"{file} claims {size:,} bytes of weights, more than any SDXL UNet holds")
    return state


def _items(fields: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    value = fields.get(name)
    return list(value.items()) if isinstance(value, dict) else []


def _count(state: Mapping[str, Tensor], target: Target, file: Path) -> int:
    """Units that the file has of a target."""
    weight = state.get(f"{target.consumer}.weight")
    width = weight.shape[1] if weight is not None and weight.dim() == 2 else 0
    count, rest = divmod(width, target.unit_width)
    if rest or not 0 < count <= target.units:
        raise BadInput(
            f"{target.consumer} in {file} has {width} columns, which are not 1 to {target.units} "
            f"units of {target.unit_width}: it is not a pruned UNet of its configuration"
        )
    return count


def _check_shapes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], file: Path) -> None:
    for name in sorted(state.keys() | wanted.keys()):
        found, right = (
            tuple(side[name].shape) if name in side else None for side in (state, wanted)
        )
        if found != right:
            raise BadInput(f"{name} in {file} is {found}, but its configuration needs {right}")


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _match(
    state: Mapping[str, Tensor], dense: Mapping[str, Tensor], target: Target, count: int
) -> list[int] | None:
    """The dense units whose rows are the file's, ascending; None if they are not all found."""
    rows = _unit_rows(state, target, count, None)
    dtype = state[f"{target.consumer}.weight"].dtype
    places: dict[bytes, list[int]] = {}
    for unit, row in enumerate(_unit_rows(dense, target, target.units, dtype)):
        places.setdefault(row, []).append(unit)
    found = [places[row].pop(0) if places.get(row) else -1 for row in rows]
    ascending = all(a < b for a, b in itertools.pairwise(found))
    return found if ascending and found[0] >= 0 else None


def _unit_rows(
    state: Mapping[str, Tensor], target: Target, units: int, dtype: torch.dtype | None
) -> list[bytes]:
    """The bytes of every unit's rows in the parameters that pruning copies unchanged."""
    parts: list[list[bytes]] = []
    for part in target.slices:
        value = state.get(f"{target.name}.{part.parameter}")
        if value is None or part.dim != 0:
            continue
        split = value.to(dtype or value.dtype).reshape(part.copies, units, -1).transpose(0, 1)
        plain = split.contiguous().view(units, -1).view(torch.uint8).numpy()
        parts.append([row.tobytes() for row in plain])
    return [b"".join(rows) for rows in zip(*parts, strict=True)]


def _sparsity(targets: list[Target], counts: Mapping[str, int]) -> float:
    """The published level whose widths these are, else the measured share of columns removed."""
    for level in _PUBLISHED:
        if all(counts[t.name] == units_to_keep(t.units, level) for t in targets):
            return level
    kept = sum(counts[target.name] * target.unit_width for target in targets)
    return round(1 - kept / sum(target.columns for target in targets), 2)
