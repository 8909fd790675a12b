"""Text from people, models and logs, made safe to show."""

from __future__ import annotations

import re
import unicodedata

GLYPHS = {
    "held": "◇",
    "queued": "○",
    "starting": "◐",
    "running": "●",
    "pausing": "◑",
    "paused": "‖",
    "cancelling": "◑",
    "succeeded": "✓",
    "failed": "✗",
    "cancelled": "∅",
    "skipped": "↷",
    "quarantined": "▲",
}
"""One sign for each state of a job, wherever it is shown; the word stands beside it."""

# C0 without tab and newline, DEL, C1, and the characters that reorder or hide what follows them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
# Whole escape sequences go, not only their first byte: "[31m" alone would still be noise.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)


def plain(text: object, *, limit: int | None = None) -> str:
    """`text` without escape sequences, control characters or bidirectional overrides.

    Lone surrogates become "\N{REPLACEMENT CHARACTER}". Longer than `limit` characters ends in an
    ellipsis. Tabs and newlines stay.
    """
    source = str(text)
    if limit is not None:
        source = source[: 4 * limit + 64]
    clean = _UNSAFE.sub("", _ESCAPE.sub("", source))
    clean = clean.encode("utf-8", "replace").decode("utf-8")
    if limit is not None and len(clean) > limit:
        clean = clean[: limit - 1].rstrip() + "…"
    return clean


def one_line(text: object, *, limit: int | None = None) -> str:
    """`plain` text on one line: every run of white space is one space."""
    return plain(
        " ".join(plain(text).split())
        if limit is None
        else " ".join(plain(text, limit=4 * limit).split()),
        limit=limit,
    )


def label(text: str) -> str:
    """A person's name for something: NFC, one safe line."""
    return one_line(unicodedata.normalize("NFC", text))


def short_model(source: str) -> str:
    """A model's name without where it lies; of the names of SDXL what tells them apart:
    "sdxl-base-1.0"."""
    name = source.rstrip("/").rsplit("/", 1)[-1]
    return one_line(name.replace("stable-diffusion-xl", "sdxl"), limit=40)


def counted(number: int, what: str) -> str:
    """ "1 job", "2 jobs"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
