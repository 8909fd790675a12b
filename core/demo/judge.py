"""Read a generated picture and say which attributes of its caption it satisfies.

Pure pixel reading: the background is the palette colour most common along the border, things are
the patches that differ from it, a thing's colour is the palette's nearest to its middle, and its
shape the outline that overlaps it best at equal area. No learnt part, so no taste to drift.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .scenes import COLORS, RADII, SHAPES, SIZE, Scene, Thing, coverage, parse

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_PALETTE: Floats = np.array(list(COLORS.values()), dtype=np.float64)
_NAMES = tuple(COLORS)
_CONTRAST = 45.0  # RGB distance from the background at which a pixel belongs to a thing
_MIN_AREA = 24.0  # pixels; a small star, the least of all things, has about 80
_EDGE = math.sqrt(RADII["small"] * RADII["large"])  # pixels, between the two size words
_NEAR, _FAR = SIZE * 3 / 8, SIZE * 5 / 8  # pixels: thirds, the middle one a little narrower


@dataclass(frozen=True)
class Seen:
    """One thing found in a picture: its words, its centre (x, y) and its area, in pixels."""

    thing: Thing
    x: float
    y: float
    area: float


def judge(image: Image.Image, caption: str) -> dict[str, bool]:
    """Return for each attribute of `caption` whether `image` shows it.

    One thing: background, count, color, shape, size, position. Two things: background, count,
    relation, and first.color, first.shape, first.size, second.color, ... A picture of another size
    is resized to 64x64 first. Raises ValueError when `caption` is not in the scenes' grammar.
    """
    scene = parse(caption)
    if scene is None:
        raise ValueError(f"not a caption of a scene: {caption!r}")
    background, seen = look(image)
    verdict = {
        "background": background == scene.background,
        "count": len(seen) == len(scene.things),
    }
    if len(scene.things) == 1:
        best = seen[0] if seen else None
        verdict |= _compare(best, scene.things[0], "")
        verdict["position"] = best is not None and _stands(best, scene)
        return verdict
    # Which patch is meant by which words is open: take the reading that satisfies most.
    padded: list[Seen | None] = [*seen[:2], None, None]
    readings = (_read_pair(a, b, scene) for a, b in itertools.permutations(padded[:2]))
    return verdict | max(readings, key=lambda reading: sum(reading.values()))


def satisfied(images: Sequence[Image.Image], captions: Sequence[str]) -> float:
    """Return the mean share (0 to 1) of attributes that `images` satisfy, one caption each."""
    if len(images) != len(captions) or not images:
        raise ValueError(f"{len(images)} images for {len(captions)} captions")
    shares = [list(judge(i, c).values()) for i, c in zip(images, captions, strict=True)]
    return sum(sum(share) / len(share) for share in shares) / len(shares)


def _compare(seen: Seen | None, wanted: Thing, prefix: str) -> dict[str, bool]:
    return {
        f"{prefix}{name}": seen is not None and getattr(seen.thing, name) == getattr(wanted, name)
        for name in ("color", "shape", "size")
    }


def _read_pair(first: Seen | None, second: Seen | None, scene: Scene) -> dict[str, bool]:
    relation = False
    if first is not None and second is not None:
        dx, dy = second.x - first.x, second.y - first.y
        (x0, y0), (x1, y1) = scene.centers()
        along, across = (dx, dy) if x0 != x1 else (dy, dx)
        relation = along * (x1 - x0 + y1 - y0) > 0 and abs(along) > abs(across)
    return {
        "relation": relation,
        **_compare(first, scene.things[0], "first."),
        **_compare(second, scene.things[1], "second."),
    }


def _stands(seen: Seen, scene: Scene) -> bool:
    def third(value: float) -> int:
        return int(value > _NEAR) + int(value > _FAR)

    x, y = scene.centers()[0]
    return third(seen.x) == third(x) and third(seen.y) == third(y)


def look(image: Image.Image) -> tuple[str, list[Seen]]:
    """Return the background's colour word and the things seen, the largest first."""
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    rgb = np.asarray(image.convert("RGB"), dtype=np.float64)
    ground = _ground(rgb)
    different = np.linalg.norm(rgb - ground, axis=-1) > _CONTRAST
    seen = []
    for patch in _patches(different):
        for part in _parts(rgb, patch):
            thing = _describe(rgb, part, ground)
            if thing is not None:
                seen.append(thing)
    seen.sort(key=lambda thing: -thing.area)
    return _NAMES[int(_nearest(ground))], seen


def _ground(rgb: Floats) -> Floats:
    """The background's colour (3,): the mean of the border's pixels of the commonest colour."""
    sides = (rgb[:2], rgb[-2:], rgb[:, :2], rgb[:, -2:])
    pixels = np.concatenate([side.reshape(-1, 3) for side in sides])
    names = _nearest(pixels)
    mean: Floats = pixels[names == np.bincount(names).argmax()].mean(axis=0)
    return mean


def _nearest(colors: Floats) -> Ints:
    """The index in the palette nearest to each of `colors` (..., 3)."""
    nearest: Ints = np.linalg.norm(colors[..., None, :] - _PALETTE, axis=-1).argmin(axis=-1)
    return nearest


def _patches(mask: Bools) -> list[Bools]:
    """Split `mask` (64, 64) into its connected parts of at least _MIN_AREA pixels."""
    left, found = mask.copy(), []
    while left.any():
        patch = np.zeros_like(left)
        patch[np.unravel_index(int(left.argmax()), left.shape)] = True
        while True:
            grown = _spread(patch) & left
            if (grown == patch).all():
                break
            patch = grown
        left &= ~patch
        if patch.sum() >= _MIN_AREA:
            found.append(patch)
    return found


def _spread(mask: Bools) -> Bools:
    """`mask` and its neighbours above, below, left and right."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _parts(rgb: Floats, patch: Bools) -> list[Bools]:
    """Split a patch in which two things of different colours touch; else return it whole."""
    inner = ~_spread(~patch)
    names = np.where(inner, _nearest(rgb), -1)
    counts = np.bincount(names[inner], minlength=len(_NAMES))
    # A second thing has many pixels of its own colour, and they lie together, not along an edge.
    solid = {int(n): inner & ~_spread(names != n) for n in np.flatnonzero(counts >= _MIN_AREA)}
    cores = [core for core in solid.values() if core.sum() >= _MIN_AREA / 2]
    if len(cores) < 2:
        return [patch]
    ys, xs = np.nonzero(patch)
    away = np.stack(
        [
            np.hypot(ys[:, None] - cy, xs[:, None] - cx).min(axis=1)
            for cy, cx in (np.nonzero(core) for core in cores)
        ]
    ).argmin(axis=0)
    parts = []
    for i in range(len(cores)):
        part = np.zeros_like(patch)
        part[ys[away == i], xs[away == i]] = True
        parts.append(part)
    return parts


def _describe(rgb: Floats, patch: Bools, ground: Floats) -> Seen | None:
    """Name the thing that fills `patch`; None when hardly anything of it is left."""
    core = patch
    while (smaller := ~_spread(~core)).sum() >= 9:
        core = smaller
    color: Floats = np.median(rgb[core], axis=0)
    # How much of each pixel the thing covers, read from the mixture of its colour and the ground's.
    axis = color - ground
    cover = ((rgb - ground) @ axis / max(float(axis @ axis), 1e-6)).clip(0, 1)
    cover = np.where(_spread(patch), cover, 0.0)
    area = float(cover.sum())
    if area < _MIN_AREA:
        return None
    ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
    x, y = float((xs * cover).sum() / area), float((ys * cover).sum() / area)
    fits = {shape: _fit(shape, cover, x, y, area) for shape in SHAPES}
    shape = max(SHAPES, key=lambda name: fits[name])
    unit, dx, dy = _moments(shape)
    radius = math.sqrt(area / unit)
    size = "small" if radius < _EDGE else "large"
    thing = Thing(size, _NAMES[int(_nearest(color))], shape)
    return Seen(thing, x - dx * radius, y - dy * radius, area)


def _fit(shape: str, cover: Floats, x: float, y: float, area: float) -> float:
    """The overlap (intersection over union) with `shape` of the same area and centre of mass."""
    unit, dx, dy = _moments(shape)
    radius = math.sqrt(area / unit)
    template = np.asarray(coverage(shape, x - dx * radius, y - dy * radius, radius)) / 255.0
    return float(np.minimum(cover, template).sum() / np.maximum(cover, template).sum())


@functools.cache
def _moments(shape: str) -> tuple[float, float, float]:
    """The area of `shape` at radius 1, and its centre of mass (x, y) from its centre."""
    radius, middle = SIZE / 3, SIZE / 2
    cover = np.asarray(coverage(shape, middle, middle, radius)) / 255.0
    ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
    area = float(cover.sum())
    x, y = float((xs * cover).sum() / area), float((ys * cover).sum() / area)
    return area / radius**2, (x - middle) / radius, (y - middle) / radius
