"""What a variant kept of every target: from its manifest, or from the events of the prune where the
files are not at hand; the rows of its table, and of the difference of two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.text import Text

from obstui.text import one_line
from obstui.tui.facts import Fold
from obstui.tui.follow import MadeReading
from obstui.tui.formats import number, whole
from obstui.tui.widgets.sheet import Head, cell

if TYPE_CHECKING:
    from obstui.store import JobView, Reader
    from obstui.tui.facts import Target

_EVENTS = ("targets_found", "target_solved", "held_out_measured")


@dataclass(frozen=True, slots=True)
class Layer:
    """One target in forward order. `bits` are the kept units as the manifest has them; what was not
    measured is None. Errors are relative; `samples_per_dim` is N/d."""

    name: str
    kind: str
    stage: str
    block: int
    units: int
    kept: int | None = None
    error: float | None = None
    held_out: float | None = None
    samples_per_dim: float | None = None
    seconds: float | None = None
    bits: bytes | None = None

    @property
    def share(self) -> float | None:
        """Of the units that were kept."""
        return None if self.kept is None else self.kept / self.units

    @property
    def removed(self) -> tuple[int, ...] | None:
        """The numbers of the units that are gone; None where only their number is known."""
        if self.bits is None:
            return None
        kept = int.from_bytes(self.bits, "little")
        return tuple(unit for unit in range(self.units) if not kept >> unit & 1)


@dataclass(frozen=True, slots=True)
class Table:
    """The targets of one variant."""

    variant: str
    words: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The tables that were asked for, and all other variants of the store with words about them."""

    tables: tuple[Table, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


class LayersReading(MadeReading[Page]):
    """Reads one variant's table, or two; raises NoSuchModel."""

    def __init__(self, variants: tuple[str, ...]) -> None:
        self.variants = variants

    def read(self, reader: Reader) -> Page:
        tables = tuple(read_table(reader, variant) for variant in self.variants)
        others = tuple(
            (str(made["id"]), _words(job, made))
            for job in reader.jobs(states=("succeeded",), limit=1_000_000)
            for made in (job.result or {}).get("variants") or ()
            if str(made["id"]) not in self.variants
        )
        return Page(tables, others)


def read_table(reader: Reader, variant: str) -> Table:
    """The table of a variant named by its id ("12@30") or folder. Raises NoSuchModel."""
    from obstui.errors import Problem
    from obstui.models import find_variant, kept_units
    from obstui.specs import NoSuchModel, parse_variant_id

    named = parse_variant_id(variant)
    job = reader.job(named[0]) if named else None
    solved = _solved(reader, job, named[1]) if job and named else ()
    words = one_line(variant, limit=80)
    if job is not None:
        made = [m for m in (job.result or {}).get("variants") or () if m["id"] == variant]
        words = _words(job, made[0]) if made else words
    try:
        kept = [_of_entry(entry) for entry in kept_units(find_variant(reader, variant))]
        return Table(variant, words, _with_seconds(kept, solved))
    except Problem as err:
        if not any(layer.kept is not None for layer in solved):
            raise NoSuchModel(str(err)) from None
        return Table(variant, words, solved)


def _words(job: JobView, made: Mapping[str, Any]) -> str:
    base = made.get("base") or job.spec.get("model") or "unknown"
    share = f"{float(made.get('sparsity') or 0) * 100:g} %"
    return one_line(f"{base} to {share} by {made.get('method') or job.kind}", limit=80)


def _solved(reader: Reader, job: JobView, sparsity: float) -> tuple[Layer, ...]:
    fold = Fold(job.id, job.attempt)
    fold.add(reader.events(job.id, kinds=_EVENTS, limit=1_000_000))
    return tuple(_of_target(target, f"{sparsity:g}") for target in fold.facts().targets)


def _of_target(target: Target, level: str) -> Layer:
    return Layer(
        target.name,
        target.kind,
        target.stage,
        target.block,
        target.units,
        (target.kept or {}).get(level),
        (target.error or {}).get(level),
        (target.held_out or {}).get(level),
        target.samples_per_dim,
        target.seconds,
    )


def _of_entry(entry: Mapping[str, Any]) -> Layer:
    units, kept = int(entry["units"]), entry["kept"]
    tokens = int(entry.get("tokens") or 0)
    return Layer(
        name=one_line(entry["name"], limit=160),
        kind=str(entry["kind"]),
        stage=one_line(entry.get("stage", ""), limit=12),
        block=int(entry.get("block") or 0),
        units=units,
        kept=len(kept),
        error=entry.get("error"),
        held_out=entry.get("held_out_error"),
        samples_per_dim=tokens / (units * int(entry["unit_width"])) if tokens else None,
        bits=sum(1 << unit for unit in kept).to_bytes(-(-units // 8), "little"),
    )


def _with_seconds(layers: Sequence[Layer], solved: Sequence[Layer]) -> tuple[Layer, ...]:
    took = {layer.name: layer.seconds for layer in solved}
    return tuple(replace(layer, seconds=took.get(layer.name)) for layer in layers)


# -- what shows --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """A target in both variants; `second` is None in the table of one, and where the other has no
    such target."""

    first: Layer
    second: Layer | None = None

    @property
    def differs(self) -> bool:
        one, other = self.first, self.second
        if other is None:
            return True
        return (one.kept, one.error, one.bits) != (other.kept, other.error, other.bits)

    @property
    def shared(self) -> int | None:
        """How many units both keep; None where that is not known."""
        if self.second is None or self.first.bits is None or self.second.bits is None:
            return None
        both = zip(self.first.bits, self.second.bits, strict=False)
        return sum((a & b).bit_count() for a, b in both)


Number = float | int | None


@dataclass(frozen=True, slots=True)
class Column:
    """`value` is what it is sorted by, the most first."""

    head: Head
    value: Callable[[Pair], Number]
    words: Callable[[Number], str]
    look: str = "text"


def _units(value: Number) -> str:
    return whole(value)


def _share(value: Number) -> str:
    return "–" if value is None else f"{value * 100:.0f} %"


def _error(value: Number) -> str:
    return number(value, ".4f")


def _dims(value: Number) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _seconds(value: Number) -> str:
    return "–" if value is None else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def columns(tables: Sequence[Table]) -> list[Column]:
    """Those of one variant, or of two side by side; those with nothing to say are left out."""
    found = _of_two(tables[0].variant, tables[1].variant) if len(tables) > 1 else _ONE
    pairs = pair(tables)
    return [c for c in found if any(c.value(row) is not None for row in pairs)]


_ONE = [
    Column(Head("units", "units", 6), lambda row: row.first.units, _units, "muted"),
    Column(Head("kept", "kept", 6), lambda row: row.first.kept, _units),
    Column(Head("share", "share", 6), lambda row: row.first.share, _share),
    Column(Head("error", "error", 7), lambda row: row.first.error, _error, "accent"),
    Column(Head("held", "held-out", 8), lambda row: row.first.held_out, _error, "accent"),
    Column(Head("dims", "N/d", 7), lambda row: row.first.samples_per_dim, _dims, "muted"),
    Column(Head("seconds", "time", 7), lambda row: row.first.seconds, _seconds, "muted"),
]


def _other(value: Callable[[Layer], Number]) -> Callable[[Pair], Number]:
    return lambda row: None if row.second is None else value(row.second)


def _of_two(one: str, other: str) -> list[Column]:
    one, other = (one_line(name, limit=8) for name in (one, other))
    return [
        Column(Head("units", "units", 6), lambda row: row.first.units, _units, "muted"),
        Column(_wide("kept", f"kept {one}"), lambda row: row.first.kept, _units),
        Column(_wide("kept2", f"kept {other}"), _other(lambda t: t.kept), _units),
        Column(_wide("shared", "in both"), lambda row: row.shared, _units, "muted"),
        Column(_wide("error", f"error {one}"), lambda row: row.first.error, _error, "accent"),
        Column(_wide("error2", f"error {other}"), _other(lambda t: t.error), _error, "accent"),
        Column(_wide("held", f"held-out {one}"), lambda row: row.first.held_out, _error),
        Column(_wide("held2", f"held-out {other}"), _other(lambda t: t.held_out), _error),
    ]


def _wide(key: str, label: str) -> Head:
    """As wide as its label with the arrow of the sorted column."""
    return Head(key, label, len(label) + 2)


def pair(tables: Sequence[Table]) -> list[Pair]:
    """The first variant's targets in forward order, each with the second's of the same name."""
    second = {t.name: t for t in tables[1].layers} if len(tables) > 1 else {}
    return [Pair(layer, second.get(layer.name)) for layer in tables[0].layers]


def ordered(
    pairs: Sequence[Pair], column: Column | None, *, reverse: bool, only_differing: bool
) -> list[Pair]:
    """By a column, the most first and the unknown last; without one in forward order."""
    shown = [row for row in pairs if row.differs] if only_differing else list(pairs)
    if column is None:
        return shown[::-1] if reverse else shown

    def place(row: Pair) -> float:
        value = column.value(row)
        if value is None:
            return math.inf
        return float(value) if reverse else -float(value)

    return sorted(shown, key=place)


TARGET = Head("target", "target", 15, right=False)


def heads(shown: Sequence[Column], by: str | None, *, reverse: bool) -> list[Head]:
    every = [column.head for column in shown]
    return [TARGET, *(h.sorted(falling=not reverse) if h.key == by else h for h in every)]


def cells(row: Pair, shown: Sequence[Column]) -> list[Text]:
    first = row.first
    found = [cell(f"{first.stage:<5} {first.block:>2} {first.kind}", "strong", right=False)]
    for column in shown:
        value = column.value(row)
        found.append(cell(column.words(value), "faint" if value is None else column.look))
    return found
