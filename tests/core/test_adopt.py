"""Pickled UNets come in as data: every tensor, no code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from core.adopt import adopt
from core.architecture import SDXL, derive, units_to_keep
from core.checkpoint import digest, load_unet
from core.errors import BadInput
from core.manifest import decode_kept, read_manifest
from core.surgery import shrink
from core.targets import find_targets


def prune(unet: UNet2DConditionModel) -> dict[str, list[int]]:
    """Keep every unit but the second of each target, with new consumer weights."""
    kept = {}
    for target in find_targets(unet):
        keep = torch.tensor([unit for unit in range(target.units) if unit != 1])
        rows = unet.get_submodule(target.consumer).weight.shape[0]
        W = torch.randn(rows, len(keep) * target.unit_width)
        shrink(unet, target, keep, W)
        kept[target.name] = keep.tolist()
    return kept


def test_every_tensor_arrives_and_the_kept_units_are_found_again(
    unet: UNet2DConditionModel, tiny_model: Path, tmp_path: Path
) -> None:
    kept = prune(unet)
    torch.save(unet, tmp_path / "unet_pruned.pth")
    adopt(tmp_path / "unet_pruned.pth", tmp_path / "known", str(tiny_model))
    assert digest(load_unet(tmp_path / "known").state_dict()) == digest(unet.state_dict())
    for entry in read_manifest(tmp_path / "known")["targets"]:
        assert entry["kept_known"]
        assert decode_kept(entry["kept"], entry["units"]) == kept[entry["name"]]


def test_without_the_base_the_units_are_unknown_and_the_variant_loads(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    prune(unet)
    torch.save(unet.half(), tmp_path / "unet_pruned.pth")
    manifest = adopt(tmp_path / "unet_pruned.pth", tmp_path / "unknown")
    assert not any(entry["kept_known"] for entry in manifest["targets"])
    assert digest(load_unet(tmp_path / "unknown").state_dict()) == digest(unet.state_dict())


def test_a_base_of_another_architecture_is_refused(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    torch.save(unet, tmp_path / "unet_pruned.pth")
    with pytest.raises(BadInput, match="was not cut from demo"):
        adopt(tmp_path / "unet_pruned.pth", tmp_path / "out", "demo")
    assert not (tmp_path / "out").exists()


class Payload:
    """A pickle that calls something when it is read."""

    def __init__(self, call: Any, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call, self.args


def test_a_foreign_global_is_refused_by_name_and_not_run(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    unet.payload = Payload(os.system, f"touch {trace}")
    torch.save(unet, tmp_path / "bad.pth")
    with pytest.raises(BadInput, match=r"posix\.system"):
        adopt(tmp_path / "bad.pth", tmp_path / "out")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def test_a_listed_class_called_with_arguments_is_refused(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    unet.payload = Payload(nn.Linear, 1 << 40, 1 << 40)
    torch.save(unet, tmp_path / "bad.pth")
    with pytest.raises(BadInput, match=r"calls torch\.nn\.modules\.linear\.Linear with"):
        adopt(tmp_path / "bad.pth", tmp_path / "out")


def test_what_is_no_unet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pth")
    for name in ("text.pth", "state.pth"):
        with pytest.raises(BadInput, match="not a pickled UNet"):
            adopt(tmp_path / name, tmp_path / "out")
    with pytest.raises(BadInput, match="There is no file"):
        adopt(tmp_path / "absent.pth", tmp_path / "out")


def test_views_larger_than_the_file_are_refused(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    unet.conv_in.weight = nn.Parameter(torch.zeros(1).expand(1 << 20, 1 << 14))
    torch.save(unet, tmp_path / "vast.pth")
    assert (tmp_path / "vast.pth").stat().st_size < 64 << 20
    with pytest.raises(BadInput, match="claims"):
        adopt(tmp_path / "vast.pth", tmp_path / "out")


def sdxl_file(level: float, path: Path) -> UNet2DConditionModel:
    """A pickled UNet of the published widths whose tensors share one stored number."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(SDXL))
    for target in find_targets(unet):
        shrink(unet, target, torch.arange(units_to_keep(target.units, level), device="cpu"))
    one = torch.zeros(1, dtype=torch.float16)
    for module in unet.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(one.expand(value.shape), requires_grad=False))
    torch.save(unet, path)
    return unet


@pytest.mark.parametrize("level", [0.1, 0.15, 0.2, 0.25, 0.3])
def test_the_published_levels_have_their_counts(
    level: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: dict[str, Any] = {}

    # The 5 GB of zeros are counted, not written.
    def save(folder: Path, state: Any, dense: Any, facts: Any, kept: Any, dtype: Any) -> Any:
        saved.update(facts, params=sum(value.numel() for value in state.values()))
        return saved

    monkeypatch.setattr(sys.modules["core.adopt"], "save_variant", save)
    sdxl_file(level, tmp_path / "unet_pruned.pth")
    adopt(tmp_path / "unet_pruned.pth", tmp_path / "out")
    sdxl = derive(SDXL)
    assert saved["sparsity"] == level
    assert saved["params"] == sdxl.params(sdxl.kept(level))
    assert saved["dense_params"] == 2_567_463_684
