"""What a picture was painted with, as its file tells it, for the form to begin with."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstui import picture_files
from obstui.text import one_line
from obstui.tui import form, images

_PAIR = re.compile(r'([A-Z][\w ]*): ("(?:\\.|[^"\\])*"|[^,]*)(?:, |$)')
_NEGATIVE = "\nNegative prompt: "
_SAMPLERS = {"DDIM": "ddim", "Euler": "euler", "Euler a": "euler_a", "Heun": "heun",
             "DPM++ 2M": "dpmpp_2m", "DPM++ 2M Karras": "dpmpp_2m_karras",
             "UniPC": "unipc"}  # fmt: skip
"""By the names in pictures; another is that of the model's own scheduler."""


class NotOurs(Exception):
    """The picture does not tell; the message is the sentence to show."""


def dropped(text: str) -> str | None:
    """The picture that pasted text names, as terminals paste what is dropped on them: a path,
    quoted or not, or a file: URL."""
    line = text.strip()
    if "\n" in line or not line.lower().rstrip("'\"").endswith(".png"):
        return None
    try:
        words = [line] if Path(line).is_absolute() and "\\" not in line else shlex.split(line)
    except ValueError:
        return None
    if len(words) != 1:
        return None
    path = unquote(urlsplit(words[0]).path) if words[0].startswith("file://") else words[0]
    return path if path.startswith(("/", "~/")) else None


def opening(path: str) -> form.Opening:
    """The form for a picture like this one. Reads the file: never on the UI thread. Raises
    NotOurs."""
    shown = one_line(picture_files.name_of(path), limit=200)
    inside = path.startswith(picture_files.INSIDE)
    place = path if inside else str(Path(path).expanduser())
    if not inside and not Path(place).is_file():  # nothing is read from a pipe or a device
        raise NotOurs(f"There is no picture {shown}.")
    try:
        text = images.settings_of(place)
    except images.Unreadable:
        raise NotOurs(f"This cannot be read as a picture: {shown}.") from None
    answers = answers_of(text)
    if answers is None:
        # The reason first: where there is one line for it, a path is long.
        raise NotOurs(f"Another program made or saved this picture: {shown}.")
    return form.Opening("Like picture", "generate", answers)


def answers_of(text: str) -> dict[str, str] | None:
    """The answers from the text that `core.pictures.parameters` writes; None for another's."""
    above, _, last = text.rpartition("\n")
    found = {name: _plain(value) for name, value in _PAIR.findall(last)}
    if found.get("Version") != "obstui" or not above:
        return None
    prompt, _, negative = above.partition(_NEGATIVE)
    return {
        "prompts": one_line(prompt, limit=10_000),
        "negative": one_line(negative, limit=10_000),
        "model": form.joined([found.get("Model", "")]),
        "variant": found.get("Variant", ""),
        "steps": found.get("Steps", ""),
        "guidance": found.get("CFG scale", ""),
        "seed": found.get("Seed", ""),
        "size": found.get("Size", "").partition("x")[0],
        "scheduler": _SAMPLERS.get(found.get("Sampler", ""), ""),
        "count": "",
        "seeds": "",
    }


def _plain(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
