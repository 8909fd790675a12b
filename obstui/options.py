"""What can be said of any job, whatever it does: when it may run, how long, after which others."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from obstui.specs import BadSpec, JobSpec, explain, no_switch
from obstui.windows import parse_window

_DURATION = re.compile(r"^(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?$")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_LONGEST = 365 * 86400
_AFTER = re.compile(r"^#?\d{1,18}$")


def seconds(value: Any) -> float:
    """ "8h", "1h30m", "90m" or "45s" as seconds. A bare number is refused: who writes 8 means hours
    as often as not. Raises ValueError."""
    text = "" if isinstance(value, bool) else str(value).strip().replace(" ", "").lower()
    if re.fullmatch(r"[\d.]{1,18}", text):
        raise ValueError(f"{text} of what? Write {text}h, {text}m or {text}s")
    match = _DURATION.match(text)
    if not match or not any(match.groups()):
        raise ValueError("write a length of time as 8h, 90m or 1h30m")
    total = sum(int(n) * _SECONDS[unit] for unit, n in match.groupdict().items() if n)
    if not 1 <= total <= _LONGEST:
        raise ValueError("a length of time lies between a second and a year")
    return float(total)


def duration(value: float) -> str:
    """5400.0 -> "1h30m", as `seconds` reads it."""
    left, text = round(value), ""
    for unit, size in _SECONDS.items():
        if left >= size:
            text += f"{left // size}{unit}"
            left %= size
    return text


def _window(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write a time window as 23:00-07:00")
    return parse_window(value)


def _after(value: Any) -> Any:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, int):
        parts = [parts]
    if not isinstance(parts, (list, tuple)):
        raise ValueError("name jobs by their ids, for example 12, 13")
    named = tuple(dict.fromkeys(str(part).strip() for part in parts))
    if not all(_AFTER.match(name) for name in named):
        raise ValueError("name jobs by their ids, for example 12, 13")
    return named


class JobOptions(BaseModel):
    """A job runs only in its `window` and is checkpointed at its end; it fails once an attempt has
    run for `max_runtime` seconds; it starts only once the jobs in `after` have succeeded ("12", or
    "#0" for the first job of the same request)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    priority: Annotated[int, BeforeValidator(no_switch)] = 0
    held: bool = False
    window: Annotated[str, BeforeValidator(_window)] | None = None
    max_runtime: Annotated[float, BeforeValidator(seconds)] | None = None
    after: Annotated[tuple[str, ...], BeforeValidator(_after), Field(max_length=1000)] = ()


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued. Among several its spec may name variants of an earlier one as "#0@30":
    the 30 % of the first; they get their ids only as they are queued. `origin` is where it was
    asked for ("night.yaml, line 3"), for a refusal to name."""

    spec: JobSpec
    options: JobOptions = field(default_factory=JobOptions)
    origin: str = ""


def job_options(data: dict[str, Any]) -> JobOptions:
    """Options from plain data. Raises BadSpec with one sentence that names every fault."""
    try:
        return JobOptions(**data)
    except ValidationError as err:
        raise BadSpec(explain(err)) from None
