"""How the dashboard looks: its colours, its air, what is drawn when, and where its news stand."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from textual.binding import Binding
from textual.filter import LineFilter, NoColor
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.timer import Timer

from obstui.config import Settings
from obstui.tui import theme
from obstui.tui.appearance import Appearance, Ascii, colourless, spelled
from obstui.tui.remembered import Remembered
from obstui.tui.type_ahead import TypeAhead

HOLD_AT_MOST = 0.15
"""Seconds."""


class Looks(TypeAhead[None]):
    """The part of the dashboard that knows nothing of jobs."""

    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"), (40, "-narrow"), (76, "-normal"), (130, "-wide"),
    ]  # fmt: skip
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-flat"), (12, "-short"), (22, "-medium"), (38, "-tall"),
    ]  # fmt: skip
    CSS = """
    .-comfortable View { padding: 0 1; }
    .-comfortable View > StatusLine { margin-bottom: 1; }
    .-comfortable View > KeyBar { margin-top: 1; }
    .-theme-ansi ModalScreen, .-theme-colourless ModalScreen { background: transparent; }
    .-theme-ansi Select:focus SelectCurrent, .-theme-colourless Select:focus SelectCurrent {
        text-style: reverse;
    }
    /* Textual draws no option reversed, whatever its style says. */
    .-theme-ansi OptionList > .option-list--option-highlighted,
    .-theme-colourless OptionList > .option-list--option-highlighted {
        text-style: bold underline;
    }
    /* At the bottom they would cover a question's buttons and a form's plan. */
    ToastRack { dock: top; align: right top; margin-top: 2; margin-bottom: 0; }
    Toast { margin-top: 0; margin-bottom: 1; padding: 0 1; }
    """

    def __init__(self, appearance: Appearance, settings: Settings, remembered: Remembered) -> None:
        super().__init__()
        self.appearance, self.settings, self.remembered = appearance, settings, remembered
        self._held = contextlib.ExitStack()
        self._held_until: Timer | None = None
        self.animation_level = "none"
        for each in theme.themes():
            self.register_theme(each)
        self._wear(self._first_theme())
        self.set_class(self._first_density(), "-comfortable")

    async def _show(self) -> None:
        """Draw all that there is to see, in the theme in force."""
        raise NotImplementedError

    # -- colours and air ---------------------------------------------------------------------

    def _first_theme(self) -> str:
        """As asked for, else as it was left, unless the settings have been changed since."""
        if colourless():
            return theme.COLOURLESS
        set_to = self.settings.theme or "dark"
        chosen = self.appearance.theme or self.remembered.get(f"theme instead of {set_to}", set_to)
        return chosen if chosen in theme.THEMES else set_to

    def _first_density(self) -> bool:
        set_to = self.settings.density
        return self.remembered.get(f"density instead of {set_to}", set_to) == "comfortable"

    def _wear(self, name: str) -> None:
        theme.use(name)
        self.theme = name

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What everything drawn passes through on its way to the terminal."""
        filters = list(super().get_line_filters())
        if colourless():
            filters.append(NoColor())
        if self.appearance.ascii:
            filters.append(Ascii())
        return filters

    def get_key_display(self, binding: Binding) -> str:
        shown = super().get_key_display(binding)
        return spelled(shown) if self.appearance.ascii else shown

    async def action_theme(self, name: str) -> None:
        """Wear a theme of `theme.THEMES`, now and the next time."""
        self._wear(name)
        self.remembered.put(f"theme instead of {self.settings.theme or 'dark'}", name)
        self.call_after_refresh(self._show)
        self.notify(f"Theme: {name}", markup=False, timeout=2)

    async def action_next_theme(self) -> None:
        names = list(theme.THEMES)
        here = names.index(self.theme) if self.theme in names else -1
        await self.action_theme(names[(here + 1) % len(names)])

    def action_density(self) -> None:
        self.toggle_class("-comfortable")
        for screen in self.screen_stack:
            self.stylesheet.update(screen)  # also of those that lie below
        density = "comfortable" if self.has_class("-comfortable") else "compact"
        self.remembered.put(f"density instead of {self.settings.density}", density)

    # -- what is drawn when ------------------------------------------------------------------

    def hold(self) -> None:
        """Leave on the terminal what is there until the screen that comes has its contents: each
        frame in between would be sent whole, and seen as a flicker."""
        if self._held_until is None:
            self._held.enter_context(self.batch_update())
            self._held_until = self.set_timer(HOLD_AT_MOST, self.let_see)

    def _end_batch(self) -> None:
        """Textual asks the app alone what is left to draw: a screen whose time to draw fell into
        the batch (a footer that is made anew is one) would stay unseen until the next key."""
        super()._end_batch()
        if not self._batch_count and self.screen_stack:
            self.screen.check_idle()

    def let_see(self) -> None:
        """Draw what `hold` has held back."""
        if self._held_until is not None:
            self._held_until.stop()
            self._held_until = None
            self._held.close()
            if self.screen_stack:
                # Not `refresh`: it would draw once for the layout and once more for itself.
                self.screen._compositor.update_widgets({self.screen})
                self.screen.refresh(layout=True, repaint=False)

    def push_screen(self, screen: Screen[Any] | str, *args: Any, **more: Any) -> Any:
        """A screen learns how much room there is only once it has been laid out, and then all in it
        is styled and laid out a second time: tell it before."""
        if isinstance(screen, Screen) and self.screen_stack:
            sizes = [*self.HORIZONTAL_BREAKPOINTS, *self.VERTICAL_BREAKPOINTS]
            known = self.screen.classes.intersection(name for _, name in sizes)
            screen.add_class(*known, update=False)
        return super().push_screen(screen, *args, **more)

    # -- news --------------------------------------------------------------------------------

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """The newest news takes the place of the one before: a key that is pressed five times would
        bury what it is about. What went wrong stays until it has been seen."""
        if severity == "information":
            for each in [each for each in self._notifications if each.severity == severity]:
                self._unnotify(each, refresh=False)
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)
