"""Several values for some fields of a job: one job for each combination."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from obstui.specs import BadSpec, parse
from obstui.text import one_line

MAX_JOBS = 2_000
"""At once, whoever asks for them."""


def size(matrix: Mapping[str, Sequence[Any]]) -> int:
    """How many combinations there are; 1 where nothing varies."""
    return prod(len(values) for values in matrix.values())


def combinations(
    fields: Mapping[str, Any], matrix: Mapping[str, Sequence[Any]], named: Iterable[str] = ()
) -> Iterator[dict[str, Any]]:
    """`fields` with each combination of the values in `matrix`, the last field's changing fastest.
    A job's name tells which one it is, after its own or else its kind; also the values of what is
    `named` besides."""
    keys = tuple(dict.fromkeys((*named, *matrix)))
    for values in itertools.product(*matrix.values()):
        data = {**fields, **dict(zip(matrix, values, strict=True))}
        if told := {key: data[key] for key in keys if key in data}:
            data["name"] = _name(data.get("name") or data["kind"], told)
        yield data


def own_name(spec: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What a person called a job ("" where nobody did), and the fields whose values `combinations`
    has put behind it; a name that says anything else of the job is all a person's."""
    name = str(spec.get("name") or "")
    start = _TOLD.search(name)
    if start is None:
        return name, ()
    parts = _NEXT.split(name[start.end(1) :])
    told = dict(part.split("=", 1) for part in parts)
    if not all(key in spec and _says(spec, key, text) for key, text in told.items()):
        return name, ()
    before = start[1].strip()
    return ("" if before == spec["kind"] else before), tuple(told)


def renamed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The name that a job has once its values have changed."""
    own, keys = own_name(before)
    told = {key: after[key] for key in keys if after.get(key) is not None}
    return _name(own or after["kind"], told) if told else own


def _name(own: str, told: Mapping[str, Any]) -> str:
    what = ", ".join(f"{key}={one_line(_alone(told[key]), limit=60)}" for key in told)
    return one_line(f"{own} {what}", limit=120)


def _alone(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _says(spec: Mapping[str, Any], key: str, text: str) -> bool:
    """Whether a field has this value, however it was written: 7 is 7.0, and 0.1 is [0.1]."""
    try:
        return parse({**spec, key: text.strip("[]")}) == parse(dict(spec))
    except BadSpec:
        return False


_TOLD = re.compile(r"^(.*?\s)(?=\w+=)")
_NEXT = re.compile(r", (?=\w+=)")
