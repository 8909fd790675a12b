"""Every target of a prune: for each sparsity the units kept and the error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from obstui.tui import formats
from obstui.tui.theme import style
from obstui.tui.widgets.still import alike

if TYPE_CHECKING:
    from obstui.tui.facts import JobFacts, Target


_FIXED = (("stage", 5), ("block", 5), ("kind", 5), ("units", 5))
LEVEL_WIDTH = 12


def unit_name(kind: str) -> str:
    """What a target's units are called."""
    return "neurons" if kind == "ff" else "heads"


def target_words(target: Target, level: str | None, width: int, *, live: bool = True) -> Text:
    """One target on one line, at one sparsity; its full name where there is room for all of it. Not
    `live`: what is being done was left so."""
    place = f"{target.stage} block {target.block} {target.kind}  "
    line = Text.assemble((place, style("strong")), no_wrap=True)
    kept = (target.kept or {}).get(level or "")
    if kept is None:
        doing = "waiting"
        if target.gathering:
            doing = "calibrating" if live else "calibrated in part"
        line.append(f"{target.units:,} {unit_name(target.kind)}, {doing}", style("muted"))
        return _named(line, target, width)
    line.append(f"keeps {formats.whole(kept)} of {target.units:,} {unit_name(target.kind)}",
                style("text"))  # fmt: skip
    for words, errors in (("error", target.error), ("held-out", target.held_out)):
        if (error := (errors or {}).get(level or "")) is not None:
            line.append(f"  {words} {error:.4f}", style("accent"))
    told = width >= 110
    if target.seconds is not None:
        line.append(f"  {'solved in ' * told}{formats.measured(target.seconds)}", style("muted"))
    if target.samples_per_dim is not None:
        means = " tokens an input" * told
        line.append(f"  N/d {target.samples_per_dim:.1f}{means}", style("muted"))
    return _named(line, target, width)


def _named(line: Text, target: Target, width: int) -> Text:
    name = f"   {target.name}"
    return line.append(name, style("faint")) if line.cell_len + len(name) <= width else line


class TargetTable(DataTable[Text]):
    """Rows in forward order; filled once, then only solved rows change."""

    DEFAULT_CSS = "TargetTable { scrollbar-size-vertical: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", id="targets.down", show=False,
                tooltip="The target below"),
        Binding("k", "cursor_up", "Up", id="targets.up", show=False, tooltip="The target above"),
        Binding("g", "scroll_top", "First", id="targets.first", show=False,
                tooltip="The first target"),
        Binding("G", "scroll_bottom", "Last", id="targets.last", show=False,
                tooltip="The last target"),
    ]  # fmt: skip

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, cursor_type="row", cell_padding=1)
        self._shape: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self._cells: dict[str, list[Text]] = {}

    def show(self, facts: JobFacts | None) -> None:
        targets = facts.targets if facts else ()
        levels = facts.levels if facts else ()
        shape = (tuple(target.name for target in targets), levels)
        rows = {target.name: _cells(target, levels) for target in targets}
        with self.app.batch_update():
            if shape != self._shape:
                self._rebuild(rows, levels)
                self._shape = shape
            for name, cells in rows.items():
                known = zip(self.ordered_columns, self._cells[name], cells, strict=True)
                for column, old, new in known:
                    if not alike(old, new):
                        self.update_cell(name, column.key, new)
        self._cells = rows

    def _rebuild(self, rows: dict[str, list[Text]], levels: tuple[str, ...]) -> None:
        self.clear(columns=True)
        for key, width in _FIXED:
            self.add_column(Text(key), key=key, width=width)
        for level in levels:
            words = f"{float(level) * 100:g} %"
            head = Text(f"{words:>5}  error", justify="right")
            self.add_column(head, key=level, width=LEVEL_WIDTH)
        self.add_column(Text("time", justify="right"), key="time", width=6)
        for name, cells in rows.items():
            self.add_row(*cells, key=name)
        self._cells = dict(rows)


def _cells(target: Target, levels: tuple[str, ...]) -> list[Text]:
    def right(words: str, look: str = "text") -> Text:
        return Text(words, style(look), justify="right", no_wrap=True)

    look = "text" if target.solved else "muted"
    cells = [
        Text(target.stage, style(look)),
        right(str(target.block), look),
        Text(target.kind, style(look)),
        right(f"{target.units:,}", "muted"),
    ]
    for level in levels:
        kept, error = (target.kept or {}).get(level), (target.error or {}).get(level)
        words = Text.assemble((f"{formats.whole(kept):>5} ", style("text")), justify="right")
        cells.append(words.append(formats.number(error, ".4f"), style("accent")))
    cells.append(right("" if target.seconds is None else formats.measured(target.seconds), "muted"))
    return cells
