"""The pictures of all jobs, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Label

from obstui import picture_files
from obstui.text import one_line
from obstui.tui import images
from obstui.tui.clipboard import copy
from obstui.tui.follow import Fault
from obstui.tui.screens.view import View
from obstui.tui.shots import ShotRow, gallery_shot
from obstui.tui.theme import style
from obstui.tui.widgets.picture_grid import PictureGrid
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.store import ImageFilter, ImageView, Reader
    from obstui.tui.follow import Snapshot

PAGE = 500
_NEAR_END = 100


class BadFilter(ValueError):
    """A filter that means nothing; the message says what to write."""


def parse_filter(text: str) -> ImageFilter:
    """ "job:12 model:12@30 seed:7 fox snow": the rest are words of the prompt. Raises BadFilter."""
    from obstui.store import ImageFilter

    words: list[str] = []
    numbers: dict[str, int] = {}
    model = None
    for part in text.split():
        name, colon, value = part.partition(":")
        if not colon or name not in ("job", "seed", "model"):
            words.append(part)
        elif name == "model":
            model = value or None
        elif value.isascii() and value.isdigit() and len(value) < 18:
            numbers[name] = int(value)
        elif value:
            raise BadFilter(f"{name}: wants a number, as in {name}:12")
    return ImageFilter(tuple(words), numbers.get("job"), model, numbers.get("seed"))


@dataclass(frozen=True, slots=True)
class Album:
    """What was read: `more` says whether there are others beyond these."""

    pictures: tuple[ImageView, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class AlbumReading:
    """Reads the newest `limit` pictures that pass the filter, in the follower's thread."""

    wanted: ImageFilter
    limit: int

    def __call__(self, reader: Reader) -> Album:
        found = reader.images(self.wanted, limit=self.limit + 1)
        return Album(tuple(found[: self.limit]), len(found) > self.limit)


class GalleryScreen(View[None]):
    """A grid of thumbnails, and what the chosen one shows."""

    place = "gallery"
    CSS_PATH = "gallery.tcss"
    AUTO_FOCUS = "#grid"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Enlarge", id="gallery.open",
                tooltip="The chosen picture, as large as it fits"),
        Binding("c", "compare", "Compare", id="gallery.compare",
                tooltip="Beside the pictures of the same prompt and seed by other models"),
        Binding("slash", "filter", "Filter", id="gallery.filter", key_display="/",
                tooltip="job:12 model:12@30 seed:7 and words of the prompt"),
        Binding("i", "mode", "Image mode", id="gallery.mode", show=False,
                tooltip="Half-blocks, letters or no pictures"),
        Binding("y", "copy", "Copy path", id="gallery.copy", show=False,
                tooltip="Copy the name of the picture's file"),
        Binding("o", "job", "Its job", id="gallery.job", tooltip="The job that made the picture"),
        Binding("e", "again", "Like it", id="gallery.again", show=False,
                tooltip="A new generation with the picture's prompt, seed and settings: the form"),
        Binding("escape", "back", "Back", id="gallery.back",
                tooltip="Leave the filter, then forget it, then go back to the queue"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._mode = ""
        self._left_at = ""
        self._limit = PAGE
        self._album = Album((), False)
        self._read = False

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="filter-line"):
            yield Label("/", id="filter-mark")
            answer = Input(id="filter", compact=True,
                           placeholder="job:12 model:12@30 seed:7 words of the prompt")  # fmt: skip
            answer.cursor_blink = False
            yield answer
            yield Still(id="count")
        yield PictureGrid(id="grid")
        yield Still(id="nothing")
        yield Still(id="prompt")
        yield Still(id="picture-facts")

    def on_mount(self) -> None:
        self._mode = self.dashboard.pictures.grid
        kept = self.dashboard.remembered.get
        self._left_at = kept("gallery picture", "")
        self._input.value = kept("gallery filter", "")

    def _return(self) -> None:
        """Choose the picture at which the gallery was left, if it is among those read."""
        wanted, self._left_at = self._left_at, ""
        paths = [picture.path for picture in self._album.pictures]
        if wanted in paths:
            self.query_one(PictureGrid).choose(paths.index(wanted))

    # -- reading -----------------------------------------------------------------------------

    @property
    def _reading(self) -> AlbumReading:
        from obstui.store import ImageFilter

        try:
            wanted = parse_filter(self.query_one("#filter", Input).value)
        except BadFilter:
            wanted = ImageFilter()
        return AlbumReading(wanted, self._limit)

    def ask_follower(self) -> None:
        self.dashboard.follow(None, reading=self._reading)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        page = snapshot.page_of(self._reading)
        if isinstance(page, Fault):
            self._say_nothing(page.words)
        elif isinstance(page, Album):
            self._album, self._read = page, True
            self.query_one(PictureGrid).show(page.pictures, self._mode)
            self._return()
            self._say_nothing("" if self._album.pictures else self._no_pictures())
        self._show_facts()
        self.refresh_bindings()

    def _say_nothing(self, words: str) -> None:
        self.query_one(PictureGrid).display = not words
        self.query_one("#nothing", Still).show(Text(words, style("muted")))

    def _no_pictures(self) -> str:
        if self.query_one("#filter", Input).value.strip():
            return "No picture passes the filter."
        return "There are no pictures yet: jobs that generate or compare make them."

    @on(PictureGrid.Chosen)
    def _show_facts(self) -> None:
        grid = self.query_one(PictureGrid)
        picture = grid.chosen
        self.query_one("#count", Still).show(self._count(grid.place))
        line, facts = Text(no_wrap=True, overflow="ellipsis"), Text(no_wrap=True)
        facts.overflow = "ellipsis"
        if picture is not None:
            if not self._left_at:
                # The newest is not remembered: who left there wants to see what has come since.
                path = picture.path if grid.place else ""
                self.dashboard.remembered.put("gallery picture", path)
            line.append(one_line(picture.prompt, limit=400), style("text"))
            model = one_line(f"{picture.base}, {picture.model}", limit=60)
            words = f"job {picture.job_id}  {model}  seed {picture.seed}  "
            facts.append(words, style("muted"))
            facts.append(one_line(picture_files.name_of(picture.path), limit=300), style("faint"))
        self.query_one("#prompt", Still).show(line)
        self.query_one("#picture-facts", Still).show(facts)
        known = len(self._album.pictures)
        # What was asked for has come, and it was not all: one page more, not one for each step.
        if self._album.more and self._limit <= known and grid.place > known - _NEAR_END:
            self._limit += PAGE
            self.ask_follower()

    def _count(self, place: int) -> Text:
        try:
            parse_filter(self.query_one("#filter", Input).value)
        except BadFilter as err:
            return Text(str(err), style("warn"))
        total = len(self._album.pictures)
        if not self._read or not total:
            return Text()
        return Text(f"{place + 1} of {total:,}{'+' if self._album.more else ''}", style("muted"))

    # -- acting ------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "again" and self.dashboard.readonly:
            return False
        if action in ("open", "compare", "copy", "job", "again") and self.is_mounted:
            return bool(self._album.pictures) and not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    @property
    def _input(self) -> Input:
        return self.query_one("#filter", Input)

    @on(Input.Changed, "#filter")
    def _filtered(self) -> None:
        self._limit = PAGE
        self.dashboard.remembered.put("gallery filter", self._input.value)
        self.ask_follower()
        self._show_facts()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.query_one(PictureGrid).focus()

    def action_filter(self) -> None:
        self._input.focus()

    def action_back(self) -> None:
        if self.focused is self._input:
            self.query_one(PictureGrid).focus()
        elif self._input.value:
            self._input.value = ""
        else:
            self.dismiss()

    def action_mode(self) -> None:
        modes = images.MODES
        self._mode = modes[(modes.index(self._mode) + 1) % len(modes)]
        self.query_one(PictureGrid).show(self._album.pictures, self._mode)

    async def action_copy(self) -> None:
        if (picture := self.query_one(PictureGrid).chosen) is not None:
            await copy(self.dashboard, picture_files.name_of(picture.path), "The picture's path")

    def action_again(self) -> None:
        if (picture := self.query_one(PictureGrid).chosen) is not None:
            self.dashboard.like_picture(
                picture.path, lambda words: self.notify(words, severity="warning", markup=False)
            )

    def action_job(self) -> None:
        if (picture := self.query_one(PictureGrid).chosen) is not None:
            self.dashboard.open_job(picture.job_id)

    @on(PictureGrid.Opened)
    def action_open(self) -> None:
        from obstui.tui.screens.picture import PictureScreen

        pictures = self._album.pictures
        row = ShotRow("", tuple(gallery_shot(picture) for picture in pictures))
        place = self.query_one(PictureGrid).place
        self.app.push_screen(PictureScreen([row], 0, place, self._compare), self._left)

    def _left(self, place: tuple[int, int] | None) -> None:
        if place is not None:
            self.query_one(PictureGrid).choose(place[1])

    def action_compare(self) -> None:
        if (picture := self.query_one(PictureGrid).chosen) is not None:
            self._compare(picture.path)

    def _compare(self, path: str) -> None:
        from obstui.tui.screens.ab import ABScreen

        found = (picture for picture in self._album.pictures if picture.path == path)
        if (picture := next(found, None)) is not None:
            self.app.push_screen(ABScreen(picture))
