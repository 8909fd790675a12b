"""The bundled demo model: captioned scenes drawn by our own code, and an SDXL small enough to ship.

Importing this package costs nothing: no torch, no numpy, no Pillow.
"""

from pathlib import Path

#: The bundled ``StableDiffusionXLPipeline`` folder (64x64 pixels, float16 on disk).
MODEL_DIR: Path = Path(__file__).resolve().parent / "model"

#: The guidance scale that the judge liked best (see the model card).
GUIDANCE: float = 2.0

#: Captions to show the model off with; none of them was trained on.
PROMPTS: tuple[str, ...] = (
    "a large pink star in the center of a green background",
    "a large white heart at the bottom of a blue background",
    "a large red star on the right of an orange background",
    "a large yellow circle in the top left corner of a cyan background",
    "a large green heart on the right of a red background",
    "a small purple heart in the bottom left corner of a cyan background",
    "a large black star below a large purple star on a yellow background",
    "a small blue square below a large white triangle on a pink background",
)


def calibration_prompts(n: int, seed: int = 0) -> list[str]:
    """Return `n` captions of the training split, the same ones for the same `seed`."""
    from .scenes import training_captions

    return training_captions(n, seed)


def held_out_prompts(n: int) -> list[str]:
    """Return `n` captions that were never trained on: `PROMPTS`, then others drawn at random."""
    from .scenes import held_out_captions

    others = (text for text in held_out_captions(n + len(PROMPTS)) if text not in PROMPTS)
    return [*PROMPTS, *others][:n]
