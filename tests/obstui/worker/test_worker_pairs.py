"""What a worker hands to an export for its card: which pictures, and what was measured of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from obstui.worker.pairs import compared
from tests.obstui import tui_store

EXPORT = {"kind": "export", "variant": "1@30"}


def painted(scene: tui_store.Scene, prompts: list[str], **spec: Any) -> list[Path]:
    """A comparison of 1@30 with files on disk; those of the variant are returned."""
    job = scene.queue("compare", variants=["1@30"], prompts=prompts, **spec)
    claim = scene.start()
    images, own = [], []
    folder = scene.paths.output(job.ulid)
    folder.mkdir(parents=True)
    for model in ("dense", "11@30", "1@30"):
        for seed, prompt in enumerate(prompts):
            path = folder / f"{model}-{seed}.png"
            path.write_bytes(b"a picture")
            images.append({"path": str(path), "model": model, "prompt": prompt, "seed": seed})
            own += [path] if model == "1@30" else []
    scene.finish(claim, "succeeded", result={
        "images": images, "reseed": {"pictures": 4, "psnr": 11.3, "ssim": 0.31},
        "models": [{"model": "1@30", "sparsity": 0.3, "params": 7, "psnr": 31.0, "ssim": 0.94,
                    "attributes": 0.9}],
    })  # fmt: skip
    return own


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tui_store.Scene]:
    """Job 1 has made 1@30."""
    scene = tui_store.Scene(tmp_path)
    scene.queue("prune", sparsity=[0.3])
    made = {"id": "1@30", "sparsity": 0.3, "path": str(tmp_path)}
    scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    yield scene
    scene.close()


def pruned(scene: tui_store.Scene, variant: str = "1@30") -> list[str]:
    found = compared(scene.paths, {**EXPORT, "variant": variant})
    return [pair["pruned"] for pair in found.get("pairs", ())]


def test_the_comparison_with_the_most_pictures_left(scene: tui_store.Scene) -> None:
    assert compared(scene.paths, EXPORT) == {}
    small = painted(scene, ["f", "g"])
    large = painted(scene, ["a", "b", "c", "d", "e"])
    painted(scene, ["h"])
    assert pruned(scene, "1@30.0") == [str(path) for path in large[:4]]
    for path in large[:4]:
        path.unlink()
    [pair, _] = compared(scene.paths, EXPORT)["pairs"]
    assert (pair["prompt"], pair["seed"], pair["pruned"]) == ("f", 0, str(small[0]))
    assert Path(pair["dense"]).name == "dense-0.png"


def test_of_as_many_pictures_those_in_the_models_own_settings(scene: tui_store.Scene) -> None:
    usual = painted(scene, ["a"])
    painted(scene, ["a"], steps=10, negative="blurry")
    assert pruned(scene) == [str(usual[0])]
    newer = painted(scene, ["a"])
    assert pruned(scene) == [str(newer[0])]


def test_what_was_measured_comes_with_its_conditions(scene: tui_store.Scene) -> None:
    painted(scene, ["a", "b"], steps=10, negative="blurry")
    found = compared(scene.paths, EXPORT)
    assert found["figures"] == {
        "PSNR (dB)": "31.0", "SSIM": "0.940", "attributes (%)": "90.0",
        "for scale, the dense model with another seed": "PSNR (dB) 11.3, SSIM 0.310",
    }  # fmt: skip
    assert "2 own prompts with 1 seed each, 10 steps, guidance 2" in found["conditions"]
    assert "negative prompt “blurry”" in found["conditions"]


def test_other_jobs_and_variants_of_no_job_have_none(scene: tui_store.Scene) -> None:
    painted(scene, ["a"])
    assert compared(scene.paths, {"kind": "bench", "variants": ["1@30"]}) == {}
    assert compared(scene.paths, {**EXPORT, "variant": "/some/folder"}) == {}
    assert compared(scene.paths, {**EXPORT, "variant": "2@30"}) == {}
