"""Prompts from files: text, Conceptual Captions' TSV, CSV, COCO's captions.

A file is read from its start and only as far as it is needed: the first hundred of three million
captions cost no more than a small file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from obstui.specs import MAX_PROMPTS, BadSpec
from obstui.text import one_line

MAX_LINE_BYTES = 64 << 10
MAX_JSON_BYTES = 256 << 20
# Rows may all be blank or all the same: somewhere even a search for more has to end.
MAX_ROWS = 10_000_000

_COLUMNS = ("caption", "text", "prompt")
_CAPTION = ["annotations", "[]", "caption"]


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The prompts of a file in its order, each once, and how many rows were passed over; `unnamed`
    when a CSV's header names none of the columns, and its first one was taken."""

    prompts: tuple[str, ...]
    blank: int = 0
    duplicate: int = 0
    unnamed: bool = False

    @property
    def skipped(self) -> str:
        """ "2 blank and 1 repeated", or nothing."""
        counts = ((self.blank, "blank"), (self.duplicate, "repeated"))
        return " and ".join(f"{count} {what}" for count, what in counts if count)


def read_prompts(path: Path, first: int | None = None) -> PromptFile:
    """The first `first` prompts of a file, or all of it.

    The suffix tells the layout: `.tsv` is caption<TAB>address without a header, `.csv` has a header
    that names caption, text or prompt, or its prompts in the first column, `.json` is COCO's
    `annotations[].caption`, anything else one prompt a line. Blank and repeated prompts are skipped
    and counted. Raises BadSpec with one sentence that names the file and the line.
    """
    shown = one_line(str(path), limit=120)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        raise BadSpec(
            f"{shown} is JSON, one value a line: give text with one prompt a line, .tsv, .csv or "
            "COCO's .json."
        )
    rows = {".tsv": _tsv, ".csv": _csv, ".json": _coco}.get(path.suffix.lower(), _text)
    prompts: dict[str, None] = {}
    blank = duplicate = 0
    try:
        with path.open("rb") as file:
            for count, text in enumerate(rows(file, shown), start=1):
                prompt = one_line(text)
                if prompt in prompts:
                    duplicate += 1
                elif prompt:
                    prompts[prompt] = None
                else:
                    blank += 1
                if first is not None and len(prompts) >= first:
                    break
                if len(prompts) > MAX_PROMPTS:
                    raise BadSpec(
                        f"The prompt file {shown} has more than {MAX_PROMPTS} prompts: "
                        "say with --num-prompts how many of the first to take, or cut it."
                    )
                if count >= MAX_ROWS:
                    raise BadSpec(
                        f"The prompt file {shown} has only {len(prompts)} different prompts in "
                        f"its first {MAX_ROWS} rows: check that it is the right file."
                    )
    except OSError as err:
        raise BadSpec(f"Cannot read the prompt file {shown}: {err.strerror}.") from None
    if not prompts:
        raise BadSpec(f"The prompt file {shown} is empty: write one prompt a line.")
    return PromptFile(tuple(prompts), blank, duplicate, _unnamed(path))


def _text(file: IO[bytes], shown: str) -> Iterator[str]:
    return (text for _, text in _lines(file, shown))


def _lines(file: IO[bytes], shown: str) -> Iterator[tuple[int, str]]:
    """The file's lines, without their ends, numbered from 1."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise BadSpec(
                f"Line {number} of {shown} is longer than {MAX_LINE_BYTES >> 10} KiB, which is no "
                "prompt: write one prompt a line."
            )
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise BadSpec(
                f"Line {number} of {shown} is not UTF-8 text: save the file as UTF-8 "
                "(and unpack it if it is compressed)."
            )
        yield number, text.rstrip("\r\n")


def _tsv(file: IO[bytes], shown: str) -> Iterator[str]:
    """Conceptual Captions: caption<TAB>address, nothing quoted."""
    column: int | None = None
    for number, line in _lines(file, shown):
        cells = line.split("\t")
        if column is None:
            if len(cells) < 2 and line.strip():
                raise BadSpec(
                    f"Line {number} of {shown} has no tab, and a .tsv file is caption<TAB>address: "
                    "name a file with one prompt a line .txt."
                )
            named = _named_column(cells)
            column = named or 0
            if named is not None:
                continue
        yield _cell(cells, column, number, shown)


def _csv(file: IO[bytes], shown: str) -> Iterator[str]:
    """Comma-separated values; a quoted cell may run over several lines."""
    reader = csv.reader((text + "\n" for _, text in _lines(file, shown)), strict=True)
    column: int | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:
            raise BadSpec(
                f"Line {reader.line_num} of {shown} is not valid CSV: check its quotation marks."
            ) from None
        if cells is None:
            return
        if column is None:
            named = _named_column(cells)
            column = named or 0
            if named is not None:
                continue
        yield _cell(cells, column, reader.line_num, shown)


def _unnamed(path: Path) -> bool:
    """Whether a readable CSV has several columns and no header that tells which one to take."""
    if path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = next(csv.reader(file), [])
    return len(head) > 1 and _named_column(head) is None


def _named_column(cells: list[str]) -> int | None:
    """Which cell of a header names the prompts; None if this row is no header."""
    names = [cell.strip().lower() for cell in cells]
    return next((names.index(name) for name in _COLUMNS if name in names), None)


def _cell(cells: list[str], column: int, number: int, shown: str) -> str:
    text = cells[column] if column < len(cells) else ""
    if text.lstrip().startswith(("http://", "https://")):
        raise BadSpec(
            f"Line {number} of {shown} has an address where its prompt should be: "
            'put the prompts first, or give the file a header with a column "caption".'
        )
    return text


def _coco(file: IO[bytes], shown: str) -> Iterator[str]:
    """`annotations[].caption`, without holding the file in memory."""
    import ijson

    count = 0
    try:
        for caption in _captions(ijson.basic_parse(_Bounded(file, shown), use_float=True)):
            count += 1
            if not isinstance(caption, str) or len(caption) > MAX_LINE_BYTES:
                raise BadSpec(
                    f"Caption {count} of {shown} is not a text of at most "
                    f"{MAX_LINE_BYTES >> 10} KiB: check the file."
                )
            yield caption
    except (ijson.JSONError, UnicodeDecodeError):
        raise BadSpec(
            f"The prompt file {shown} is not valid JSON{f' after caption {count}' * bool(count)}: "
            "fetch it again."
        ) from None
    if not count:
        raise BadSpec(
            f"The prompt file {shown} has no annotations with captions: give COCO's captions file, "
            "not its instances."
        )


def _captions(events: Iterator[tuple[str, Any]]) -> Iterator[Any]:
    """The values of `annotations[].caption` among a JSON parser's events; None for one that is no
    plain value. The parser's own paths would grow with the square of the nesting."""
    depth = 0
    at = ["", "", ""]  # the newest key at depth 1, 2 and 3
    for event, value in events:
        if event == "map_key":
            if depth <= 3:
                at[depth - 1] = value
            continue
        if depth == 3 and event not in ("end_map", "end_array") and at == _CAPTION:
            yield value
            at[2] = ""
        if event in ("start_map", "start_array"):
            depth += 1
            if depth <= 3:
                at[depth - 1] = "[]" if event == "start_array" else ""
        elif event in ("end_map", "end_array"):
            depth -= 1


class _Bounded:
    """A file that ends in a BadSpec after MAX_JSON_BYTES."""

    def __init__(self, file: IO[bytes], shown: str) -> None:
        self._file, self._shown, self._left = file, shown, MAX_JSON_BYTES

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadSpec(
                f"The prompt file {self._shown} has no more captions in its first "
                f"{MAX_JSON_BYTES >> 20} MiB: keep only its annotations."
            )
        return data
