"""Several values for some fields of a job: one job for each combination."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from obstui.text import one_line

MAX_JOBS = 2_000
"""At once, whoever asks for them."""


def size(matrix: Mapping[str, Sequence[Any]]) -> int:
    """How many combinations there are; 1 where nothing varies."""
    return prod(len(values) for values in matrix.values())


def combinations(
    fields: Mapping[str, Any], matrix: Mapping[str, Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """`fields` with each combination of the values in `matrix`, the last field's changing fastest.
    A job's name tells which one it is, after its own or else its kind."""
    for values in itertools.product(*matrix.values()):
        chosen = dict(zip(matrix, values, strict=True))
        data = {**fields, **chosen}
        if chosen:
            what = ", ".join(f"{key}={one_line(value, limit=60)}" for key, value in chosen.items())
            data["name"] = one_line(f"{data.get('name') or data['kind']} {what}", limit=120)
        yield data
