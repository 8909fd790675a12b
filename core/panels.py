"""How a symmetric matrix is kept: the panels on and above its diagonal, and the bytes they take.

Four panels hold 5/8 of the matrix and cost 5/8 of its product; narrower ones save little more and
starve the matrix units.
"""

from __future__ import annotations

_PANELS = 4
_MIN_PANEL = 256


def panel_width(columns: int) -> int:
    """Rows of one panel of a Hessian of width `columns`."""
    return max(_MIN_PANEL, -(-columns // _PANELS))


def size_bytes(columns: int) -> int:
    """Memory of the panels of one Hessian in float32, in bytes."""
    step = panel_width(columns)
    return sum(4 * min(step, columns - at) * (columns - at) for at in range(0, columns, step))
