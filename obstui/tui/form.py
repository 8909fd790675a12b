"""What the form for a new job asks, and how its answers become a spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstui import specs
from obstui.prompt_files import read_prompts

KINDS = (
    ("prune", "prune: make smaller variants of a model"),
    ("generate", "generate: paint prompts"),
    ("compare", "compare: dense against variants"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One question. `kinds` are the job kinds that ask it; `number` is int, float or None (text).
    Empty answers leave the spec's default, which `hint` names."""

    key: str
    label: str
    hint: str = ""
    kinds: tuple[str, ...] = ("prune", "generate", "compare")
    choices: tuple[str, ...] = ()
    wide: bool = False
    start: str = ""


_PRUNE, _PAINT, _SAMPLED = ("prune",), ("generate", "compare"), ("prune", "compare")

FIELDS = (
    Field("name", "name", "a label of your own", wide=True),
    Field("model", "model", "demo, owner/name, a folder or a .safetensors file", wide=True,
          start="demo"),
    Field("sparsity", "sparsity", "0.1,0.2,0.3", kinds=_PRUNE, start="0.1,0.2,0.3"),
    Field("method", "method", kinds=_PRUNE, choices=specs.METHODS),
    Field("prompts", "prompts", kinds=("prune", "generate", "compare"), wide=True),
    Field("prompt_file", "prompt file", "a text file, one prompt a line", wide=True),
    Field("variant", "variant", kinds=("generate",), wide=True),
    Field("variants", "variants", kinds=("compare",), wide=True),
    Field("negative", "negative", "what must not be in the picture", kinds=_PAINT, wide=True),
    Field("num_prompts", "bundled", "number of bundled prompts", kinds=_SAMPLED),
    Field("timestep_weights", "weights", kinds=_PRUNE,
          choices=("log_decrease", *(w for w in specs.TIMESTEP_WEIGHTS if w != "log_decrease"))),
    Field("damping", "damping", "0.01", kinds=_PRUNE),
    Field("count", "pictures", "1 a prompt", kinds=_PAINT),
    Field("seed", "seed", "0"),
    Field("steps", "steps", "the model's own"),
    Field("guidance", "guidance", "the model's own"),
    Field("size", "size", "pixels a side"),
)  # fmt: skip

_NUMBERS = {"num_prompts": int, "count": int, "seed": int, "steps": int, "size": int,
            "guidance": float, "damping": float}  # fmt: skip
_LEAST: dict[str, dict[str, Any]] = {
    "prune": {"kind": "prune"},
    "generate": {"kind": "generate", "prompts": ["a prompt"]},
    "compare": {"kind": "compare", "variants": ["1@10"]},
}


def spec_data(kind: str, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers as `specs.parse` takes them; empty ones are left out. Raises BadSpec when the
    prompt file cannot be read."""
    data: dict[str, Any] = {"kind": kind}
    for field in FIELDS:
        value = answers.get(field.key)
        if kind in field.kinds and field.key != "prompt_file" and value not in ("", None, [], ()):
            data[field.key] = _typed(field.key, value)
    if "prompts" not in data and (path := answers.get("prompt_file")):
        first = data.get("num_prompts", specs.DEFAULT_PROMPTS.get(kind))
        wanted = first if isinstance(first, int) and first > 0 else None
        data["prompts"] = read_prompts(Path(path).expanduser(), wanted).prompts
    return data


def _typed(key: str, value: Any) -> Any:
    """Numbers as numbers; what is none goes on as text for the spec to refuse in its own words."""
    if key == "prompts":
        return [line.strip() for line in value.splitlines() if line.strip()] or [""]
    if key in _NUMBERS:
        try:
            return _NUMBERS[key](value)
        except ValueError:
            return value
    return value


def fault(kind: str, key: str, value: Any) -> str:
    """The sentence under a field, "" when its answer is good. Each field is judged alone, so that a
    sentence stands under the field it is about."""
    if value in ("", None, [], ()):
        return _missing(kind, key)
    if key == "prompt_file":
        return ""  # read in a thread when the job is queued
    if key == "model":
        return ""  # its files are looked at then too
    if key in _NUMBERS and isinstance(_typed(key, value), str):
        return "Write a whole number." if _NUMBERS[key] is int else "Write a number."
    try:
        specs.parse({**_LEAST[kind], key: _typed(key, value)})
    except specs.BadSpec as err:
        return _about_field(str(err), key)
    return ""


def _missing(kind: str, key: str) -> str:
    if (kind, key) == ("compare", "variants"):
        return "Choose at least one variant (Space marks it)."
    return ""


def _about_field(words: str, key: str) -> str:
    """The spec's sentence without the field's name: it stands under the field already."""
    words = re.sub(rf"(?:^|; ){re.escape(key)}(?:\.\d+)?: ", " ", words, count=1).strip()
    words = re.sub(r" \(given: .*\)(?=\.?$)", "", words)
    words = re.sub(r"^input should be", "must be", words, flags=re.IGNORECASE)
    return words[:1].upper() + words[1:]


def field_of(words: str) -> str | None:
    """The field that a spec's sentence starts with, if it is one of ours."""
    name = words.partition(":")[0].partition(".")[0]
    return name if name in {field.key for field in FIELDS} else None


@dataclass(frozen=True, slots=True)
class Offer:
    """A variant that can be chosen: its id, and what is known about it."""

    id: str
    words: str
    model: str


def offers(jobs: Any) -> list[Offer]:
    """Variants that prune jobs have made or are going to make, newest job first."""
    found = []
    for job in sorted(jobs, key=lambda job: -job.id):
        if job.kind != "prune" or job.state in ("failed", "cancelled", "skipped", "quarantined"):
            continue
        model = str(job.spec.get("model"))
        ready = job.state == "succeeded"
        for level in job.spec.get("sparsity") or ():
            share, by = specs.percent(level), job.spec["method"]
            words = f"{share} % of {specs.short_model(model)} by {by}"
            if not ready:
                words += f", once job {job.id} is done"
            found.append(Offer(specs.variant_id(job.id, level), words, model))
    return found
