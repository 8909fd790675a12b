"""Every target of a prune: for each sparsity the units kept and the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from obstui.tui import formats
from obstui.tui.theme import style
from obstui.tui.widgets.sheet import Head, Sheet

if TYPE_CHECKING:
    from obstui.tui.facts import JobFacts, Target


_FIXED = (
    Head("stage", "stage", 5, right=False),
    Head("block", "block", 5),
    Head("kind", "kind", 5, right=False),
    Head("units", "units", 5),
)
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


class TargetTable(Sheet):
    """Rows in forward order; the target stays in sight, however many sparsities there are."""

    # It has more rows than any screen: what fits is reckoned with the scrollbar from the start.
    DEFAULT_CSS = "TargetTable { scrollbar-gutter: stable; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, kept=3)

    def tell(self, facts: JobFacts | None) -> None:
        """Show the targets of this story."""
        levels = facts.levels if facts else ()
        shares = (f"{float(level) * 100:g} %" for level in levels)
        heads = (
            *_FIXED,
            *(Head(level, f"{share:>5}  error", LEVEL_WIDTH)
              for level, share in zip(levels, shares, strict=True)),
            Head("time", "time", 6),
        )  # fmt: skip
        targets = facts.targets if facts else ()
        self.show(heads, {target.name: _cells(target, levels) for target in targets})


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
