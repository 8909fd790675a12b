"""Which pictures a worker hands to an export for its card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from obstui.worker.pairs import side_by_side
from tests.obstui import tui_store

EXPORT = {"kind": "export", "variant": "1@30"}


def compared(scene: tui_store.Scene, prompts: list[str]) -> list[Path]:
    """A comparison of 1@30 with files on disk; those of the variant are returned."""
    job = scene.queue("compare", variants=["1@30"], prompts=prompts)
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
    scene.finish(claim, "succeeded", result={"images": images})
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


def test_the_newest_comparison_whose_pictures_are_left(scene: tui_store.Scene) -> None:
    assert side_by_side(scene.paths, EXPORT) == []
    older = compared(scene, ["a", "b", "c", "d", "e"])
    newer = compared(scene, ["f", "g"])
    newer[0].unlink()
    [pair] = side_by_side(scene.paths, EXPORT)
    assert (pair["prompt"], pair["seed"], pair["pruned"]) == ("g", 1, str(newer[1]))
    assert Path(pair["dense"]).name == "dense-1.png"
    newer[1].unlink()
    found = side_by_side(scene.paths, {**EXPORT, "variant": "1@30.0"})
    assert [pair["pruned"] for pair in found] == [str(path) for path in older[:4]]


def test_other_jobs_and_variants_of_no_job_have_none(scene: tui_store.Scene) -> None:
    compared(scene, ["a"])
    assert side_by_side(scene.paths, {"kind": "bench", "variants": ["1@30"]}) == []
    assert side_by_side(scene.paths, {**EXPORT, "variant": "/some/folder"}) == []
    assert side_by_side(scene.paths, {**EXPORT, "variant": "2@30"}) == []
