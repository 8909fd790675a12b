"""Where a job's pictures are: in files, or, in a store that was sealed, in the store itself."""

from __future__ import annotations

import base64
import re
from io import BytesIO

INSIDE = "data:image/"
"""What begins instead of a path where the store itself holds the picture (RFC 2397), as in the
example store: it needs no other file."""


def source(path: str) -> str | BytesIO:
    """What Pillow opens for a picture's path. Raises ValueError for one inside a store that is
    broken."""
    if not path.startswith(INSIDE):
        return path
    return BytesIO(base64.b64decode(path.partition(";base64,")[2], validate=True))


def name_of(path: str) -> str:
    """Where a picture is, for people: its path, or the name it has inside a store."""
    if not path.startswith(INSIDE):
        return path
    named = re.match(r"[^,]{0,100};name=([^;,]{1,200})", path)
    return f"{named[1]} (inside the store)" if named else "inside the store"
