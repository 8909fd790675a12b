"""The main job on the bundled model, thin: prune, compare, through the real worker and child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from core.checkpoint import load_unet
from core.demo import MODEL_DIR


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def obstui(home: Path, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "obstui", *arguments],
        env={**os.environ, "OBSTUI_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_prune_then_paint_the_same_pictures(home: Path) -> None:
    obstui(home, "prune", "--sparsity", "0.1,0.5", "--num-prompts", "8", "--steps", "4",
           "--held-out", "2", "--json")  # fmt: skip
    obstui(
        home, "compare", "--variants", "1@10,1@50", "--num-prompts", "2", "--steps", "2", "--json"
    )
    subprocess.run(
        [sys.executable, "-m", "obstui", "worker", "run", "--exit-when-idle"],
        env={**os.environ, "OBSTUI_HOME": str(home)},
        check=True,
        timeout=240,
    )
    prune, compare = obstui(home, "wait", "1", "2", "--json")
    assert (prune["state"], compare["state"]) == ("succeeded", "succeeded")
    log = subprocess.run(
        [sys.executable, "-m", "obstui", "logs", "1"],
        env={**os.environ, "OBSTUI_HOME": str(home)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert log.count(" solved ") == 51

    variants = prune["result"]["variants"]
    assert [v["id"] for v in variants] == ["1@10", "1@50"]
    assert variants[0]["params"] > variants[1]["params"]
    assert all((Path(v["path"]) / "unet" / "pruning.json").is_file() for v in variants)

    dense, light, heavy = compare["result"]["models"]
    assert (dense["model"], light["model"], heavy["model"]) == ("dense", "1@10", "1@50")
    assert dense["params"] > light["params"] > heavy["params"]
    assert light["latent_distance"] < heavy["latent_distance"]
    pictures = {image["path"] for image in compare["result"]["images"]}
    assert len(pictures) == 6
    assert len({Image.open(path).tobytes() for path in pictures}) == 6

    unet = load_unet(variants[0]["path"], dtype=torch.float32)
    plain = StableDiffusionXLPipeline.from_pretrained(MODEL_DIR, unet=unet, dtype=torch.float32)
    [picture] = plain("a large red circle", num_inference_steps=2, guidance_scale=3.0).images
    assert picture.size == (64, 64)
