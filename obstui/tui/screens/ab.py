"""Two models at the same prompt and seed: flipped in place, side by side, or their difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message

from obstui import picture_files
from obstui.text import one_line
from obstui.tui import images, pixels
from obstui.tui.clipboard import copy
from obstui.tui.difference import FULL, Distance, distance, ramp
from obstui.tui.follow import Fault
from obstui.tui.formats import change, number, size
from obstui.tui.pairs import Pairs, PairsReading, SameNoise
from obstui.tui.screens.view import View
from obstui.tui.theme import style
from obstui.tui.widgets.full_picture import FullPicture
from obstui.tui.widgets.picture import Picture
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from obstui.store import ImageView
    from obstui.tui.follow import Snapshot

FLIP, SIDE, DIFFERENCE = "flip", "side", "difference"
_VIEWS = ((FLIP, "space", "flip"), (SIDE, "s", "side by side"), (DIFFERENCE, "d", "difference"))
_RAMP = 4  # cells
_LABEL, _VALUE = 11, 9  # cells of a fact
_MEANS = (
    ("psnr", "PSNR", ".1f", 1, " dB"),
    ("ssim", "SSIM", ".3f", 1, ""),
    ("latent_distance", "latents", ".1e", 1, ""),
    ("clip", "CLIP", ".1f", 1, ""),
    ("attributes", "attributes", ".0f", 100, " %"),
)
"""Of all pictures: what a comparison calls it, and how it is written."""


class ABScreen(View[None]):
    """Opened on one picture; what it is compared with is read from the store and may still grow."""

    CSS_PATH = "ab.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "back", "Back", id="ab.back", tooltip="Back to where you were"),
        Binding("space", "flip", "Flip", id="ab.flip", show=False,
                tooltip="The other picture in the same place"),
        Binding("s", "view('side')", "Side by side", id="ab.side", show=False,
                tooltip="Both at once"),
        Binding("d", "view('difference')", "Difference", id="ab.difference", show=False,
                tooltip="Where the two differ, as a heat map"),
        Binding("right,l", "other(1)", "Other B", id="ab.right",
                tooltip="The next model as B"),
        Binding("left,h", "other(-1)", "B before", id="ab.left", show=False,
                tooltip="The model before as B"),
        Binding("a", "first", "Other A", id="ab.first", tooltip="The next model as A"),
        Binding("down,j", "row(1)", "Next prompt", id="ab.down",
                tooltip="The next prompt or seed"),
        Binding("up,k", "row(-1)", "Prompt before", id="ab.up", show=False,
                tooltip="The prompt or seed before"),
        Binding("i", "mode", "Image mode", id="ab.mode", show=False,
                tooltip="Pixels where the terminal has them, half-blocks, letters, no picture"),
        Binding("y", "copy", "Copy path", id="ab.copy", show=False,
                tooltip="Copy the name of the shown picture's file"),
        Binding("e", "again", "Like it", id="ab.again", show=False,
                tooltip="A new generation with the picture's prompt, seed and settings: the form"),
    ]  # fmt: skip

    class Measured(Message, bubble=False):
        """The distance of two files, or why there is none."""

        def __init__(self, paths: tuple[str, str], found: Distance | str) -> None:
            super().__init__()
            self.paths, self.found = paths, found

    def __init__(self, picture: ImageView, *, against: str = "dense") -> None:
        super().__init__()
        self._reading = PairsReading(picture.job_id, picture.base)
        self._wish: ImageView | None = picture
        self._pairs = Pairs((), (), ())
        self._row = 0
        self._a, self._b = against, picture.model
        self._view, self._shows_b, self._mode = FLIP, True, 0
        self._measured: tuple[tuple[str, str], Distance | str] | None = None
        self._cost = ""

    def compose_body(self) -> ComposeResult:
        yield Still(id="ab-caption")
        yield Still(id="ab-models")
        with Horizontal(id="ab-body"):
            yield FullPicture(id="ab-one")
            yield Picture(id="ab-a")
            yield Picture(id="ab-b")
            yield Still(id="ab-facts")
        yield Still(id="ab-line")

    async def on_screen_resume(self) -> None:
        self.query_one(FullPicture).restore()

    # -- what is compared --------------------------------------------------------------------

    def ask_follower(self) -> None:
        self.dashboard.follow(None, reading=self._reading)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        page = snapshot.page_of(self._reading)
        if isinstance(page, Fault):
            self.query_one("#ab-caption", Still).show(Text(page.words, style("muted")))
        elif isinstance(page, Pairs):
            here = self._here
            self._pairs = page
            self._find(here)
            self._draw()

    @property
    def _here(self) -> SameNoise | None:
        rows = self._pairs.rows
        return rows[self._row] if self._row < len(rows) else None

    def _find(self, here: SameNoise | None) -> None:
        """Stay at the same prompt and seed; at first go to those of the picture that was chosen."""
        wish, self._wish = self._wish, None
        key = (wish.prompt, wish.seed) if wish else here and (here.prompt, here.seed)
        keys = [(row.prompt, row.seed) for row in self._pairs.rows]
        self._row = keys.index(key) if key in keys else 0
        models, row = self._pairs.models, self._here
        if wish is not None and self._a == self._b:  # the chosen one is dense: against a variant
            self._b = next((m for m in models if m != self._a), self._b)
        if self._a not in models and models:
            self._a = next((m for m in models if m != self._b), self._a)
        if wish is not None and row is not None and self._a not in row.paths:
            self._a = next((m for m in models if m in row.paths and m != self._b), self._a)

    def _picture(self, model: str) -> str:
        row = self._here
        return row.paths.get(model, "") if row else ""

    @property
    def _paths(self) -> tuple[str, str]:
        return self._picture(self._a), self._picture(self._b)

    # -- showing -----------------------------------------------------------------------------

    def _draw(self) -> None:
        a, b = self._paths
        side = self._view == SIDE
        self.set_class(side, "-side")
        modes = self.dashboard.pictures.modes
        mode = modes[self._mode]
        flat = self.dashboard.pictures.grid if mode in pixels.MODES else mode
        if side:
            # Pictures of other widths would look different where they are not.
            room = (self.query_one("#ab-body").content_size.width - 1) // 2
            for place in ("#ab-a", "#ab-b"):
                self.query_one(place).styles.width = room
            self.query_one("#ab-one", FullPicture).show("", flat)
            self.query_one("#ab-a", Picture).show(a, flat)
            self.query_one("#ab-b", Picture).show(b, flat)
        else:
            one = self.query_one("#ab-one", FullPicture)
            if self._view == FLIP:
                one.show(b if self._shows_b else a, mode)
            else:
                one.show(a if b else "", mode, against=b)
        if self._measured is None or self._measured[0] != (a, b):
            self._measured = None
            if a and b:
                self._measure((a, b))
        self._say()

    @work(thread=True, group="measure", exclusive=True, exit_on_error=False)
    def _measure(self, paths: tuple[str, str]) -> None:
        try:
            found: Distance | str = distance(images.read(paths[0]), images.read(paths[1]))
        except images.Unreadable as err:
            found = str(err)
        except ValueError:
            found = "their sizes differ"
        self.post_message(self.Measured(paths, found))

    def on_abscreen_measured(self, event: Measured) -> None:
        if event.paths == self._paths:
            self._measured = (event.paths, event.found)
            self._say()

    @on(FullPicture.Drawn)
    def _drawn(self, event: FullPicture.Drawn) -> None:
        self._cost = f"{event.mode}, {size(event.cost)}" if event.cost else ""
        self._say()

    def _say(self) -> None:
        self.query_one("#ab-caption", Still).show(self._caption())
        self.query_one("#ab-models", Still).show(self._models())
        facts = self._facts()
        side = self._view == SIDE
        panel = Text("\n").join(fact.in_columns() for fact in facts)
        self.query_one("#ab-facts", Still).show(Text() if side else panel)
        lines = 1 if self.has_class("-narrow") else 2 if self.has_class("-short") else 5
        flowing = _flowing(facts, self.content_size.width - 2, lines)
        self.query_one("#ab-line", Still).show(flowing)

    def _caption(self) -> Text:
        row = self._here
        if row is None:
            return Text("No picture to compare yet." if self._pairs.read else "", style("muted"))
        job = self._reading.job_id
        where = f"job {job}, {self._row + 1} of {len(self._pairs.rows)}  "
        line = Text.assemble((f"{where}seed {row.seed}  ", style("muted")),
                             (one_line(row.prompt, limit=300), style("text")))  # fmt: skip
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    def _models(self) -> Text:
        views = Text()
        for view, key, words in _VIEWS:
            here = view == self._view
            said = words.partition(" ")[0] if self.has_class("-narrow") else words
            views.append(f"  {key} ", style("accent"))
            views.append(said, f"{style('strong')} underline" if here else style("muted"))
        each = (self.content_size.width - 2 - views.cell_len) // 2 - len("▸A   ")
        line = Text(no_wrap=True, overflow="ellipsis")
        for letter, model, seen in (
            ("A", self._a, not self._shows_b), ("B", self._b, self._shows_b)
        ):  # fmt: skip
            here = seen and self._view == FLIP
            line.append("▸" if here else " ", style("accent"))
            line.append(f"{letter} ", style("accent"))
            name = one_line(model, limit=max(6, min(24, each)))
            line.append(name, style("strong" if here else "text"))
            line.append("  " if self._picture(model) else " (no picture)  ", style("muted"))
        return line.append_text(views)

    def _facts(self) -> list[Fact]:
        facts = self._unlike_facts()
        facts.append(Fact("this pair"))
        found = self._measured[1] if self._measured else ""
        if isinstance(found, str):
            facts.append(Fact("", found or self._alone, "muted"))
        else:
            same = math.isinf(found.psnr)
            facts += [
                Fact("PSNR", "equal" if same else f"{found.psnr:.1f} dB"),
                Fact("mean", f"{found.mean:.1f} of 255"),
                Fact("changed", f"{_share(found.changed)} of pixels"),
            ]
        a, b = self._pairs.mean_of(self._a), self._pairs.mean_of(self._b)
        if a and b:
            facts += self._pair_facts(b) if self._a == "dense" else []
            facts += self._mean_facts(a, b)
        if self._view == DIFFERENCE:
            facts += [Fact(), Fact("heat", _legend())]
        if self._cost and self._view != SIDE:
            facts += [Fact(), Fact("drawn", self._cost, "faint")]
            if self.dashboard.pictures.few_colours(self._cost.partition(",")[0]):
                facts.append(Fact("", "256 colours: not exact", "warn"))
        return facts

    @property
    def _alone(self) -> str:
        return "" if all(self._paths) or self._here is None else "no other picture"

    def _unlike_facts(self) -> list[Fact]:
        """Two jobs need not have painted alike: then the difference is not the models' alone."""
        row = self._here
        unlike = row.unlike(self._a, self._b) if row else {}
        if not unlike:
            return []
        found = [Fact("made unlike")]
        for name, (a, b) in unlike.items():
            found.append(Fact(name, f"{one_line(a, limit=8)} | {one_line(b, limit=8)}", "warn"))
        return [*found, Fact()]

    def _pair_facts(self, own: Mapping[str, Any]) -> list[Fact]:
        """What the comparison has measured of this very pair, if it is one that does."""
        apart = (own.get("apart") or {}).get(str(self._here.seed if self._here else ""))
        if not apart:
            return []
        _, ssim, latents = apart
        return [Fact("SSIM", number(ssim)), Fact("latents", number(latents, ".1e"))]

    def _mean_facts(self, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Fact]:
        """What a comparison has measured of A and B against the dense model. With that one as A,
        for scale, also what another seed of it does."""
        dense = self._pairs.mean_of("dense") or {}
        reseed = self._pairs.reseed if a is dense else None
        heading = "all pictures" if a is dense else "against dense"
        facts = [Fact(), Fact(heading, reseed="reseed" if reseed else "")]
        for key, label, form, scale, unit in _MEANS:
            said = [format(m[key] * scale, form) for m in (a, b) if _known(m, key)]
            other = getattr(reseed, key, None)
            apart = "" if other is None else format(other * scale, form) + unit
            if said:
                facts.append(Fact(label, " → ".join(said) + unit, reseed=apart))
        for key, label in (("params", "parameters"), ("latency", "time")):
            variants = [m for m in (a, b) if m is not dense and _known(m, key)]
            if variants and _known(dense, key):
                noisy = [key == "latency" and m["model"] in self._pairs.unsure for m in variants]
                said = [
                    "~" * vague + (change(m[key], dense[key], ".0f" if vague else ".1f") or "same")
                    for m, vague in zip(variants, noisy, strict=True)
                ]
                facts.append(Fact(label, " → ".join(said)))
                if any(noisy):
                    facts.append(Fact("", "~ within noise", "muted"))
        return facts

    # -- acting ------------------------------------------------------------------------------

    def action_back(self) -> None:
        self.dismiss()

    def action_flip(self) -> None:
        if self._view == FLIP:
            self._shows_b = not self._shows_b
        self._view = FLIP
        self._draw()

    def action_view(self, view: str) -> None:
        self._view = view if view != self._view else FLIP
        self._draw()

    def action_row(self, step: int) -> None:
        self._row = max(0, min(len(self._pairs.rows) - 1, self._row + step))
        self._draw()

    def action_other(self, step: int) -> None:
        """B goes on to the next model; two models are at hand, or there is nothing to do."""
        others = [model for model in self._pairs.models if model != self._a]
        if others:
            place = others.index(self._b) if self._b in others else -step
            self._b, self._shows_b = others[(place + step) % len(others)], True
            self._draw()

    def action_first(self) -> None:
        others = [model for model in self._pairs.models if model != self._b]
        if others:
            place = others.index(self._a) if self._a in others else -1
            self._a, self._shows_b = others[(place + 1) % len(others)], False
            self._draw()

    def action_mode(self) -> None:
        self._mode = (self._mode + 1) % len(self.dashboard.pictures.modes)
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "again" and self.dashboard.readonly:
            return False
        return super().check_action(action, parameters)

    def action_again(self) -> None:
        if path := self._paths[1 if self._shows_b else 0]:
            self.dashboard.like_picture(path, lambda words: self._say_in_line(words, "warn"))

    async def action_copy(self) -> None:
        if path := self._paths[1 if self._shows_b else 0]:
            name = picture_files.name_of(path)
            await copy(self.dashboard, name, "The path", self._say_in_line)

    def _say_in_line(self, words: str, look: str = "good") -> None:
        """In the line of the models: a toast would leave a hole in the pixels."""
        line = Text(one_line(words), style(look), no_wrap=True, overflow="ellipsis")
        self.query_one("#ab-models", Still).show(line)


@dataclass(frozen=True, slots=True)
class Fact:
    """A line beside the pictures; without a value a heading, without a label, too, air. `reseed` is
    the same measure of the dense model under another seed, or that column's heading."""

    label: str = ""
    value: str | Text = ""
    look: str = "text"
    reseed: str = ""

    @property
    def heads(self) -> bool:
        return bool(self.label) and not self.value

    def in_columns(self) -> Text:
        line = Text.assemble((f"{self.label:<{_LABEL}}", style("muted")), self._said)
        if self.reseed:
            line.pad_right(max(1, _LABEL + _VALUE - line.cell_len))
            line.append(self.reseed, style("muted"))
        return line

    def in_line(self) -> Text:
        """With a space before the next one, nothing for air."""
        if self.heads:
            return Text(f"{self.label}: ", style("muted"))
        if not self.value:
            return Text()
        scale = f" (reseed {self.reseed})" if self.reseed else ""
        name = f"{self.label} " if self.label else ""
        return Text.assemble((name, style("muted")), self._said, (f"{scale}  ", style("muted")))

    @property
    def _said(self) -> Text:
        return self.value if isinstance(self.value, Text) else Text(self.value, style(self.look))


def _flowing(facts: Sequence[Fact], width: int, most: int) -> Text:
    """So many lines at most, each heading at the beginning of one if there are several. What does
    not fit any more is left out: what tells most comes first."""
    lines, heading = [Text(no_wrap=True)], Text()
    for fact in facts:
        if fact.heads:
            heading = fact.in_line()
            continue
        said = heading + fact.in_line()
        room = width - lines[-1].cell_len
        if (heading and most > 1) or cell_len(said.plain.rstrip()) > room:
            if lines[-1] and len(lines) == most:
                break
            lines += [Text(no_wrap=True)] if lines[-1] else []
        lines[-1].append_text(said)
        heading = Text()
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)


def _known(means: Mapping[str, Any], key: str) -> bool:
    return isinstance(means.get(key), (int, float))


def _share(part: float) -> str:
    return "under 1 %" if 0 < part < 0.01 else f"{100 * part:.0f} %"


def _legend() -> Text:
    """Half of the colours are for the first quarter."""
    legend, colours = Text("0 ", style("muted")), ramp(_RAMP)
    for place, (red, green, blue) in enumerate(colours):
        if place == len(colours) // 2:
            legend.append(f" {FULL // 4} ", style("muted"))
        legend.append("█", f"rgb({red},{green},{blue})")
    return legend.append(f" {FULL}+", style("muted"))
