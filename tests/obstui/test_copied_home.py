"""A state folder that was copied stands alone: nothing in it reads, or deletes, the original's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from obstui.config import Paths
from obstui.models import find_variant, remove_variant
from obstui.retention import forget
from obstui.specs import CompareSpec, GenerateSpec, PruneSpec
from obstui.store import Reader, Refused, Store
from tests.obstui.test_store_dependencies import run


@pytest.fixture
def copied(store: Store, paths: Paths, tmp_path: Path) -> Paths:
    """The copy of a state folder in which job 1 has made a variant, job 2 a picture, and job 3
    paints."""
    ulid = store.enqueue(PruneSpec(sparsity=(0.3,))).ulid
    folder = paths.output(ulid) / "s30"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("mine")
    variant = {"id": "1@30", "sparsity": 0.3, "path": str(folder)}
    store.finish(run(store, 1), "succeeded", result={"variants": [variant]})
    for job_id in (2, 3):
        job = store.enqueue(GenerateSpec(prompts=("a cat",)))
        claim = run(store, job_id)
        picture: dict[str, Any] = {"path": str(paths.output(job.ulid) / "0.png"), "prompt": "a cat"}
        store.append(claim, [("image_saved", picture)])
        if job_id == 2:
            export = {"folder": str(paths.output(job.ulid) / "1@30-pth"), "path": "/data/own"}
            result = {"images": [picture], "export": export}
            store.finish(claim, "succeeded", result=result)
        else:
            store.progress(claim, {"phase": "paint", "preview": picture["path"]})
    home = tmp_path / "copy"
    shutil.copytree(paths.home, home)
    return Paths(home, home / "jobs.db")


def test_a_copy_finds_its_own_files(paths: Paths, copied: Paths) -> None:
    with Reader.open(copied) as reader:
        painted, paints = reader.job(2), reader.job(3)
        assert painted is not None
        assert painted.result is not None
        assert paints is not None
        assert paints.progress is not None
        shown = [image.path for image in reader.images(limit=9)]
        told = reader.events(3, kinds=["image_saved"])[0].payload["path"]
        variant = find_variant(reader, "1@30")
    assert painted.result["export"]["path"] == "/data/own"
    every = [
        variant,
        painted.result["export"]["folder"],
        painted.result["images"][0]["path"],
        told,
        paints.progress["preview"],
        *shown,
    ]
    assert len(every) == 7
    assert all(Path(path).is_relative_to(copied.home) for path in every)
    with Store.open(copied) as store:
        store.enqueue(CompareSpec(variants=("1@30",)))
        claim = store.claim("w", "cpu")
        assert claim is not None
        assert claim.variants == {"1@30": str(variant)}


def test_what_is_deleted_in_a_copy_stays_in_the_original(paths: Paths, copied: Paths) -> None:
    with Store.open(copied) as store:
        gone = remove_variant(store, "1@30")
        assert gone.is_relative_to(copied.home)
        assert not gone.exists()
    with Reader.open(paths) as reader:
        assert (find_variant(reader, "1@30") / "weights").read_text() == "mine"


def test_nothing_outside_the_state_folder_is_deleted(paths: Paths, copied: Paths) -> None:
    """A copy whose jobs folder is a link to the original's."""
    shutil.rmtree(copied.home / "jobs")
    (copied.home / "jobs").symlink_to(paths.home / "jobs")
    with Store.open(copied) as store:
        with pytest.raises(Refused, match="outside the state folder"):
            remove_variant(store, "1@30")
        with pytest.raises(Refused, match="outside the state folder"):
            forget(store, 2)
    with Reader.open(copied) as reader:
        assert find_variant(reader, "1@30").is_dir()
        assert reader.job(2)
