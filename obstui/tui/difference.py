"""Where two pictures differ, as a heat map in cividis, whose lightness alone tells the order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FULL = 128
"""The difference of a channel (of 255) that is drawn brightest; the same for all pictures, so that
maps can be compared with each other. Its square root is drawn: what gentle pruning leaves apart is
a few of 255, and would not be seen."""

_CIVIDIS = (
    (0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115),
    (138, 134, 120), (165, 156, 116), (195, 179, 105), (225, 204, 85), (254, 232, 56),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Distance:
    """Of two pictures: PSNR in dB (inf where they are equal), the mean difference of a channel, and
    the share of pixels with one above 16, both of 255."""

    psnr: float
    mean: float
    changed: float


def apart(a: Image, b: Image) -> Image:
    """The largest difference of a pixel's channels, in grey. `b` takes the size of `a`."""
    from PIL import ImageChops

    if a.size != b.size:
        b = b.resize(a.size)
    red, green, blue = ImageChops.difference(a, b).split()
    return ImageChops.lighter(red, ImageChops.lighter(green, blue))


def heat(a: Image, b: Image) -> Image:
    """The map of `apart`, RGB."""
    grey = apart(a, b)
    return _merged([grey.point(curve) for curve in _curves()])


def distance(a: Image, b: Image) -> Distance:
    """How far two pictures of one size are apart. Raises ValueError for two sizes."""
    from PIL import ImageChops, ImageStat

    if a.size != b.size:
        raise ValueError(f"pictures of {a.size} and {b.size}")
    stat = ImageStat.Stat(ImageChops.difference(a, b))
    error = sum(stat.sum2) / sum(stat.count)
    counts = apart(a, b).histogram()
    return Distance(
        psnr=10 * math.log10(255**2 / error) if error else math.inf,
        mean=sum(stat.sum) / sum(stat.count),
        changed=sum(counts[17:]) / sum(counts),
    )


def ramp(steps: int) -> list[tuple[int, int, int]]:
    """`steps` colours of the map, from no difference to the largest."""
    return [_colour(step / max(1, steps - 1)) for step in range(steps)]


@lru_cache(maxsize=1)
def _curves() -> list[list[int]]:
    colours = [_colour(math.sqrt(min(1.0, value / FULL))) for value in range(256)]
    return [[colour[channel] for colour in colours] for channel in range(3)]


def _colour(share: float) -> tuple[int, int, int]:
    place = share * (len(_CIVIDIS) - 1)
    low = min(int(place), len(_CIVIDIS) - 2)
    part = place - low
    red, green, blue = (
        round(x + (y - x) * part) for x, y in zip(_CIVIDIS[low], _CIVIDIS[low + 1], strict=True)
    )
    return red, green, blue


def _merged(channels: list[Image]) -> Image:
    from PIL import Image

    return Image.merge("RGB", channels)
