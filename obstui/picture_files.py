"""Where a job's pictures are: in files, or, in a store that was sealed, in the store itself."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

INSIDE = "data:image/"
"""What begins instead of a path where the store itself holds the picture (RFC 2397), as in the
example store: it needs no other file."""


def opened(path: str) -> Image:
    """The picture at a path, to be closed by who opened it. Raises OSError for one that is not
    there or not what we write, ValueError for one inside a store that is broken, and what Pillow
    raises for a broken file."""
    from PIL import Image

    # By name: every other format's parser would cost memory, and meet a stranger's file.
    if not path.startswith(INSIDE):
        return Image.open(path, formats=["PNG"])
    inside = base64.b64decode(path.partition(";base64,")[2], validate=True)
    return Image.open(BytesIO(inside), formats=["PNG", "WEBP"])


def name_of(path: str) -> str:
    """Where a picture is, for people: its path, or the name it has inside a store."""
    if not path.startswith(INSIDE):
        return path
    named = re.match(r"[^,]{0,100};name=([^;,]{1,200})", path)
    return f"{named[1]} (inside the store)" if named else "inside the store"
