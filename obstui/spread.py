"""Whether times differ by more than they scatter: medians alone show noise as if it were a fact."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

Quartiles = tuple[float, float]


def unsure(result: Mapping[str, Any], key: str) -> frozenset[str]:
    """The variants of a bench or a comparison whose `step_ms` or `image_s` is not told from the
    dense model's: the quartiles overlap, or are not known."""
    known = _quartiles(result, key)
    low, high = known.get("dense", (0.0, float("inf")))
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
    for model, values in seconds.items():
        if len(values) > 1:
            low, _, high = statistics.quantiles(values, n=4, method="inclusive")
            found[model] = low, high
    return found


def _rows(result: Mapping[str, Any], what: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(result.get(what) or ())
