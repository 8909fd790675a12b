"""The map of what is pruned: kinds of targets down, transformer blocks across, in forward order.

A cell is a dot while its target waits and a ring while its Hessian is gathered; once solved, its
height and its colour both tell the relative output error, so that the map reads without colour too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from obstui.tui import theme
from obstui.tui.facts import JobFacts, Target
from obstui.tui.theme import style

HEIGHTS = "▁▂▃▄▅▆▇█"
WAITING, GATHERING, AT_WORK = "·", "○", "◆"
SOLVED = "■"  # by a method that measures no error
CURSOR = "▾"


@dataclass(frozen=True, slots=True)
class Band:
    """A stripe of the map: (stage, first block, one past its last) for each group in it."""

    groups: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where things go: the width of the row labels, of a cell, and the bands from the top."""

    label: int = 0
    cell: int = 1
    bands: tuple[Band, ...] = ()


def stages(targets: tuple[Target, ...]) -> tuple[tuple[str, int, int], ...]:
    """Runs of blocks that share a stage: (stage, first block, one past the last)."""
    by_block = {target.block: target.stage for target in targets}
    groups: list[tuple[str, int, int]] = []
    for block in sorted(by_block):
        if groups and groups[-1][0] == by_block[block]:
            groups[-1] = (groups[-1][0], groups[-1][1], block + 1)
        else:
            groups.append((by_block[block], block, block + 1))
    return tuple(groups)


def plan(targets: tuple[Target, ...], width: int) -> Plan:
    """One band with cells as wide as fit; several bands only when single cells do not fit."""
    groups = stages(targets)
    if not groups:
        return Plan()
    blocks = sum(end - start for _, start, end in groups)
    for label, cell in ((6, 3), (6, 2), (6, 1), (3, 1)):
        if label + blocks * cell + len(groups) - 1 <= width:
            return Plan(label, cell, (Band(groups),))
    return Plan(6, 1, _wrapped(groups, max(8, width - 6)))


def _wrapped(groups: tuple[tuple[str, int, int], ...], width: int) -> tuple[Band, ...]:
    bands: list[list[tuple[str, int, int]]] = [[]]
    used = 0
    for stage, start, end in groups:
        for first in range(start, end, width):
            last = min(first + width, end)
            if bands[-1] and used + last - first > width:
                bands.append([])
                used = 0
            bands[-1].append((stage, first, last))
            used += last - first + 1
    return tuple(Band(tuple(band)) for band in bands)


def _named(stage: str, room: int) -> str:
    """A stage's name, or its first and last letter, in so many cells."""
    name = stage if len(stage) <= room else (stage[:1] + stage[-1:])[:room]
    return f"{name:<{room}}"


def _beside(stage: str, mark: int, room: int) -> tuple[str, str]:
    """What stands before and after a mark at this cell of a stage's: its name where it is whole,
    else where there is more of it."""
    after = room - mark - 1
    if len(stage) <= mark or (mark >= after and len(stage) > after):
        return _named(stage, mark), " " * after
    return " " * mark, _named(stage, after)


class LayerMap(Widget, can_focus=True):
    """Draws `JobFacts.targets`; with the focus, its cursor tells one target's facts."""

    DEFAULT_CSS = "LayerMap { height: auto; width: 1fr; } LayerMap.-empty { display: none; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1, 0)", "Block before", id="map.left", show=False,
                tooltip="Move the cursor to the transformer block before"),
        Binding("right,l", "step(1, 0)", "Block after", id="map.right", show=False,
                tooltip="Move the cursor to the transformer block after"),
        Binding("up,k", "step(0, -1)", "Kind above", id="map.up", show=False,
                tooltip="Move the cursor to the kind of target above"),
        Binding("down,j", "step(0, 1)", "Kind below", id="map.down", show=False,
                tooltip="Move the cursor to the kind of target below"),
        Binding("v", "next_level", "Next sparsity", id="map.level",
                tooltip="Colour the map by the errors at the next sparsity"),
    ]  # fmt: skip

    class Pointed(Message):
        """The cursor stands on a target, or its facts changed."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes="-empty")
        self.targets: tuple[Target, ...] = ()
        self.level: str | None = None
        self._levels: tuple[str, ...] = ()
        self._kinds: tuple[str, ...] = ()
        self._at: dict[tuple[str, int], Target] = {}
        self._at_work = ""
        self.live = True
        self._cursor = (0, 0)  # column among the blocks, row among the kinds
        self._blocks: tuple[int, ...] = ()
        self._worst = 0.0

    def show(self, facts: JobFacts | None, at_work: str = "", *, live: bool = True) -> None:
        """Draw these targets; `at_work` is what the job says it is doing right now. Not `live`:
        what is shown being done was left so."""
        targets = facts.targets if facts else ()
        if (targets, at_work, live) == (self.targets, self._at_work, self.live):
            return
        known, before = (stages(self.targets), self._kinds), dict(self._at)
        scale, worked_on = (self.level, self._worst), {self._at_work, at_work}
        self.targets, self._at_work, self.live = targets, at_work, live
        self._levels = facts.levels if facts else ()
        if self.level not in self._levels:
            self.level = self._levels[-1] if self._levels else None
        self._kinds = tuple(dict.fromkeys(target.kind for target in targets))
        self._at = {(target.kind, target.block): target for target in targets}
        self._blocks = tuple(sorted({target.block for target in targets}))
        self._rescale()
        self.set_class(not targets, "-empty")
        if known != (stages(targets), self._kinds):
            self.refresh(layout=True)
        elif scale != (self.level, self._worst):
            self.refresh()
        elif changed := [at for at, target in self._at.items()
                         if target.name in worked_on or target != before.get(at)]:  # fmt: skip
            # Whole rows would be most of what a running job sends.
            self.refresh(*(self._region(*at) for at in changed))
        self.post_message(self.Pointed())

    @property
    def _plan(self) -> Plan:
        """Of the width that is there: the first lines are drawn before anybody tells of it."""
        return plan(self.targets, self.size.width)

    def _rescale(self) -> None:
        found = [t.error[self.level] for t in self.targets if t.error and self.level in t.error]
        self._worst = max(found, default=0.0)

    def allow_focus(self) -> bool:
        return self.can_focus and bool(self.targets)

    @property
    def pointed(self) -> Target | None:
        """The target under the cursor."""
        column, row = self._cursor
        if not self._blocks or not self._kinds:
            return None
        return self._at.get((self._kinds[row], self._blocks[column]))

    def action_step(self, columns: int, rows: int) -> None:
        column, row = self._cursor
        self._cursor = (
            max(0, min(len(self._blocks) - 1, column + columns)),
            max(0, min(len(self._kinds) - 1, row + rows)),
        )
        self.refresh()
        self.post_message(self.Pointed())

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the cell under the mouse."""
        at = event.get_content_offset(self)
        if at is not None and (cell := self._cell_at(at.x, at.y)) is not None:
            column, row = self._cursor
            self.action_step(cell[0] - column, cell[1] - row)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_step(1, 0)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_step(-1, 0)

    def _region(self, kind: str, block: int) -> Region:
        """Where a cell is drawn."""
        rows, row = 1 + len(self._kinds), 1 + self._kinds.index(kind)
        places = self._plan
        for band, drawn in enumerate(places.bands):
            left = places.label
            for _, start, end in drawn.groups:
                if start <= block < end:
                    x = left + (block - start) * places.cell
                    return Region(x, band * rows + row, places.cell, 1)
                left += (end - start) * places.cell + 1
        return Region()

    def _cell_at(self, x: int, y: int) -> tuple[int, int] | None:
        """The column among the blocks and the row among the kinds that are drawn there."""
        band, row = divmod(y, 1 + len(self._kinds))
        places = self._plan
        if not row or band >= len(places.bands):
            return None
        left = places.label
        for _, start, end in places.bands[band].groups:
            room = (end - start) * places.cell
            if left <= x < left + room:
                return self._blocks.index(start + (x - left) // places.cell), row - 1
            left += room + 1
        return None

    def action_next_level(self) -> None:
        if self.level in self._levels:
            place = self._levels.index(self.level) + 1
            self.level = self._levels[place % len(self._levels)]
            self._rescale()
            self.refresh()
            self.post_message(self.Pointed())

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(plan(self.targets, width).bands) * (1 + len(self._kinds))

    def legend(self, width: int) -> Text:
        """How to read the heights: at which sparsity, and what the tallest stands for."""
        level = self.level
        solved = sum(
            target.solved if level is None else level in (target.error or target.kept or {})
            for target in self.targets
        )
        gathering = sum(target.gathering for target in self.targets)
        errors = self.level is not None and self._worst > 0
        line = Text(f"{solved} of {len(self.targets)} solved", style("text"), no_wrap=True)
        if gathering:
            words = " calibrating" if self.live else " calibrated in part"
            words = "" if errors and width < 70 else words
            line.append(f"  {GATHERING} {gathering}{words}", style("accent"))
        if not errors:
            signs = {AT_WORK: "being solved", WAITING: "waiting", SOLVED: "solved"}
            for sign, words in signs.items():
                entry = f"  {sign} {words}"
                if line.cell_len + cell_len(entry) <= width:
                    line.append(entry, style("muted"))
            return line
        line.append("  error at ", style("muted"))
        line.append(f"{float(self.level or 0) * 100:g} %", style("text")).append(
            "  0 ", style("muted")
        )
        for glyph, colour in zip(HEIGHTS, theme.ramp(), strict=True):
            line.append(glyph, colour)
        return line.append(f" {self._worst:.3f}", style("muted"))

    def render_line(self, y: int) -> Strip:
        rows = 1 + len(self._kinds)
        band, row = divmod(y, rows)
        places = self._plan
        if not self._kinds or band >= len(places.bands):
            return Strip.blank(self.size.width, self.rich_style)
        if row == 0:
            segments = self._header(places, places.bands[band])
        else:
            segments = self._cells(places, places.bands[band], self._kinds[row - 1])
        ground = self.rich_style
        strip = Strip([Segment(s.text, ground + s.style if s.style else ground) for s in segments])
        strip = strip.simplify()  # each segment costs its colours anew on the wire
        return strip.adjust_cell_length(self.size.width, ground)

    def _header(self, places: Plan, band: Band) -> list[Segment]:
        """The stages' names, and a mark above the cursor, which a full cell would hide."""
        look, here = Style.parse(style("muted")), self.pointed if self.has_focus else None
        segments = [Segment(" " * places.label)]
        for stage, start, end in band.groups:
            room = (end - start) * places.cell
            if here is not None and start <= here.block < end:
                before, after = _beside(stage, (here.block - start) * places.cell, room)
                mark = Segment(CURSOR, Style.parse(style("accent")))
                segments += [Segment(before, look), mark, Segment(f"{after} ", look)]
            else:
                segments.append(Segment(f"{_named(stage, room)} ", look))
        return segments

    def _cells(self, places: Plan, band: Band, kind: str) -> list[Segment]:
        label = kind if places.label > len(kind) else kind[:1] + kind[-1:]
        here = self.has_focus and kind == self._kinds[self._cursor[1]]
        look = Style.parse(style("accent" if here else "muted"))
        segments = [Segment(f"{label:<{places.label}}", look)]
        for _, start, end in band.groups:
            for block in range(start, end):
                glyph, look = self._cell(kind, block)
                wide = glyph * max(1, places.cell - 1)
                gap = " " * (places.cell - len(wide))
                # A gap of its own look would cost its colours, and those of the next cell, anew.
                segments += (
                    [Segment(wide, look), Segment(gap)]
                    if look.bgcolor or look.reverse
                    else [Segment(wide + gap, look)]
                )
            segments.append(Segment(" "))
        return segments

    def _cell(self, kind: str, block: int) -> tuple[str, Style]:
        target = self._at.get((kind, block))
        if target is None:
            return " ", Style()
        glyph, look = self._glyph(target)
        if self.has_focus and target is self.pointed:
            look = look + Style.parse(theme.style("cursor"))
        return glyph, look

    def _glyph(self, target: Target) -> tuple[str, Style]:
        error = target.error.get(self.level or "") if target.error else None
        if error is None:
            sign, look = self._unmeasured(target)
            return sign, Style.parse(style(look))
        share = error / self._worst if self._worst else 0.0
        step = min(len(HEIGHTS) - 1, int(share * len(HEIGHTS)))
        return HEIGHTS[step], Style.parse(theme.ramp()[step])

    def _unmeasured(self, target: Target) -> tuple[str, str]:
        if target.solved and self.level in (target.kept or {}):
            return SOLVED, "good"
        if self._at_work and target.name == self._at_work:
            return AT_WORK, "accent"
        return (GATHERING, "accent") if target.gathering else (WAITING, "faint")
