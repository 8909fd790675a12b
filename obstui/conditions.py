"""Under which conditions a job measured, in words: a figure means nothing without them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from obstui import picture_files
from obstui.measured import SETTINGS, plain
from obstui.painted import made_with
from obstui.specs import PruneSpec
from obstui.store.views import JobView
from obstui.text import one_line


def conditions(job: JobView, devices: Mapping[str, str]) -> str:
    """One line for a comparison, a bench or a prune that has succeeded: what was painted how often,
    with which settings, where and when. What nobody knows is left out. `devices` gives devices
    their names."""
    result = job.result or {}
    if job.kind == "prune":
        parts = _calibrated(job.spec)
    elif job.kind == "bench":
        parts = [_timed(job.spec), *_settings(job, next(iter(result.get("latency") or ()), {}))]
    else:
        parts = [_pictures(job.spec, result), *_settings(job, {"size": _side(result)})]
    where = _device(job, result, devices)
    day = time.strftime("%d %B %Y", time.localtime(job.finished_at)) if job.finished_at else ""
    return ", ".join(filter(None, [*parts, where and f"on {where}", day]))


def _calibrated(spec: Mapping[str, Any]) -> list[str]:
    """Of a prune: from what it knows its errors. Magnitude sees no prompt."""
    if spec.get("method") != "obs":
        return ["no calibration"]
    prompts = len(spec.get("prompts") or ()) or spec.get("num_prompts") or 0
    usual = {key: PruneSpec.model_fields[key].default for key in SETTINGS if key != "num_prompts"}
    return [
        f"calibrated on {_count(int(prompts), f'{_own(spec)}prompt')}",
        f"noise error on {spec['held_out']} others" if spec.get("held_out") else "",
        *(
            f"{SETTINGS[key]} {plain(spec[key])}"
            for key, default in usual.items()
            if spec.get(key, default) != default
        ),
    ]


def _own(spec: Mapping[str, Any]) -> str:
    """Before "prompts": whether they are others than the built-in ones."""
    return "own " if spec.get("prompts") else ""


def _timed(spec: Mapping[str, Any]) -> str:
    warm_up = int(spec.get("warm_up") or 0)
    return f"median of {_count(int(spec.get('repeats') or 0), 'picture')}" + (
        f" after {warm_up} to warm up" if warm_up else ""
    )


def _pictures(spec: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Prompts and seeds as they were painted: built-in ones are not in the spec."""
    shots = {(image.get("prompt"), image.get("seed")) for image in result.get("images") or ()}
    prompts = len({prompt for prompt, _ in shots})
    if not prompts:
        return ""
    each = _count(len(shots) // prompts, "seed")
    return f"{_count(prompts, f'{_own(spec)}prompt')} with {each}{' each' if prompts > 1 else ''}"


def _settings(job: JobView, found: Mapping[str, Any]) -> list[str]:
    """Those of the job, what the result itself `found` before what was asked for."""
    made = made_with(job)
    steps, guidance = found.get("steps") or made.steps, found.get("guidance", made.guidance)
    size, dtype = found.get("size") or made.size, found.get("dtype")
    return [
        f"{steps} steps",
        f"guidance {guidance:g}",
        one_line(made.scheduler, limit=40) if made.scheduler else "the model's own scheduler",
        f"{size} x {size}" if size else "",
        one_line(dtype, limit=20) if dtype else "",
        f"negative prompt “{one_line(made.negative, limit=80)}”" if made.negative else "",
        f"seeds from {job.spec['seed']}" if job.spec.get("seed") else "",
    ]


def _side(result: Mapping[str, Any]) -> int | None:
    """Pixels of the first picture that is still there: a size left open is in no spec."""
    from PIL import Image

    for image in result.get("images") or ():
        try:
            with picture_files.opened(str(image.get("path"))) as picture:
                return picture.width
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return None


def _device(job: JobView, result: Mapping[str, Any], devices: Mapping[str, str]) -> str:
    """As a bench describes it, else the device's name, as far as it is known."""
    told = next((row.get("device") for row in result.get("latency") or ()), None)
    if told or not job.device:
        return one_line(told or "", limit=80)
    name = devices.get(job.device, "")
    known = name if name and name != job.device else ""
    return one_line(f"{job.device} ({known})" if known else job.device, limit=80)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
