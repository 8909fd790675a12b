"""Other ways through the noise than the one a model comes with, by their usual names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import diffusers

from core.errors import BadInput

_KNOWN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ddim": ("DDIM", "DDIMScheduler", {}),
    "euler": ("Euler", "EulerDiscreteScheduler", {}),
    "euler_a": ("Euler a", "EulerAncestralDiscreteScheduler", {}),
    "heun": ("Heun", "HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPM++ 2M", "DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
    "dpmpp_2m_karras": ("DPM++ 2M Karras", "DPMSolverMultistepScheduler",
                        {"use_karras_sigmas": True}),
    "unipc": ("UniPC", "UniPCMultistepScheduler", {}),
}  # fmt: skip
NAMES = tuple(_KNOWN)


class _Sampled(Protocol):
    scheduler: Any


@contextmanager
def using(pipe: _Sampled, name: str | None) -> Iterator[str]:
    """Let `pipe` denoise with the scheduler called `name`, None for its own, and give it its own
    back at the end. The value is the name that pictures carry, which other programs know.

    Raises BadInput for a name that is not in `NAMES`.
    """
    own = pipe.scheduler
    if name is None:
        yield type(own).__name__.removesuffix("Scheduler")
        return
    if name not in _KNOWN:
        raise BadInput(f"There is no scheduler {name}: choose one of {', '.join(NAMES)}")
    title, kind, options = _KNOWN[name]
    pipe.scheduler = getattr(diffusers, kind).from_config(own.config, **options)
    try:
        yield title
    finally:
        pipe.scheduler = own
