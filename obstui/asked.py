"""What a job was asked to do, in words: the settings that were chosen, and the usual ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from obstui.specs import CALIBRATION_STEPS, BadSpec, parse
from obstui.text import one_line

Settings = list[tuple[str, str]]
"""Names and values, in words."""

_APART = ("kind", "name", "prompts")


def settings(spec: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """What was set, and what was left as it is by default. Of a spec that another version wrote,
    all counts as set."""
    try:
        model = parse(dict(spec))
    except BadSpec:
        return [(key, _words(key, value)) for key, value in spec.items() if key not in _APART], []
    chosen: Settings = []
    usual: Settings = []
    for key, field in type(model).model_fields.items():
        if key in _APART:
            continue
        value = getattr(model, key)
        same = value == field.get_default(call_default_factory=True)
        if key == "steps" and value is None and model.kind == "prune":
            value = CALIBRATION_STEPS
        entry = (key.replace("_", " "), _words(key, value))
        (usual if same else chosen).append(entry)
    return chosen, usual


def _words(key: str, value: Any) -> str:
    if value is None or value in ("", ()):
        return "the model's own" if key in ("steps", "guidance", "size") else "–"
    if key == "sparsity":
        levels = value if isinstance(value, (tuple, list)) else (value,)
        return ", ".join(f"{float(level) * 100:g} %" for level in levels)
    if isinstance(value, (tuple, list)):
        return one_line(", ".join(str(item) for item in value), limit=500)
    return one_line(value, limit=500)
