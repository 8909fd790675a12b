"""Adapters of the dense model on a variant, through diffusers' own loaders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from core import loading, lora
from core.checkpoint import save_variant
from core.errors import BadInput
from core.solver import compensation
from core.surgery import shrink
from core.targets import find_targets

Predict = Callable[[UNet2DConditionModel], torch.Tensor]
RANK, ALPHA = 2, 6.0


def cut_with_M(unet: UNet2DConditionModel, adapter: dict[str, torch.Tensor], folder: Path) -> Path:
    """Save a cut of `unet`, and leave in `unet` the cut of W + scale B A: what must come out."""
    generator = torch.Generator().manual_seed(0)
    targets, M, kept = find_targets(unet), {}, {}
    plain = {name: value.clone() for name, value in unet.state_dict().items()}
    for target in targets:
        X = torch.randn(target.columns, 3 * target.columns, generator=generator)
        keep = torch.tensor([unit for unit in range(target.units) if unit != 1])
        M[target.name], _ = compensation(X @ X.T, target.indices(keep))
        kept[target.name] = keep

    def cut(weights: dict[str, torch.Tensor]) -> None:
        for target in targets:
            layer = unet.get_submodule(target.consumer)
            columns = target.indices(kept[target.name])
            gone = torch.ones(target.columns, dtype=torch.bool)
            gone[columns] = False
            W = weights[f"{target.consumer}.weight"]
            assert layer.weight.shape == W.shape
            shrink(unet, target, kept[target.name], W[:, columns] + W[:, gone] @ M[target.name])

    small = UNet2DConditionModel.from_config(unet.config)
    small.load_state_dict(plain)
    unet, wanted = small, unet
    cut(plain)
    described = [{**target.to_dict(), "unit_width": target.unit_width} for target in targets]
    facts = {"base": "tiny", "method": "obs", "sparsity": 0.1, "dense_params": 1}
    attention = {name: value for name, value in M.items() if not name.endswith(".ff")}
    save_variant(
        folder, unet.state_dict(), unet, {**facts, "targets": described}, kept, torch.float32,
        attention,
    )  # fmt: skip
    merged = {name: value.clone() for name, value in plain.items()}
    for name in adapter:
        if name.endswith("lora_A.weight"):
            stem = name.removesuffix(".lora_A.weight")
            B = adapter[f"{stem}.lora_B.weight"]
            merged[f"{stem.removeprefix('unet.')}.weight"] += ALPHA / RANK * B @ adapter[name]
    unet = wanted
    unet.load_state_dict(merged)
    cut(merged)
    return folder


def make_lora(unet: UNet2DConditionModel, leaves: tuple[str, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    made = {}
    for name, module in unet.named_modules():
        if name.endswith(leaves) and hasattr(module, "weight"):
            rows, columns = module.weight.shape
            A = torch.randn(RANK, columns, generator=generator)
            made[f"unet.{name}.lora_A.weight"] = A
            made[f"unet.{name}.lora_B.weight"] = 0.1 * torch.randn(rows, RANK, generator=generator)
    return made


def kohya(adapter: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    made = {}
    for name, value in adapter.items():
        stem, side, _ = name.removeprefix("unet.").rsplit(".", 2)
        stem = "lora_unet_" + stem.replace(".", "_")
        made[f"{stem}.lora_{'down' if side == 'lora_A' else 'up'}.weight"] = value
        made[f"{stem}.alpha"] = torch.tensor(ALPHA)
    return made


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.mark.parametrize("form", ["peft", "kohya"])
def test_a_carried_lora_is_exact_on_the_variants_pipeline(
    form: str, unet: UNet2DConditionModel, tiny_model: Path, tmp_path: Path, predict: Predict
) -> None:
    adapter = make_lora(unet, (*ATTENTION, "ff.net.0.proj"))
    variant = cut_with_M(unet, adapter, tmp_path / "s10")
    if form == "kohya":
        written = kohya(adapter)
    else:
        written = dict(adapter)
        for name in adapter:
            if "lora_A" in name:
                written[name.replace("lora_A.weight", "alpha")] = torch.tensor(ALPHA)
    save_file(written, tmp_path / "lora.safetensors")
    lora.carry_over(tmp_path / "lora.safetensors", variant, tmp_path / "out.safetensors")
    pipe = loading.load_variant_pipeline(str(tiny_model), variant, device="cpu")
    before = predict(pipe.unet)
    pipe.load_lora_weights(str(tmp_path), weight_name="out.safetensors")
    after = predict(pipe.unet)
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, predict(unet), rtol=1e-4, atol=1e-4)


def test_a_lora_of_the_feed_forward_output_is_refused(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    adapter = make_lora(unet, ("ff.net.2",))
    variant = cut_with_M(unet, adapter, tmp_path / "s10")
    save_file(adapter, tmp_path / "lora.safetensors")
    with pytest.raises(BadInput, match=r"ff\.net\.2.*no compensation matrix"):
        lora.carry_over(tmp_path / "lora.safetensors", variant, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def ip_adapter(unet: UNet2DConditionModel, rows_off: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """An adapter's weights for the dense UNet, in the layout of the published files."""
    layers = {}
    at = 1
    for name in unet.attn_processors:
        if ".attn2." in name:
            layer = unet.get_submodule(name.removesuffix(".processor")).to_k
            shape = (layer.out_features + rows_off, layer.in_features)
            layers[f"{at}.to_k_ip.weight"] = torch.randn(shape)
            layers[f"{at}.to_v_ip.weight"] = torch.randn(shape)
            at += 2
    width = unet.config.cross_attention_dim
    projection = {
        "proj.weight": torch.randn(4 * width, 8),
        "proj.bias": torch.zeros(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {"image_proj": projection, "ip_adapter": layers}


@pytest.mark.parametrize("known", [True, False])
def test_an_ip_adapter_is_cut_to_the_kept_heads_or_refused(
    known: bool, unet: UNet2DConditionModel, tiny_model: Path, tmp_path: Path
) -> None:
    adapter = ip_adapter(unet)
    targets = find_targets(unet)
    kept = {target.name: torch.arange(1, target.units) for target in targets}
    for target in targets:
        shrink(unet, target, kept[target.name])
    described = [
        {**target.to_dict(), "unit_width": target.unit_width, "kept_known": known}
        for target in targets
    ]
    facts = {"base": "tiny", "method": "obs", "sparsity": 0.1, "dense_params": 1}
    save_variant(tmp_path / "s10", unet.state_dict(), unet, {**facts, "targets": described}, kept,
                 torch.float32)  # fmt: skip
    pipe = loading.load_variant_pipeline(str(tiny_model), tmp_path / "s10", device="cpu")

    def load() -> None:
        pipe.load_ip_adapter(adapter, subfolder="", weight_name="", image_encoder_folder=None)

    if not known:
        with pytest.raises(BadInput, match=r"IP-Adapter's to_k_ip of .*attn2"):
            load()
        lora.check_ip_adapter(pipe.unet)
        return
    load()
    lora.check_ip_adapter(pipe.unet)
    first = next(target for target in targets if target.kind == "attn2")
    cut = pipe.unet.get_submodule(first.name).processor.to_k_ip[0].weight
    width = first.unit_width
    wanted = adapter["ip_adapter"]["1.to_k_ip.weight"]
    names = [n for n in pipe.unet.attn_processors if ".attn2." in n]
    if names[0] == f"{first.name}.processor":
        assert torch.equal(cut, wanted[width:])
