"""Adapters of the dense model on a variant: LoRA carried over, IP-Adapters cut or refused.

A LoRA adds B A to a weight. Where rows go, the rows of B go; where columns S go and the rest makes
up for them, W'_K = W_K + W_S M is linear in W, so A' = A_K + A_S M is exact.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core import manifest as manifests
from core.errors import BadInput
from core.targets import Target, find_targets


def carry_over(lora: Path, variant: Path, out: Path) -> None:
    """Write `lora`, trained on the dense model, as `out` for the pipeline with `variant`.

    Reads whatever SDXL LoRA diffusers reads and writes peft names, alphas folded into B. Raises
    BadInput where it cannot be exact: unknown kept units, or no compensation matrix for a layer.
    """
    manifest = manifests.check_files(variant)
    folder = manifests.unet_folder(variant)
    config = json.loads((folder / manifests.CONFIG).read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    keep = {entry["name"]: _kept(entry, variant) for entry in manifest["targets"]}
    file = folder / manifests.COMPENSATION
    M = load_file(file) if file.is_file() else {}
    state = _read(lora, unet)
    for target in find_targets(unet):
        for part in target.slices:
            layer, _, leaf = part.parameter.rpartition(".")
            down, up = (f"unet.{target.name}.{layer}.lora_{side}.weight" for side in "AB")
            if leaf != "weight" or down not in state:
                continue
            columns = target.indices(keep[target.name], part.copies)
            if part.dim == 0:
                state[up] = state[up][columns]
            elif len(keep[target.name]) < target.units:
                state[down] = _compensated(state[down], columns, M.get(target.name), target, lora)
    partial_file = out.with_name(f".{out.name}.partial")
    save_file({name: value.contiguous() for name, value in state.items()}, partial_file)
    manifests.sync(partial_file)
    os.replace(partial_file, out)


def main(arguments: Sequence[str]) -> int:
    """`python -m core.lora FILE VARIANT OUT`: exit 0, or 2 and a sentence as stderr's last line."""
    lora, variant, out = map(Path, arguments)
    try:
        carry_over(lora, variant, out)
    except (BadInput, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def guard_ip_adapter(unet: UNet2DConditionModel, variant: Path) -> None:
    """Have `pipe.load_ip_adapter` cut the adapter to the variant's heads, or raise BadInput.

    Unguarded, some widths divide by the fewer heads and run silently wrong.
    """
    load: Any = unet._load_ip_adapter_weights
    manifest = manifests.read_manifest(variant)
    unet._load_ip_adapter_weights = partial(_load_ip_adapter, unet, load, manifest, variant)


def check_ip_adapter(unet: UNet2DConditionModel) -> None:
    """Raise BadInput naming the first layer whose IP-Adapter has another width than its heads."""
    for name, processor in unet.attn_processors.items():
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for kind in ("to_k_ip", "to_v_ip"):
            for layer in getattr(processor, kind, ()):
                if layer.out_features != width:
                    raise BadInput(
                        f"The IP-Adapter's {kind} of {name} has {layer.out_features} rows, but the "
                        f"variant's heads there have {width}: use the dense model with it"
                    )


def _load_ip_adapter(
    unet: UNet2DConditionModel,
    load: Callable[..., None],
    manifest: Mapping[str, Any],
    variant: Path,
    *args: Any,
    **kwargs: Any,
) -> None:
    try:
        load(*args, **kwargs)
        for entry in manifest["targets"]:
            if entry["kind"] == "attn2" and entry.get("kept_known", True):
                _cut_ip_adapter(unet, entry, variant)
        check_ip_adapter(unet)
    except (BadInput, RuntimeError):
        # None of it may stay: half an adapter would run.
        unet.set_attn_processor(AttnProcessor2_0())
        unet.encoder_hid_proj = None
        unet.config.encoder_hid_dim_type = None
        raise


def _cut_ip_adapter(unet: UNet2DConditionModel, entry: Mapping[str, Any], variant: Path) -> None:
    width = entry["unit_width"]
    rows = (_kept(entry, variant)[:, None] * width + torch.arange(width)).flatten()
    processor = unet.get_submodule(entry["name"]).processor
    for kind in ("to_k_ip", "to_v_ip"):
        for layer in getattr(processor, kind, ()):
            if layer.out_features == entry["units"] * width:
                cut = layer.weight.detach()[rows.to(layer.weight.device)]
                layer.weight = nn.Parameter(cut, requires_grad=False)
                layer.out_features = len(rows)


def _kept(entry: Mapping[str, Any], variant: Path) -> Tensor:
    if not entry.get("kept_known", True):
        raise BadInput(
            f"{variant} does not know which units of {entry['name']} it kept: "
            "import it again with the dense base it was cut from"
        )
    return torch.tensor(manifests.decode_kept(entry["kept"], entry["units"]))


def _read(lora: Path, unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """A LoRA in peft names with its alphas folded into B."""
    try:
        found, alphas = StableDiffusionXLPipeline.lora_state_dict(
            str(lora), unet_config=unet.config, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"{lora} is no LoRA that diffusers can read: check the file") from error
    if any("dora_scale" in name for name in found):
        raise BadInput(f"{lora} is a DoRA, whose norms belong to the dense weights: use a LoRA")
    alphas = dict(alphas or {})
    for name in [name for name in found if name.endswith(".alpha")]:
        alphas[name] = found.pop(name).item()
    body = {name: value for name, value in found.items() if name.startswith("unet.")}
    rest = {name: value for name, value in found.items() if name not in body}
    state: dict[str, Tensor] = convert_unet_state_dict_to_peft(body) if body else {}
    if rest:
        state |= convert_state_dict_to_peft(rest)
    # diffusers names some alphas by the layer and some by its down matrix.
    scales = convert_unet_state_dict_to_peft(
        {name.removesuffix(".alpha"): alpha for name, alpha in alphas.items()}
    )
    for name, alpha in scales.items():
        up = f"{name.removesuffix('.lora_A.weight')}.lora_B.weight"
        if up not in state:
            raise BadInput(f"{lora} has an alpha for {name}, but no matrices: check the file")
        state[up] = state[up] * (alpha / state[up].shape[1])
    return state


def _compensated(
    A: Tensor, columns: Tensor, M: Tensor | None, target: Target, lora: Path
) -> Tensor:
    """A' = A_K + A_S M of the consumer's LoRA."""
    if M is None:
        raise BadInput(
            f"{lora} changes {target.consumer}, and the variant holds no compensation matrix for "
            "it: merge the LoRA into the dense model before pruning"
        )
    gone = torch.ones(target.columns, dtype=torch.bool)
    gone[columns] = False
    made = A[:, columns].float() + A[:, gone].float() @ M.float()
    return made.to(A.dtype)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
