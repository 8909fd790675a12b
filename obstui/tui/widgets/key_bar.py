"""The line at the bottom: the keys that do something here, as many as there is room for."""

from __future__ import annotations

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.events import Resize
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

HELP = "app.help"
"""The binding that is never left out: it leads to all the others."""


class KeyBar(Footer):
    """Textual's footer cuts the last key in two where the room ends, and keeps every key that it
    ever showed as a watcher of its density: a night's keys are many megabytes."""

    DEFAULT_CSS = "KeyBar { background: $surface; }"

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        shown = {
            binding.action: (binding, enabled, tooltip)
            for _, binding, enabled, tooltip in reversed(self.screen.active_bindings.values())
            if binding.show
        }
        keys = []
        for binding, enabled, tooltip in reversed(shown.values()):
            key = FooterKey(
                binding.key, self.app.get_key_display(binding), binding.description,
                binding.action, disabled=not enabled, tooltip=tooltip,
            )  # fmt: skip
            key.set_reactive(FooterKey.compact, False)
            keys.append((key, binding.id == HELP))
        room = self.app.size.width + 1 - sum(_width(key) for key, kept in keys if kept)
        for key, kept in keys:
            room -= 0 if kept else _width(key)
            if kept or room >= 0:
                yield key

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self.recompose)


def _width(key: FooterKey) -> int:
    """As `FooterKey` draws it: a space around the key, one behind the words, which the end of the
    line may cut off."""
    return cell_len(f" {key.key_display} {key.description} ")
