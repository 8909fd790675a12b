"""Variants on disk: every bit comes back, and nothing damaged is ever loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from core.checkpoint import digest, load_unet, read_tensors, save_variant, write_tensors
from core.errors import BadInput
from core.manifest import (
    MANIFEST,
    WEIGHTS,
    check_files,
    decode_kept,
    encode_kept,
    read_manifest,
    sha256_file,
)
from core.surgery import shrink
from core.targets import find_targets

Predict = Callable[[UNet2DConditionModel], torch.Tensor]


def save_cut(unet: UNet2DConditionModel, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Cut the last unit of every target and save the result."""
    targets = find_targets(unet)
    kept = {target.name: torch.arange(target.units - 1) for target in targets}
    for target in targets:
        shrink(unet, target, kept[target.name])
    described = [{**target.to_dict(), "unit_width": target.unit_width} for target in targets]
    facts = {"base": "tiny", "method": "obs", "sparsity": 0.1, "dense_params": 1}
    return save_variant(
        folder, unet.state_dict(), unet, {**facts, "targets": described}, kept, dtype
    )


@pytest.fixture
def variant(unet: UNet2DConditionModel, tmp_path: Path) -> Path:
    save_cut(unet, tmp_path / "s10", torch.float32)
    return tmp_path / "s10"


def rewrite(file: Path, change: Callable[[Any], None]) -> None:
    facts = json.loads(file.read_text())
    change(facts)
    file.write_text(json.dumps(facts))


def test_a_variant_comes_back_bit_for_bit(
    unet: UNet2DConditionModel, tmp_path: Path, predict: Predict
) -> None:
    manifest = save_cut(unet, tmp_path / "s10", torch.float32)
    for path in (tmp_path / "s10", tmp_path / "s10" / "unet"):
        loaded = load_unet(path)
        assert digest(loaded.state_dict()) == digest(unet.state_dict())
        assert torch.equal(predict(loaded), predict(unet))
        assert not loaded.training
    assert check_files(tmp_path / "s10") == manifest
    assert manifest["params"] == sum(parameter.numel() for parameter in unet.parameters())
    half = save_cut(load_unet(tmp_path / "s10"), tmp_path / "half", torch.float16)
    assert half["files"][WEIGHTS] != manifest["files"][WEIGHTS]
    assert load_unet(tmp_path / "half").dtype == torch.float16
    assert load_unet(tmp_path / "half", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_two_saves_are_equal_and_know_no_working_folder(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    unet.register_to_config(_name_or_path=str(tmp_path / "base"))
    save_cut(unet, tmp_path / "s10", torch.float32)
    (tmp_path / "elsewhere").mkdir()
    save_cut_again = load_unet(tmp_path / "s10")
    facts = read_manifest(tmp_path / "s10")
    kept = {t["name"]: torch.tensor(decode_kept(t["kept"], t["units"])) for t in facts["targets"]}
    state = save_cut_again.state_dict()
    folder = tmp_path / "elsewhere" / "s10"
    save_variant(folder, state, save_cut_again, facts, kept, torch.float32)
    for file in sorted((tmp_path / "s10" / "unet").iterdir()):
        assert file.read_bytes() == (tmp_path / "elsewhere/s10/unet" / file.name).read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_cut_short_or_changed_is_refused(variant: Path) -> None:
    weights = variant / "unet" / WEIGHTS
    whole = weights.read_bytes()
    for bad in (whole[:-100], whole[:4], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        weights.write_bytes(bad)
        with pytest.raises(BadInput, match=f"{WEIGHTS} is not the file that was saved"):
            load_unet(variant)
    weights.unlink()
    with pytest.raises(BadInput, match="is missing"):
        check_files(variant)


def test_a_manifest_of_another_kind_is_refused(variant: Path, tmp_path: Path) -> None:
    file = variant / "unet" / MANIFEST
    rewrite(file, lambda facts: facts.update(version=99))
    with pytest.raises(BadInput, match="format version 99"):
        read_manifest(variant)
    rewrite(file, lambda facts: facts.update(version=1, targets=[{}]))
    with pytest.raises(BadInput, match="lacks required fields"):
        read_manifest(variant)
    rewrite(file, lambda facts: facts.update(format="other"))
    with pytest.raises(BadInput, match="not a manifest"):
        read_manifest(variant)
    file.write_text("{")
    with pytest.raises(BadInput, match="cannot be read as JSON"):
        load_unet(variant)
    with pytest.raises(BadInput, match=f"has no {MANIFEST}"):
        load_unet(tmp_path / "nowhere")


def test_kept_units_that_do_not_fit_the_file_are_refused_with_both_shapes(variant: Path) -> None:
    def lose_a_unit(facts: dict[str, Any]) -> None:
        target = facts["targets"][2]
        target["kept"] = encode_kept(range(target["units"] - 2), target["units"])

    rewrite(variant / "unet" / MANIFEST, lose_a_unit)
    with pytest.raises(BadInput, match=r"ff\.net\.0\.proj\.bias .* is \(510,\), .* says \(508,\)"):
        load_unet(variant)


def test_a_foreign_tensor_is_refused_by_name(variant: Path) -> None:
    weights = variant / "unet" / WEIGHTS
    raw = weights.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    weights.write_bytes(
        raw[: 8 + length].replace(b"conv_in.bias", b"conv_in.bios") + raw[8 + length :]
    )
    rewrite(
        variant / "unet" / MANIFEST,
        lambda facts: facts["files"].update({WEIGHTS: sha256_file(weights)}),
    )
    with pytest.raises(BadInput, match=r"misses conv_in\.bias"):
        load_unet(variant)


def test_bitmaps_of_kept_units() -> None:
    assert decode_kept(encode_kept([0, 3, 8, 9], 10), 10) == [0, 3, 8, 9]
    for text, units in (("", 10), (encode_kept([9], 10), 9), (encode_kept([], 3), 3), ("?", 3)):
        with pytest.raises(BadInput, match="do not describe"):
            decode_kept(text, units)


def test_working_state_is_found_only_whole_and_under_its_key(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "state.safetensors"
    assert read_tensors(file, "key") is None
    write_tensors(file, {"a": torch.arange(5.0)}, {"key": "key", "done": 3})
    found = read_tensors(file, "key")
    assert found is not None
    assert torch.equal(found[0]["a"], torch.arange(5.0))
    assert found[1]["done"] == 3
    assert read_tensors(file, "other") is None
    whole = file.read_bytes()
    for bad in (whole[:-1], whole[:20], whole[:-1] + b"\x01"):
        file.write_bytes(bad)
        assert read_tensors(file, "key") is None
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_manifests_are_read_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, core.manifest; sys.exit(bool({'torch', 'diffusers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
