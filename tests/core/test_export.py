"""Every export, read by its real consumer in a fresh interpreter or by stock diffusers."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from core import loading
from core.checkpoint import digest, load_unet, save_variant
from core.demo import MODEL_DIR
from core.errors import BadInput, Cancelled
from core.export import CARD, Format, export
from core.manifest import WEIGHTS, check_files
from core.surgery import shrink
from core.targets import find_targets

Predict = Callable[[UNet2DConditionModel], torch.Tensor]


def save_pruned(unet: UNet2DConditionModel, folder: Path, base: str) -> Path:
    """Drop the first unit of every target, so that no index stays where it was."""
    dense_params = sum(value.numel() for value in unet.parameters())
    targets = find_targets(unet)
    kept = {target.name: torch.arange(1, target.units) for target in targets}
    for target in targets:
        shrink(unet, target, kept[target.name])
    described = [{**target.to_dict(), "unit_width": target.unit_width} for target in targets]
    facts = {
        "base": base,
        "method": "magnitude",
        "sparsity": 0.1,
        "mean_error": 0.25,
        "dense_params": dense_params,
        "targets": described,
    }
    save_variant(folder, unet.state_dict(), unet, facts, kept, torch.float32)
    return folder


@pytest.fixture
def variant(unet: UNet2DConditionModel, tmp_path: Path) -> Path:
    return save_pruned(unet, tmp_path / "s10", "tiny")


CLEAN = """
import json, os, sys
import torch
from diffusers import StableDiffusionXLPipeline
torch.set_num_threads(1)  # no pool that a fork would lack
StableDiffusionXLPipeline.from_pretrained(sys.argv[1])  # imports what it needs
for line in sys.stdin:
    if not (child := os.fork()):
        folder, code = json.loads(line)
        os.chdir(folder)
        sys.path.insert(0, "")
        exec(code, {"__name__": "__main__"})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Fresh = Callable[[str, Path], None]


@pytest.fixture(scope="module")
def fresh() -> Iterator[Fresh]:
    """Runs code in a folder, in a process of its own that knows torch and diffusers but nothing of
    ours. They are imported once for all: eight seconds."""
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(
        [sys.executable, "-c", CLEAN, str(MODEL_DIR)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def run(code: str, folder: Path) -> None:
            print(json.dumps([str(folder), code]), file=process.stdin, flush=True)
            ended = process.stdout.readline()
            said.seek(0)
            assert ended == "0\n", said.read()[-2000:]

        yield run


def test_the_folder_is_a_whole_copy(variant: Path, tmp_path: Path) -> None:
    export(variant, "diffusers", tmp_path / "out")
    assert check_files(tmp_path / "out") == check_files(variant)


def test_stock_diffusers_loads_dense_shapes_with_the_same_output(
    variant: Path, tmp_path: Path, predict: Predict
) -> None:
    export(variant, "dense", tmp_path / "out")
    dense = UNet2DConditionModel.from_pretrained(tmp_path / "out", subfolder="unet")
    small = load_unet(variant)
    assert sum(p.numel() for p in dense.parameters()) > sum(p.numel() for p in small.parameters())
    torch.testing.assert_close(predict(dense), predict(small), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pth", "dense", "diffusers"])
def test_the_cards_snippet_runs_and_generates_with_the_demo_model(
    form: Format, tmp_path: Path, fresh: Fresh
) -> None:
    unet = loading.load_pipeline("demo", device="cpu").unet
    variant = save_pruned(unet, tmp_path / "s10", "demo")
    export(variant, form, tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text()
    assert f"{check_files(variant)['params']:,}" in card
    assert "0.25" in card
    assert "applies to these weights: apache-2.0." in card
    assert card.startswith("---\nlibrary_name: diffusers\n")
    assert 'license: "apache-2.0"' in card.partition("\n---\n")[0]
    assert "base_model" not in card, "demo is on no hub"
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    paint = "assert Path('picture.png').stat().st_size\n"
    if form == "pth":
        paint += "assert pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.heads >= 1\n"
    fresh(f"from pathlib import Path\n{found[1]}{paint}", tmp_path / "out")


@pytest.mark.parametrize(
    ("readme", "said"),
    [
        ("---\ntags: [a]\nlicense: 'mit'\n---\n", "weights: mit."),
        ("---\ntags: [a]\n---\nlicense: mit\n", "weights; SDXL 1.0's is openrail++."),
        (None, "weights; SDXL 1.0's is openrail++."),
    ],
)
def test_the_licence_is_that_of_the_base(
    unet: UNet2DConditionModel, tmp_path: Path, readme: str | None, said: str
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    if readme is not None:
        (base / "README.md").write_text(readme)
    variant = save_pruned(unet, tmp_path / "s10", str(base))
    export(variant, "diffusers", tmp_path / "out", base="owner/name")
    card = (tmp_path / "out" / CARD).read_text()
    assert said in card
    head, _, _ = card.partition("\n---\n")
    assert 'base_model: "owner/name"' in head
    assert ('license: "mit"' in head) == ("mit" in said), "a licence that nobody knows is not told"


@pytest.mark.slow
def test_the_published_use_runs_as_written(tmp_path: Path, fresh: Fresh) -> None:
    unet = loading.load_pipeline("demo", device="cpu").unet
    variant = save_pruned(unet, tmp_path / "s10", "demo")
    export(variant, "pth", tmp_path / "out")
    again = torch.load(tmp_path / "out" / "unet_pruned.pth", weights_only=False)
    assert digest(again.state_dict()) == digest(load_unet(variant).state_dict())
    code = """
import sys, torch
from core.loading import load_pipeline
pipe = load_pipeline("demo", device="cpu")
path = "unet_pruned.pth"
before = set(sys.modules)
pipe.unet = torch.load(path, weights_only=False)
assert not [name for name in set(sys.modules) - before if name.startswith("core")]
assert pipe("a red circle", num_inference_steps=1).images[0].size
"""
    fresh(code, tmp_path / "out")


def test_a_damaged_variant_and_a_taken_folder_are_refused(variant: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BadInput, match="exists already"):
        export(variant, "pth", tmp_path / "out")
    weights = variant / "unet" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BadInput, match="cut short or changed"):
        export(variant, "dense", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_stop_between_two_steps_leaves_nothing(variant: Path, tmp_path: Path) -> None:
    asked = 0

    def at(number: int) -> Callable[[], bool]:
        nonlocal asked
        asked = 0

        def cancelled() -> bool:
            nonlocal asked
            asked += 1
            return asked == number

        return cancelled

    export(variant, "diffusers", tmp_path / "whole", cancelled=at(0))
    steps = asked
    assert steps > 4
    for number in range(1, steps + 1):
        with pytest.raises(Cancelled):
            export(variant, "diffusers", tmp_path / "out", cancelled=at(number))
        assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


@pytest.mark.parametrize("name", ["/proc/out", "n" * 250])
def test_where_nothing_can_be_made_is_said(variant: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        BadInput, match=r"(out|n) cannot be written \(.*\): export to another folder"
    ):
        export(variant, "diffusers", tmp_path / name)


def test_a_full_disk_is_no_fault_of_the_request(
    variant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OSError, match="No space left"):
        export(variant, "diffusers", tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))
