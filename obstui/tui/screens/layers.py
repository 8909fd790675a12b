"""The layer table of a variant: what was kept of each target and what that cost; or two variants
side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from obstui.text import one_line
from obstui.tui import layers
from obstui.tui.follow import Fault
from obstui.tui.formats import whole
from obstui.tui.layers import Column, LayersReading, Page, Pair
from obstui.tui.screens.choice import Choice
from obstui.tui.screens.view import View
from obstui.tui.theme import style
from obstui.tui.widgets.sheet import Sheet
from obstui.tui.widgets.still import Still
from obstui.tui.widgets.target_table import unit_name

if TYPE_CHECKING:
    from obstui.tui.follow import Snapshot


class LayersScreen(View[None]):
    """Opened on a variant's id or folder, at a target if one is named; `d` sets a second variant
    beside it."""

    CSS_PATH = "layers.tcss"
    AUTO_FOCUS = "#layers"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "back", "Back", id="layers.back",
                tooltip="Forget the second variant, then go back to where you were"),
        Binding("s", "sort", "Sort", id="layers.sort",
                tooltip="Sort by another column; by the same one: the other way round"),
        Binding("d", "difference", "Difference", id="layers.difference",
                tooltip="Beside the layers of another variant"),
        Binding("o", "only_differing", "Only differing", id="layers.differing",
                tooltip="Only the layers in which the two differ, or all"),
        Binding("t", "swap", "Swap", id="layers.swap", show=False,
                tooltip="The second variant becomes the first"),
    ]  # fmt: skip

    def __init__(
        self, variant: str, second: str | None = None, *, target: str | None = None
    ) -> None:
        super().__init__()
        self._reading = LayersReading((variant,) if second is None else (variant, second))
        self._target = target
        self._drawn: object = None
        self._page = Page()
        self._sort: str | None = None
        self._reverse = self._only = False
        self._rows: dict[str, Pair] = {}

    def compose_body(self) -> ComposeResult:
        yield Still(id="layers-caption")
        yield Sheet(id="layers")
        yield Still(id="layers-nothing")
        yield Still(id="layers-facts")

    # -- showing -----------------------------------------------------------------------------

    def ask_follower(self) -> None:
        self.dashboard.follow(None, reading=self._reading)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        page = snapshot.page_of(self._reading)
        look = (page, self.size, self.app.theme)
        if look == self._drawn:
            return
        if isinstance(page, Fault):
            self._say(page.words)
        elif isinstance(page, Page):
            self._page = page
            self._draw()
        self._drawn = look

    def _say(self, words: str) -> None:
        self.query_one(Sheet).display = not words
        self.query_one("#layers-nothing", Still).show(Text(words, style("muted")))

    def _draw(self) -> None:
        tables = self._page.tables
        if not tables:
            return
        shown = layers.columns(tables)
        rows = layers.ordered(layers.pair(tables), self._sorted_by(shown), reverse=self._reverse,
                              only_differing=self._only and len(tables) > 1)  # fmt: skip
        self._rows = {row.first.name: row for row in rows}
        self._say("" if rows else "No layer differs: both keep the same units.")
        self.query_one(Sheet).show(
            layers.heads(shown, self._sort, reverse=self._reverse),
            {name: layers.cells(row, shown) for name, row in self._rows.items()},
        )
        if self._target in self._rows:
            target, self._target = self._target, None
            self.query_one(Sheet).choose(target or "")
        self._draw_lines()
        self.refresh_bindings()

    def _sorted_by(self, shown: list[Column]) -> Column | None:
        return next((column for column in shown if column.head.key == self._sort), None)

    @on(Sheet.Chosen)
    def _draw_lines(self) -> None:
        self.query_one("#layers-caption", Still).show(self._caption())
        row = self._rows.get(self.query_one(Sheet).chosen or "")
        line = Text(no_wrap=True, overflow="ellipsis")
        if row is not None:
            first = row.first
            words = f"{whole(first.kept)} of {first.units:,} {unit_name(first.kind)} kept"
            line.append(words, style("text"))
            if (gone := first.removed) and first.kind != "ff":  # neurons are too many to name
                numbers = ", ".join(map(str, gone))
                line.append(f", removed: {numbers}", style("accent"))
            line.append("  ")
            line.append(first.name, style("muted"))
        self.query_one("#layers-facts", Still).show(line)

    def _caption(self) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        for place, table in enumerate(self._page.tables):
            line.append(" against " if place else "", style("muted"))
            line.append(one_line(table.variant, limit=40), style("strong"))
        count = len(self._rows)
        line.append(f"  {count:,} layer{'' if count == 1 else 's'}", style("text"))
        if self._only and len(self._page.tables) > 1:
            line.append(" that differ", style("warn"))
        line.append_text(self.query_one(Sheet).hint())
        for place, table in enumerate(self._page.tables):
            line.append(" against " if place else "  ", style("muted"))
            line.append("" if table.words == table.variant else table.words, style("muted"))
        for table in self._page.tables:
            if not any(layer.error is not None for layer in table.layers):
                name = one_line(table.variant, limit=40)
                line.append(f"  {name}: no errors were measured", style("warn"))
        if any(column.head.key == "dims" for column in layers.columns(self._page.tables)):
            line.append("  N/d: calibration tokens for each input", style("faint"))
        return line

    # -- arranging ---------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("only_differing", "swap"):
            return len(self._reading.variants) > 1
        if action == "difference":
            return bool(self._page.others)
        return super().check_action(action, parameters)

    def action_sort(self) -> None:
        if not self._page.tables:
            return
        shown = layers.columns(self._page.tables)
        options = [("", "forward order"), *((c.head.key, c.head.label) for c in shown)]
        self.app.push_screen(Choice("Sort by", options), self._sort_by)

    @on(Sheet.HeadClicked)
    def _head_clicked(self, event: Sheet.HeadClicked) -> None:
        self._sort_by("" if event.key == "target" else event.key)

    def _sort_by(self, key: str | None) -> None:
        if key is None:
            return
        self._reverse = not self._reverse if key == (self._sort or "") else False
        self._sort = key or None
        self._draw()

    def action_difference(self) -> None:
        options = [(str(place), f"{one_line(name, limit=24)}  {words}")
                   for place, (name, words) in enumerate(self._page.others)]  # fmt: skip
        others = self._page.others

        def answered(key: str | None) -> None:
            if key is not None:
                self._show_variants((self._reading.variants[0], others[int(key)][0]))

        self.app.push_screen(Choice("Beside which variant?", options), answered)

    def _show_variants(self, variants: tuple[str, ...]) -> None:
        self._reading, self._sort, self._reverse = LayersReading(variants), None, False
        self.ask_follower()

    def action_only_differing(self) -> None:
        self._only = not self._only
        self._draw()

    def action_swap(self) -> None:
        self._show_variants(self._reading.variants[::-1])

    def action_back(self) -> None:
        if len(self._reading.variants) > 1:
            self._show_variants(self._reading.variants[:1])
        else:
            self.dismiss()
