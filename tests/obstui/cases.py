"""One case of many where all of them would be too many for ten minutes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_now(cases: Iterable[Any]) -> list[Any]:
    """The first case in every run, the others with what is slow (make test-slow, CI)."""
    first, *others = cases
    return [first, *(pytest.param(case, marks=pytest.mark.slow) for case in others)]
