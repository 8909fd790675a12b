"""The pictures that an export's card shows: of the newest comparison of its variant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obstui.config import Paths
from obstui.specs import parse_variant_id, variant_id
from obstui.store import ImageFilter, Reader, StoreError

MOST = 4
_READ = 5000


def side_by_side(paths: Paths, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """At most four prompts and seeds, each with the files of the dense model's picture and the
    variant's. None for other jobs than exports, for a variant that is no job's, and when no
    comparison's pictures are left: a card does without."""
    named = parse_variant_id(str(spec.get("variant"))) if spec.get("kind") == "export" else None
    if named is None:
        return []
    name = variant_id(*named)
    try:
        with Reader.open(paths) as reader:
            shown = reader.images(ImageFilter(model=name), limit=_READ)
            for job_id in dict.fromkeys(image.job_id for image in shown):
                if found := _pairs_of(reader, job_id, name):
                    return found[:MOST]
    except StoreError:
        pass
    return []


def _pairs_of(reader: Reader, job_id: int, name: str) -> list[dict[str, Any]]:
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for image in reader.images(ImageFilter(job=job_id), limit=_READ):
        if Path(image.path).is_file():
            rows.setdefault((image.prompt, image.seed), {})[image.model] = image.path
    return [
        {"prompt": prompt, "seed": seed, "dense": files["dense"], "pruned": files[name]}
        for (prompt, seed), files in rows.items()
        if "dense" in files and name in files
    ]
