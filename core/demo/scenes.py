"""Captioned scenes: one or two flat shapes on a flat background, 64x64 pixels.

A scene has exactly one caption and a caption exactly one scene, so training data is unlimited and
exactly labelled, and a generated picture can be checked against its caption (see `judge`).

    a small yellow star at the top of a purple background
    a large red circle to the left of a small blue square on a green background
"""

import hashlib
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = 64  # pixels, width and height of every scene
_SUPERSAMPLE = 4  # shapes are drawn this much larger, then averaged down: smooth edges

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (250, 225, 55),
    "green": (45, 150, 65),
    "cyan": (75, 210, 225),
    "blue": (40, 75, 210),
    "purple": (125, 50, 170),
    "pink": (250, 150, 200),
    "white": (245, 245, 245),
    "black": (25, 25, 30),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
RADII = {"small": 8.0, "large": 13.0}  # pixels, from the centre to the edge of the shape's box

# Where a lone object stands, as (x, y) in pixels, by the words of the caption.
PLACES: dict[str, tuple[float, float]] = {
    "in the center of": (32, 32),
    "at the top of": (32, 16),
    "at the bottom of": (32, 48),
    "on the left of": (16, 32),
    "on the right of": (48, 32),
    "in the top left corner of": (16, 16),
    "in the top right corner of": (48, 16),
    "in the bottom left corner of": (16, 48),
    "in the bottom right corner of": (48, 48),
}
# Where the first and the second of two objects stand.
RELATIONS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "to the left of": ((16, 32), (48, 32)),
    "to the right of": ((48, 32), (16, 32)),
    "above": ((32, 16), (32, 48)),
    "below": ((32, 48), (32, 16)),
}
PAIR_SHARE = 0.35  # of the random scenes show two objects
_HELD_OUT = 10  # one caption in this many is never trained on

# A little play keeps seeds different and the model honest: pixels, and a share of the radius.
_SHIFT, _STRETCH = 1.5, 0.05


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: `size` of RADII, `color` of COLORS, `shape` of SHAPES."""

    size: str
    color: str
    shape: str

    def words(self) -> str:
        """Return for example "a small yellow star"."""
        return f"a {self.size} {self.color} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One or two things on a background; `place` is of PLACES (one thing) or RELATIONS (two)."""

    things: tuple[Thing, ...]
    place: str
    background: str

    def centers(self) -> tuple[tuple[float, float], ...]:
        """Return each thing's centre (x, y) in pixels, before any jitter."""
        if len(self.things) == 1:
            return (PLACES[self.place],)
        return RELATIONS[self.place]


def caption(scene: Scene) -> str:
    """Return the one caption of `scene`."""
    ground = f"{'an' if scene.background == 'orange' else 'a'} {scene.background} background"
    if len(scene.things) == 1:
        return f"{scene.things[0].words()} {scene.place} {ground}"
    first, second = scene.things
    return f"{first.words()} {scene.place} {second.words()} on {ground}"


def _one_of(words: Sequence[str], name: str) -> str:
    return f"(?P<{name}>{'|'.join(words)})"


def _thing_pattern(i: int) -> str:
    parts = (("size", RADII), ("color", COLORS), ("shape", SHAPES))
    return "an? " + " ".join(_one_of(tuple(words), f"{name}{i}") for name, words in parts)


_GROUND = "an? " + _one_of(tuple(COLORS), "background") + " background"
_ONE = re.compile(f"{_thing_pattern(0)} {_one_of(tuple(PLACES), 'place')} {_GROUND}")
_TWO = re.compile(
    f"{_thing_pattern(0)} {_one_of(tuple(RELATIONS), 'place')} {_thing_pattern(1)} on {_GROUND}"
)


def parse(text: str) -> Scene | None:
    """Return the scene that `text` describes, or None when it is not in the scenes' grammar.

    Case, spacing and a final full stop do not matter. A thing in the colour of the background, or
    two things of one colour, are no scene: they could not be told apart.
    """
    plain = " ".join(text.lower().split()).removesuffix(".")
    found = _ONE.fullmatch(plain)
    count = 1
    if found is None:
        found, count = _TWO.fullmatch(plain), 2
    if found is None:
        return None
    things = tuple(
        Thing(found[f"size{i}"], found[f"color{i}"], found[f"shape{i}"]) for i in range(count)
    )
    colors = {thing.color for thing in things} | {found["background"]}
    return Scene(things, found["place"], found["background"]) if len(colors) > count else None


def random_scene(rng: random.Random, pair_share: float = PAIR_SHARE) -> Scene:
    """Return a random scene, of either split; `pair_share` of them show two things."""
    count = 2 if rng.random() < pair_share else 1
    background, *colors = rng.sample(tuple(COLORS), count + 1)
    things = tuple(Thing(rng.choice(tuple(RADII)), color, rng.choice(SHAPES)) for color in colors)
    return Scene(things, rng.choice(tuple(PLACES if count == 1 else RELATIONS)), background)


def held_out(text: str) -> bool:
    """Return whether `text` belongs to the captions that are never trained on."""
    return hashlib.sha256(text.encode()).digest()[0] % _HELD_OUT == 0


def _captions(n: int, seed: int, want_held_out: bool) -> list[str]:
    rng, found = random.Random(seed), dict[str, None]()
    while len(found) < n:
        text = caption(random_scene(rng))
        if held_out(text) is want_held_out:
            found[text] = None
    return list(found)


def held_out_captions(n: int, seed: int = 0) -> list[str]:
    """Return `n` different captions that are never trained on, the same for the same `seed`."""
    return _captions(n, seed, want_held_out=True)


def training_captions(n: int, seed: int = 0) -> list[str]:
    """Return `n` different captions of the training split, the same for the same `seed`."""
    return _captions(n, seed, want_held_out=False)


def _regular(points: int, inner: float) -> list[tuple[float, float]]:
    """A star polygon pointing up, outer radius 1, inner radius `inner`."""
    return [
        (
            (inner if i % 2 else 1.0) * math.sin(math.pi * i / points),
            -(inner if i % 2 else 1.0) * math.cos(math.pi * i / points),
        )
        for i in range(2 * points)
    ]


def _heart() -> list[tuple[float, float]]:
    angles = [2 * math.pi * i / 60 for i in range(60)]
    return [
        (
            math.sin(a) ** 3,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16
            - 0.1,
        )
        for a in angles
    ]


_ARM = 0.34  # half the width of the cross's arms
# Outlines in a box of radius 1 around the origin, y downwards. The square is a little smaller and
# the star a little larger than the box, so that the areas of one size word are alike.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": [
        (math.cos(2 * math.pi * i / 60), math.sin(2 * math.pi * i / 60)) for i in range(60)
    ],
    "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
    "triangle": [(0.0, -0.95), (1.05, 0.87), (-1.05, 0.87)],
    "star": [(1.1 * x, 1.1 * y + 0.05) for x, y in _regular(5, 0.42)],
    "heart": _heart(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip


def _place(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """The outline in supersampled pixels."""
    k = _SUPERSAMPLE
    return [((x + radius * u) * k, (y + radius * v) * k) for u, v in OUTLINES[shape]]


def coverage(shape: str, x: float, y: float, radius: float) -> Image.Image:
    """Return how much of each pixel `shape` covers: a 64x64 "L" image, 255 for wholly."""
    large = Image.new("L", (SIZE * _SUPERSAMPLE, SIZE * _SUPERSAMPLE))
    ImageDraw.Draw(large).polygon(_place(shape, x, y, radius), fill=255)
    return large.reduce(_SUPERSAMPLE)


def draw(scene: Scene, rng: random.Random | None = None) -> Image.Image:
    """Return the scene as a 64x64 RGB image; with `rng`, places and sizes vary a little."""
    side = SIZE * _SUPERSAMPLE
    image = Image.new("RGB", (side, side), COLORS[scene.background])
    pen = ImageDraw.Draw(image)
    for thing, (x, y) in zip(scene.things, scene.centers(), strict=True):
        radius = RADII[thing.size]
        if rng is not None:
            x, y = x + rng.uniform(-_SHIFT, _SHIFT), y + rng.uniform(-_SHIFT, _SHIFT)
            radius *= 1 + rng.uniform(-_STRETCH, _STRETCH)
        pen.polygon(_place(thing.shape, x, y, radius), fill=COLORS[thing.color])
    return image.reduce(_SUPERSAMPLE)
