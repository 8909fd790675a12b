"""The line at the bottom: the keys that do something here, as many as there is room for."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

ALWAYS = frozenset({"app.help", "app.quit"})
"""Never left out: the way to all the others, and the way out."""
MOVES = frozenset("jkgGhl")
"""Whose hands know them looks for no name."""


class KeyBar(Footer):
    """Textual's footer cuts the last key in two where the room ends, and keeps every key that it
    ever showed as a watcher of its density: a night's keys are many megabytes."""

    DEFAULT_CSS = "KeyBar { background: $surface; }"

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)
        self._drawn: list[tuple[object, ...]] | None = None

    def compose(self) -> ComposeResult:
        self._drawn = self._signature()
        for each in self._told():
            yield self._key(each)

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Screens say so at every snapshot: the keys are made anew only when they differ."""
        if self._signature() != self._drawn:
            super().bindings_changed(screen)

    def _signature(self) -> list[tuple[object, ...]]:
        return [(each.binding, each.enabled) for each in self._told()]

    def _told(self) -> list[ActiveBinding]:
        """What comes first here, then, as far as there is room, what else the screen can do; the
        keys that do the same everywhere stand at the end."""
        first = self._bindings_that(show=True)
        # Its own width comes only with the layout, and what is cut off is never shown.
        room = self.app.size.width - self.screen.gutter.width + 1
        room -= sum(self._width(each) for each in first.values() if each.binding.id in ALWAYS)
        here: list[ActiveBinding] = []
        everywhere: list[ActiveBinding] = []
        for each in first.values():
            kept = each.binding.id in ALWAYS
            room -= 0 if kept else self._width(each)
            if kept or room >= 0:
                (everywhere if each.node is self.app else here).append(each)
        for action, each in self._bindings_that(show=False).items():
            ours = each.node is self.screen and bool(each.binding.id)
            if not ours or not each.enabled or action in first or each.binding.key in MOVES:
                continue
            room -= self._width(each)
            if room < 0:
                break
            here.append(each)
        return here + everywhere

    def _bindings_that(self, *, show: bool) -> dict[str, ActiveBinding]:
        """By action, which may have more than one key: the first of them."""
        found: dict[str, ActiveBinding] = {}
        for each in self.screen.active_bindings.values():
            if each.binding.show is show and not self._types(each):
                found.setdefault(each.binding.action, each)
        return found

    def _types(self, each: ActiveBinding) -> bool:
        """Whether the key is text where the focus is. Textual leaves out most of these itself, but
        does not know which signs plus and minus are."""
        focused, sign = self.screen.focused, self.app.get_key_display(each.binding)
        if focused is None or len(sign) != 1 or not sign.isascii():
            return False
        return focused.check_consume_key(each.binding.key, sign)

    def _key(self, each: ActiveBinding) -> FooterKey:
        binding = each.binding
        key = FooterKey(
            binding.key, self.app.get_key_display(binding), binding.description, binding.action,
            disabled=not each.enabled, tooltip=each.tooltip,
        )  # fmt: skip
        key.set_reactive(FooterKey.compact, False)
        return key

    def _width(self, each: ActiveBinding) -> int:
        """As `FooterKey` draws it: a space around the key, one behind the words, which the end of
        the line may cut off."""
        return cell_len(f" {self.app.get_key_display(each.binding)} {each.binding.description} ")

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self.recompose)
