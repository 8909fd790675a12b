"""What every screen of the dashboard has: top line, banner, footer, a snapshot to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from obstui.text import one_line
from obstui.tui.theme import style
from obstui.tui.widgets.key_bar import KeyBar
from obstui.tui.widgets.status_line import Said, StatusLine
from obstui.tui.widgets.still import Still

if TYPE_CHECKING:
    from obstui.tui.app import Dashboard
    from obstui.tui.follow import Snapshot

T = TypeVar("T")

TOO_SMALL = "This terminal is too small for the dashboard: make it 40 x 12 or larger. q leaves."


class Whole(Screen[T]):
    """A screen that fills the terminal, or says in a sentence that there is too little of it."""

    DEFAULT_CSS = """
    Whole #too-small { display: none; padding: 0 1; }
    Whole.-tiny > *, Whole.-flat > * { display: none !important; }
    Whole.-tiny > #too-small, Whole.-flat > #too-small { display: block !important; }
    """

    def compose(self) -> ComposeResult:
        yield from self.compose_whole()
        yield Static(TOO_SMALL, id="too-small", markup=False)

    def compose_whole(self) -> ComposeResult:
        """All that there is to see."""
        raise NotImplementedError

    @property
    def too_small(self) -> bool:
        return not self.classes.isdisjoint(("-tiny", "-flat"))

    @property
    def dashboard(self) -> Dashboard:
        return cast("Dashboard", self.app)


class View(Whole[T]):
    """A screen of the store. `show` is called with every new snapshot while it is in sight."""

    place: ClassVar[str] = ""
    """The name in `places.PLACES` of the place that this screen is, if it is one."""

    broken: Exception | None = None
    """Why the newest snapshot could not be drawn, if it could not."""

    DEFAULT_CSS = "View #banner { background: $error 22%; padding: 0 1; }"

    def compose_whole(self) -> ComposeResult:
        yield StatusLine(id="top")
        yield Still(id="banner")
        yield from self.compose_body()
        yield KeyBar()

    def compose_body(self) -> ComposeResult:
        """What lies between the banner and the footer."""
        raise NotImplementedError

    async def show(self, snapshot: Snapshot) -> None:
        """Draw what is new. Screens add their own part."""
        app = self.dashboard
        said = Said(snapshot, app.place, app.readonly, app.worker_starting, app.clock())
        self.query_one(StatusLine).tell(said)
        self.query_one("#banner", Still).show(app.banner)

    async def on_screen_resume(self) -> None:
        """The screen is on top again: it has missed what came in between."""
        if self.place:
            self.dashboard.remembered.put("place", self.place)
            self.dashboard.remembered.put("job open", 0)
        if self.dashboard.snapshot.read:
            self.dashboard.hold()
        self.ask_follower()
        self.call_after_refresh(self.show_newest)

    def on_resize(self) -> None:
        """Lines are made for a width: make them again."""
        self.call_after_refresh(self.show_newest)

    async def show_newest(self) -> None:
        """Draw the newest snapshot, once the screen has its size."""
        if not self._in_sight or not self.query_children(StatusLine):
            return  # not composed yet, or being taken apart
        try:
            await self.show(self.dashboard.snapshot)
            self.broken = None
        except Exception as err:  # a night's watch must not end over one row of one job
            self.broken = err
            why = one_line(f"{type(err).__name__}: {err}", limit=120)
            words = f"A part of this screen cannot be drawn ({why}). The other places go on."
            self.query_one("#banner", Still).show(Text(words, style("bad")))
        if self.is_current and self.dashboard.up_to_date:
            self.dashboard.let_see()

    @property
    def _in_sight(self) -> bool:
        """Whether nothing but questions stands before the screen."""
        for screen in reversed(self.app.screen_stack):  # empty: being closed
            if screen is self or not isinstance(screen, ModalScreen):
                return screen is self
        return False

    def refresh_bindings(self) -> None:
        """Have the key bar look whether a key does something else now. A screen that is being left
        has no parts any more to ask."""
        if self.is_current:
            super().refresh_bindings()

    def ask_follower(self) -> None:
        """Tell the follower what this screen needs."""
