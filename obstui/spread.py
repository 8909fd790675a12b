"""Whether times differ by more than they scatter: medians alone show noise as if it were a fact."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Quartiles = tuple[float, float]
_ANY = 0.0, math.inf

NOISE = "~ within noise: not told apart from the dense model's time."


def unsure(result: Mapping[str, Any], key: str) -> frozenset[str]:
    """The variants of a bench or a comparison whose `step_ms` or `image_s` is not told from the
    dense model's: the quartiles overlap, or are not known. The dense model's are also those that it
    has at the end; where the machine has changed its pace by then, as much again on either side
    might be the change."""
    known = _quartiles(result, key)
    low, high = _both(known["dense"], _at_the_end(result, key)) if "dense" in known else _ANY
    models = {
        str(row.get("model")) for row in (*_rows(result, "latency"), *_rows(result, "models"))
    }
    return frozenset(
        name
        for name in models - {"dense"}
        if name not in known or (known[name][0] <= high and low <= known[name][1])
    )


def _quartiles(result: Mapping[str, Any], key: str) -> dict[str, Quartiles]:
    """By model: those that a bench has measured, else those of a comparison's pictures."""
    found = {
        str(row.get("model")): (float(row[f"{key}_low"]), float(row[f"{key}_high"]))
        for row in _rows(result, "latency")
        if row.get(f"{key}_low") is not None and row.get("repeats") != 1
    }
    seconds: dict[str, list[float]] = {}
    for image in _rows(result, "images") if key == "image_s" else ():
        if image.get("seconds") is not None:
            seconds.setdefault(str(image.get("model")), []).append(float(image["seconds"]))
    return found | {model: _of(values) for model, values in seconds.items() if len(values) > 1}


def _at_the_end(result: Mapping[str, Any], key: str) -> Quartiles | None:
    """What the dense model took after all variants, where a job of a newer version has told."""
    for row in _rows(result, "latency"):
        if (again := row.get("again")) is not None:
            return float(again[f"{key}_low"]), float(again[f"{key}_high"])
    seconds = (result.get("reseed") or {}).get("seconds") if key == "image_s" else None
    return _of(seconds) if seconds else None


def _both(first: Quartiles, last: Quartiles | None) -> Quartiles:
    if last is None:
        return first
    apart = max(0.0, last[0] - first[1], first[0] - last[1])
    return min(first[0], last[0]) - apart, max(first[1], last[1]) + apart


def _of(values: Sequence[float]) -> Quartiles:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _rows(result: Mapping[str, Any], what: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(result.get(what) or ())
