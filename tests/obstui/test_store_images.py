"""The pictures of all jobs, as the gallery reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from obstui.config import Paths
from obstui.store import ImageFilter, Reader
from tests.obstui import tui_store


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tui_store.Scene]:
    """Job 1 succeeded with two pictures, job 2 failed after one, told twice; job 3 is a prune."""
    scene = tui_store.Scene(tmp_path)
    for number, state in ((1, "succeeded"), (2, "failed")):
        scene.queue("generate", prompts=["a Fox at 100 %", "an owl"][:number], model="demo")
        claim = scene.start()
        images = [
            {"path": f"/{number}/{i}.png", "thumbnail": f"/{number}/{i}.thumb.png",
             "model": "7@30" if i else "dense", "prompt": ["a Fox at 100 %", "an owl"][i],
             "seed": 5 + i, "seconds": 1.0}
            for i in range(3 - number)
        ]  # fmt: skip
        told = images if state == "succeeded" else [*images, *images]
        scene.store.append(claim, [("image_saved", image) for image in told])
        result = {"images": images} if state == "succeeded" else None
        scene.finish(claim, state, result=result)
    scene.queue("prune")
    yield scene
    scene.close()


def read(paths: Paths, limit: int = 100, **wanted: object) -> list[str]:
    with Reader.open(paths) as reader:
        found = reader.images(ImageFilter(**wanted), limit=limit)  # type: ignore[arg-type]
        return [image.path for image in found]


def test_newest_job_first_and_every_picture_once(scene: tui_store.Scene) -> None:
    assert read(scene.paths) == ["/2/0.png", "/1/0.png", "/1/1.png"]
    assert read(scene.paths, limit=2) == ["/2/0.png", "/1/0.png"]
    with Reader.open(scene.paths) as reader:
        last = reader.images(limit=9)[-1]
    assert (last.job_id, last.base, last.model, last.seed) == (1, "demo", "7@30", 6)
    assert last.thumbnail == "/1/1.thumb.png"


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        ({"job": 1}, ["/1/0.png", "/1/1.png"]),
        ({"seed": 6}, ["/1/1.png"]),
        ({"model": "7@"}, ["/1/1.png"]),
        ({"model": "DEMO"}, ["/2/0.png", "/1/0.png", "/1/1.png"]),
        ({"words": ("fox", "100 %")}, ["/2/0.png", "/1/0.png"]),
        ({"words": ("fox", "owl")}, []),
        ({"words": ("_",)}, []),
    ],
)
def test_a_filter_narrows(
    scene: tui_store.Scene, wanted: dict[str, object], paths: list[str]
) -> None:
    assert read(scene.paths, **wanted) == paths
