"""Every target of a prune: units kept and output error at each sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual.widgets import DataTable

from obstui.tui import formats
from obstui.tui.theme import style

if TYPE_CHECKING:
    from obstui.tui.facts import JobFacts, Target


def unit_name(kind: str) -> str:
    """What a target's units are called."""
    return "neurons" if kind == "ff" else "heads"


def target_words(target: Target, level: str | None) -> Text:
    """One target on one line, at one sparsity."""
    line = Text.assemble((f"{target.name}  ", style("strong")), no_wrap=True)
    if target.error is None or level is None or level not in target.error:
        return line.append(f"{target.units:,} {unit_name(target.kind)}, waiting", style("muted"))
    kept = (target.kept or {}).get(level)
    line.append(f"keeps {formats.whole(kept)} of {target.units:,} {unit_name(target.kind)}",
                style("text"))  # fmt: skip
    line.append(f"  error {target.error[level]:.4f}", style("accent"))
    if target.seconds is not None:
        line.append(f"  {target.seconds:.1f} s", style("muted"))
    if target.samples_per_dim is not None:
        line.append(f"  N/d {target.samples_per_dim:.1f}", style("muted"))
    return line


class TargetTable(DataTable[Text]):
    """Rows in forward order; filled once, then only solved rows change."""

    DEFAULT_CSS = "TargetTable { scrollbar-size-vertical: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
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
                if cells != self._cells.get(name):
                    for column, cell in zip(self.ordered_columns, cells, strict=True):
                        self.update_cell(name, column.key, cell)
        self._cells = rows

    def _rebuild(self, rows: dict[str, list[Text]], levels: tuple[str, ...]) -> None:
        self.clear(columns=True)
        longest = max((len(name) for name in rows), default=10)
        self.add_column(Text("target"), key="name", width=min(longest, 56))
        self.add_column(Text("units", justify="right"), key="units", width=6)
        for level in levels:
            words = f"{float(level) * 100:g} %"
            self.add_column(Text(f"keeps {words}", justify="right"), key=f"k{level}", width=11)
            self.add_column(Text("error", justify="right"), key=f"e{level}", width=7)
        self.add_column(Text("time", justify="right"), key="time", width=7)
        for name, cells in rows.items():
            self.add_row(*cells, key=name)
        self._cells = dict(rows)


def _cells(target: Target, levels: tuple[str, ...]) -> list[Text]:
    def right(words: str, look: str = "text") -> Text:
        return Text(words, style(look), justify="right", no_wrap=True)

    name = Text(target.name, style("text" if target.solved else "muted"), no_wrap=True)
    name.truncate(56, overflow="ellipsis")
    cells = [name, right(f"{target.units:,}", "muted")]
    for level in levels:
        kept, error = (target.kept or {}).get(level), (target.error or {}).get(level)
        cells += [right(formats.whole(kept)), right(formats.number(error, 4), "accent")]
    cells.append(right("" if target.seconds is None else f"{target.seconds:.1f} s", "muted"))
    return cells
