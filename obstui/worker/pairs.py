"""What an export's card tells of a comparison: its pictures, its figures, its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from obstui.config import Paths
from obstui.specs import parse_variant_id, variant_id
from obstui.store import ImageFilter, JobView, Reader, StoreError

MOST = 4
_READ = 5000


def compared(paths: Paths, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Of the comparison with the most pictures left of the variant and the dense model, of several
    with as many the one in the model's own settings, then the newest: at most four prompts and
    seeds, each with both files, and what was measured how. Empty for other jobs than exports, for a
    variant that is no job's, and where no such pictures are left: a card does without."""
    named = parse_variant_id(str(spec.get("variant"))) if spec.get("kind") == "export" else None
    if named is None:
        return {}
    from obstui.conditions import conditions

    name = variant_id(*named)
    try:
        with Reader.open(paths) as reader:
            shown = reader.images(ImageFilter(model=name), limit=_READ)
            jobs = {image.job_id: reader.job(image.job_id) for image in shown}
            found = [
                (pairs, job)
                for job in jobs.values()
                if job is not None and (pairs := _pairs_of(reader, job.id, name))
            ]
            if not found:
                return {}
            pairs, job = max(found, key=lambda each: (len(each[0]), *_usual(each[1])))
            devices = {worker.device: worker.device_name for worker in reader.workers()}
            told = conditions(job, devices) if job.kind == "compare" else ""
    except StoreError:
        return {}
    return {"pairs": pairs[:MOST], "figures": _figures(job, name), "conditions": told}


def _usual(job: JobView) -> tuple[bool, int]:
    own = ("steps", "guidance", "size", "negative")
    return not any(job.spec.get(key) for key in own), job.id


def _figures(job: JobView, name: str) -> dict[str, str]:
    """How far the variant is from the dense model; for scale also the dense one's other seeds."""
    from obstui.measured import QUALITIES, measured, reseed_of

    row = next((row for row in measured([job]) if row.model == name), None)
    known = ((metric, metric.of(row)) for metric in QUALITIES) if row else ()
    figures = {metric.label: metric.words(value) for metric, value in known if value is not None}
    reseed = reseed_of(job.result)
    if figures and reseed is not None:
        figures["for scale, the dense model with another seed"] = reseed.words
    return figures


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
