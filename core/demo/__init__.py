"""The bundled demo model: captioned scenes drawn by our own code, and an SDXL small enough to ship.

Importing this package costs nothing: no torch, no numpy, no Pillow.
"""

from pathlib import Path

#: The bundled ``StableDiffusionXLPipeline`` folder (64x64 pixels, float16 on disk).
MODEL_DIR: Path = Path(__file__).resolve().parent / "model"

#: The guidance scale that the judge liked best.
GUIDANCE: float = 3.0

#: Captions to show the model off with; none of them was trained on.
PROMPTS: tuple[str, ...] = ()


def calibration_prompts(n: int, seed: int = 0) -> list[str]:
    """Return `n` captions of the training split, the same ones for the same `seed`."""
    from .scenes import training_captions

    return training_captions(n, seed)
