"""Which one to keep: every measured model in a table and in a chart, the Pareto front marked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import DataTable

from obstui.measured import DENSE, Measured, Metric, as_csv, as_markdown, axes
from obstui.text import one_line
from obstui.tui import board
from obstui.tui.board import Board, BoardReading, Filter, Key, key_of
from obstui.tui.clipboard import tmux_hint
from obstui.tui.follow import Fault
from obstui.tui.screens.choice import Choice
from obstui.tui.screens.view import View
from obstui.tui.theme import style
from obstui.tui.widgets.chart import Axis, Chart
from obstui.tui.widgets.sheet import Sheet
from obstui.tui.widgets.still import Still
from obstui.tui.writer import sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import ImageView
    from obstui.tui.follow import Snapshot

_FORMATS: dict[str, tuple[str, Callable[[Sequence[Measured]], str]]] = {
    "md": ("Markdown", as_markdown),
    "csv": ("CSV", as_csv),
}


class SweepsScreen(View[None]):
    """The table above the chart, or beside it where there is room."""

    place = "sweeps"
    CSS_PATH = "sweeps.tcss"
    AUTO_FOCUS = "#models"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "layers", "Layers", id="sweeps.layers",
                tooltip="What was kept of every layer of the chosen variant"),
        Binding("a", "compare", "A/B", id="sweeps.compare",
                tooltip="Its pictures beside the dense model's; of two marked ones, each other's"),
        Binding("s", "sort", "Sort", id="sweeps.sort",
                tooltip="Sort by another column; by the same one: the other way round"),
        Binding("y", "axis('y')", "Quality", id="sweeps.y",
                tooltip="The next quality as the chart's height and the front's"),
        Binding("x", "axis('x')", "Cost", id="sweeps.x",
                tooltip="The next cost as the chart's width and the front's"),
        Binding("f", "filter", "Filter", id="sweeps.filter",
                tooltip="Only one base model, or what one sweep or job made"),
        Binding("space", "mark", "Mark", id="sweeps.mark", show=False,
                tooltip="Mark the model for the export or the difference"),
        Binding("d", "difference", "Difference", id="sweeps.difference", show=False,
                tooltip="The layers of the two marked variants side by side"),
        Binding("m", "export('md')", "Markdown", id="sweeps.markdown",
                tooltip="Export the marked models, or all, as Markdown: a file and the clipboard"),
        Binding("v", "export('csv')", "CSV", id="sweeps.csv",
                tooltip="Export the marked models, or all, as CSV: a file and the clipboard"),
        Binding("escape", "back", "Back", id="sweeps.back", show=False,
                tooltip="Forget the marks, then the filter, then go back to the queue"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._reading = BoardReading()
        self._drawn: object = None
        self._board = Board()
        self._read = False
        self._filter = Filter()
        self._sort: str | None = None
        self._reverse = False
        self._marks: set[Key] = set()
        self._axes = {"x": "", "y": ""}
        self._rows: dict[str, Measured] = {}
        self._best: frozenset[Key] = frozenset()

    def compose_body(self) -> ComposeResult:
        yield Still(id="caption")
        with Container(id="body"):
            yield Sheet(id="models", kept=board.KEPT)
            yield Still(id="nothing")
            yield Chart(id="chart")
        yield Still(id="facts")

    def on_mount(self) -> None:
        """Look as the person left it."""
        kept = self.dashboard.remembered.get
        sort = kept("sweeps sort", "")
        self._sort = sort if sort in board.COLUMNS else None
        self._reverse = kept("sweeps reversed", False)
        self._axes = {"x": kept("sweeps x", ""), "y": kept("sweeps y", "")}

    def _remember(self) -> None:
        keep = self.dashboard.remembered.put
        keep("sweeps sort", self._sort or "")
        keep("sweeps reversed", self._reverse)
        keep("sweeps x", self._axes["x"])
        keep("sweeps y", self._axes["y"])
        keep("sweeps filter", self._filter.words)

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
            self._say_nothing(page.words)
        elif isinstance(page, Board):
            if not self._read:
                left_at = self.dashboard.remembered.get("sweeps filter", "")
                known = (each for each in board.filters(page) if each.words == left_at)
                self._filter = next(known, Filter())
            self._board, self._read = page, True
            self._marks &= {key_of(row) for row in self._board.rows}
            self._draw()
        self._drawn = look

    def _say_nothing(self, words: str) -> None:
        self.query_one(Sheet).display = self.query_one(Chart).display = not words
        self.query_one("#nothing", Still).show(Text(words, style("muted")))

    def _draw(self) -> None:
        rows = self._filter.of(self._board.rows)
        if not rows and self._read:
            self._say_nothing("No model was made or measured yet: prune, compare and bench do.")
            return
        self._say_nothing("")
        self._remember()
        rows = board.ordered(rows, self._sort, reverse=self._reverse)
        self._rows = {"\n".join(key_of(row)): row for row in rows}
        self._draw_chart(rows)
        shown = board.columns(rows)
        table = self.query_one(Sheet)
        table.show(
            board.heads(shown, self._sort, reverse=self._reverse),
            {key: board.cells(row, shown, self._best, self._marks)
             for key, row in self._rows.items()},
        )  # fmt: skip
        self._draw_lines()
        self.refresh_bindings()

    def _draw_chart(self, rows: Sequence[Measured]) -> None:
        x, y = self._metric("x"), self._metric("y")
        chart = self.query_one(Chart)
        if x is None or y is None:
            self._best = frozenset()
            chart.show(Axis("cost"), Axis("quality"), ())
            return
        chosen = self._chosen
        points, self._best = board.points(rows, x, y, key_of(chosen) if chosen else None)
        levels = board.levels(rows, y, self._board.reseeds)
        chart.show(board.axis(x), board.axis(y), points, levels)

    def _metric(self, which: str) -> Metric | None:
        """What the chart's axis shows; the first that was measured, unless one was chosen."""
        known = self._metrics(which)
        wanted = self._axes[which]
        return next((m for m in known if m.key == wanted), known[0] if known else None)

    def _metrics(self, which: str) -> list[Metric]:
        return axes(self._filter.of(self._board.rows))[which == "y"]

    def _draw_lines(self) -> None:
        chosen = self._chosen
        line = Text()
        if chosen is not None:
            on_front, reseed = key_of(chosen) in self._best, self._board.reseeds.get(chosen.base)
            line = board.facts(chosen, on_front=on_front, reseed=reseed)
        self.query_one("#facts", Still).show(line)
        self.query_one("#caption", Still).show(self._caption())

    def _caption(self) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        variants = sum(not row.dense for row in self._rows.values())
        line.append(f"{variants:,} variant{'' if variants == 1 else 's'}", style("text"))
        line.append(f" of {self._filter.words}", style("muted"))
        if self._sort is not None:
            line.append(f"  by {board.COLUMNS[self._sort].head.label}", style("muted"))
        if self._marks:
            line.append(f"  {len(self._marks):,} marked", style("warn"))
        line.append_text(self.query_one(Sheet).hint())
        return line

    @property
    def _chosen(self) -> Measured | None:
        tables = self.query(Sheet)  # empty while the screen goes
        return self._rows.get(tables.first().chosen or "") if tables else None

    @on(Sheet.Chosen)
    def _row_chosen(self) -> None:
        self._draw_chart(list(self._rows.values()))
        self._draw_lines()
        self.refresh_bindings()

    # -- arranging ---------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("layers", "compare"):
            chosen = self._chosen
            return chosen is not None and not (action == "layers" and chosen.dense)
        if action == "difference":
            return len(self._marked_variants()) == 2
        return super().check_action(action, parameters)

    def action_axis(self, which: str) -> None:
        known, now = self._metrics(which), self._metric(which)
        if now is not None:
            self._axes[which] = known[(known.index(now) + 1) % len(known)].key
            self._draw()

    def action_sort(self) -> None:
        shown = board.columns(list(self._rows.values()))[1:]
        options = [("", "as made: by parameters"), *((c.head.key, c.head.label) for c in shown)]
        self.app.push_screen(Choice("Sort by", options), self._sort_by)

    @on(Sheet.HeadClicked)
    def _head_clicked(self, event: Sheet.HeadClicked) -> None:
        if event.key != "front":
            self._sort_by(event.key)

    def _sort_by(self, key: str | None) -> None:
        if key is None:
            return
        self._reverse = not self._reverse if key and key == self._sort else False
        self._sort = key or None
        self._draw()

    def action_filter(self) -> None:
        filters = board.filters(self._board)

        def answered(key: str | None) -> None:
            if key is not None:
                self._filter = filters[int(key)]
                self._draw()

        options = [(str(place), each.words) for place, each in enumerate(filters)]
        self.app.push_screen(Choice("Show", options), answered)

    def action_mark(self) -> None:
        if (row := self._chosen) is not None:
            self._marks ^= {key_of(row)}
            self._draw()
            self.query_one(Sheet).action_cursor_down()

    def action_back(self) -> None:
        if self._marks:
            self._marks.clear()
        elif self._filter != Filter():
            self._filter = Filter()
        else:
            self.dismiss()
            return
        self._draw()

    # -- going on ----------------------------------------------------------------------------

    def _marked_variants(self) -> list[str]:
        return [r.model for r in self._board.rows if key_of(r) in self._marks and not r.dense]

    @on(DataTable.RowSelected)
    def action_layers(self) -> None:
        from obstui.tui.screens.layers import LayersScreen

        if (row := self._chosen) is not None and not row.dense:
            self.app.push_screen(LayersScreen(row.model))

    def action_difference(self) -> None:
        from obstui.tui.screens.layers import LayersScreen

        self.app.push_screen(LayersScreen(*self._marked_variants()))

    @work(group="ab", exclusive=True, exit_on_error=False)
    async def action_compare(self) -> None:
        from obstui.tui.screens.ab import ABScreen

        marked = [row for row in self._board.rows if key_of(row) in self._marks]
        if (row := marked[-1] if marked else self._chosen) is None:
            return
        try:
            other = marked[0] if marked else row
            picture = await asyncio.to_thread(picture_of, self.dashboard.paths, row, other)
        except Exception as err:
            self.notify(sentence(err), severity="error", markup=False)
            return
        if picture is not None:
            first = marked[0].model if len(marked) > 1 else DENSE
            self.app.push_screen(ABScreen(picture, against=first))
        else:
            words = f"No comparison has painted with {one_line(row.model, limit=60)} yet."
            self.notify(words, severity="warning", markup=False)

    @work(group="export", exclusive=True, exit_on_error=False)
    async def action_export(self, suffix: str) -> None:
        """A file is written even where a terminal keeps the clipboard to itself; not read-only."""
        name, make = _FORMATS[suffix]
        rows = list(self._rows.values())
        rows = [row for row in rows if key_of(row) in self._marks] or rows
        if not rows:
            return
        text = make(rows)
        self.app.copy_to_clipboard(text)
        count = "1 model" if len(rows) == 1 else f"{len(rows):,} models"
        if self.dashboard.readonly:
            self.notify(f"Copied {count} as {name}.{tmux_hint(self.dashboard)}", markup=False)
            return
        folder = self.dashboard.paths.home / "exports"
        try:
            file = await asyncio.to_thread(write_export, folder, suffix, text)
        except OSError as err:
            words = f"Copied {count} as {name}, but {folder} cannot be written: {err.strerror}."
            self.notify(words, severity="error", markup=False)
        else:
            words = f"Copied {count} as {name}, and wrote {file}{tmux_hint(self.dashboard)}"
            self.notify(words, markup=False, timeout=8)


def picture_of(paths: Paths, row: Measured, other: Measured) -> ImageView | None:
    """A picture of the comparison whose figures `row` shows, or of one that has painted with both
    models. Raises StoreError."""
    from obstui.store import ImageFilter, Reader

    with Reader.open(paths) as reader:
        best = lambda number: (number not in other.measured_by, number != row.compared_by, -number)  # noqa: E731
        for number in sorted(row.measured_by, key=best):
            job = reader.job(number)
            if job is None or job.kind != "compare":
                continue
            for picture in reader.images(ImageFilter(job=number), limit=10_000):
                if picture.model == row.model:
                    return picture
    return None


def write_export(folder: Path, suffix: str, text: str) -> Path:
    """A new file in `folder`, named by the time; whole or not there. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.strftime("models-%Y%m%d-%H%M%S")
    part = folder / f".{stamp}.{os.getpid()}"
    try:
        part.write_text(text, encoding="utf-8")
        for number in range(1, 1000):
            file = folder / f"{stamp}{f'-{number}' if number > 1 else ''}.{suffix}"
            with contextlib.suppress(FileExistsError):
                os.link(part, file)
                return file
        raise FileExistsError(17, f"{stamp} is taken a thousand times")
    finally:
        part.unlink(missing_ok=True)
