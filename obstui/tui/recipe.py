"""What a picture was painted with, as its file tells it, for the form to begin with."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstui import picture_files
from obstui.text import one_line, plain
from obstui.tui import form, images

_LONGEST = 20_000
"""Characters of settings that are looked at: files of strangers are of any length."""
_PAIR = re.compile(r'([A-Z][\w +-]{0,40}): ("(?:\\.|[^"\\])*"|[^,]*)(?:, |$)')
_NEGATIVE = "\nNegative prompt: "
_SETTINGS = re.compile(r"Steps: ?\d")
_ADDED = re.compile(r"<(?:lora|lyco|hypernet):[^<>\n]{1,200}>")
_SAMPLERS = {"DDIM": "ddim", "Euler": "euler", "Euler a": "euler_a", "Heun": "heun",
             "DPM++ 2M": "dpmpp_2m", "DPM++ 2M Karras": "dpmpp_2m_karras",
             "UniPC": "unipc"}  # fmt: skip
"""By the names in pictures; another is that of the model's own scheduler."""
_ELSEWHERE = {"euler ancestral": "euler_a", "dpmpp 2m": "dpmpp_2m", "uni pc": "unipc",
              "dpmpp 2m karras": "dpmpp_2m_karras"}  # fmt: skip
"""By the names that other programs give them, beside those."""
_PLAIN_SCHEDULES = ("", "normal", "uniform", "automatic")
_TAKEN = ("Steps", "CFG scale", "Seed", "Size", "Sampler", "Schedule type", "Scheduler")
_TELLS_NOTHING = ("Version", "Model", "RNG", "Template", "Negative Template")
_NAMED = 6  # things left out; of more only the number is told


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
    """The form for a picture like this one, of ours or of another program that tells the like.
    Reads the file: never on the UI thread. Raises NotOurs."""
    shown = one_line(picture_files.name_of(path), limit=200)
    inside = path.startswith(picture_files.INSIDE)
    place = path if inside else str(Path(path).expanduser())
    if not inside and not Path(place).is_file():  # nothing is read from a pipe or a device
        raise NotOurs(f"There is no picture {shown}.")
    try:
        text = images.settings_of(place)
    except images.Unreadable:
        raise NotOurs(f"This cannot be read as a picture: {shown}.") from None
    if (answers := answers_of(text)) is not None:
        return form.Opening("Like picture", "generate", answers)
    if (found := anothers(text)) is not None:
        answers, missing = found
        return form.Opening("Like picture", "generate", answers, remark=_left_out(missing))
    # The reason first: where there is one line for it, a path is long.
    raise NotOurs(
        "This picture does not tell its settings (a text named parameters would, as A1111 writes "
        f"it): {shown}."
    )


def answers_of(text: str) -> dict[str, str] | None:
    """The answers from the text that `core.pictures.parameters` writes; None for another's."""
    above, _, last = text.rpartition("\n")
    found = _settings(last)
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


def anothers(text: str) -> tuple[dict[str, str], list[str]] | None:
    """The answers from what other programs write in the manner of AUTOMATIC1111, and what of it
    cannot be had here, in words; None where there is no line of settings.

    The model stays the form's: other programs name theirs in ways that lead to no file.
    """
    lines = text.strip().splitlines()
    at = next((n for n in reversed(range(len(lines))) if _SETTINGS.match(lines[n])), None)
    if at is None:
        return None
    found = {name: one_line(value, limit=200) for name, value in _settings(lines[at]).items()}
    above, _, negative = "\n".join(["", *lines[:at]]).partition(_NEGATIVE.rstrip())
    prompt, added = _without_added(above)
    negative, more = _without_added(negative)
    size = found.get("Size", "")
    wide, _, high = size.partition("x")
    asked = {
        "steps": ("steps", found.get("Steps", "")),
        "guidance": ("guidance", found.get("CFG scale", "")),
        "seed": ("seed", found.get("Seed", "")),
        "size": ("size", wide if wide == high else size),
    }
    answers = {"prompts": one_line(prompt, limit=10_000), "count": "", "seeds": ""}
    answers["negative"] = one_line(negative, limit=10_000)
    missing = [f"model {found['Model']}"] if found.get("Model") else []
    for key, (name, value) in asked.items():
        # A comma would ask for several jobs.
        fits = "," not in value and not form.fault("generate", key, value)
        answers[key] = value if fits else ""
        missing += [f"{name} {value}"] if value and not answers[key] else []
    sampler, answers["scheduler"] = _sampler(found)
    missing += [f"sampler {sampler}"] if sampler and not answers["scheduler"] else []
    missing += [f"{added + more} LoRA"] if added + more else []
    missing += [
        name for name in found
        if name not in (*_TAKEN, *_TELLS_NOTHING) and not name.endswith(("hash", "hashes"))
    ]  # fmt: skip
    return answers, missing


def _without_added(text: str) -> tuple[str, int]:
    """A prompt without the LoRAs named in it, nor the commas that set them apart; how many."""
    rest, count = _ADDED.subn("", text)
    return (re.sub(r",(\s*,)+", ",", rest).strip(", \n") if count else text), count


def _settings(line: str) -> dict[str, str]:
    """By their names, each value safe to show."""
    return {name: plain(_plain(value)) for name, value in _PAIR.findall(line[:_LONGEST])}


def _sampler(found: Mapping[str, str]) -> tuple[str, str]:
    """Its name with that of its schedule, and ours for it, "" where we have none."""
    name, schedule = found.get("Sampler", ""), found.get("Schedule type") or found.get("Scheduler")
    schedule = schedule or ""
    known = {title.lower(): ours for title, ours in _SAMPLERS.items()} | _ELSEWHERE
    sampler, way = name.lower().replace("_", " "), schedule.lower()
    if way == "automatic" and known.get(sampler) == "dpmpp_2m":
        way = "karras"  # what AUTOMATIC1111 chooses for it
    if way not in _PLAIN_SCHEDULES and not sampler.endswith(f" {way}"):
        sampler = f"{sampler} {way}"
        name = f"{name} {schedule}"
    return name, known.get(sampler, "")


def _left_out(missing: Sequence[str]) -> str:
    """ "Left out: model juggernautXL, size 832x1216, Clip skip."; "" for nothing."""
    if not missing:
        return ""
    named = [one_line(each, limit=60) for each in missing[:_NAMED]]
    rest = len(missing) - len(named)
    return f"Left out: {', '.join(named)}{f' and {rest} more' if rest else ''}."


def _plain(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
