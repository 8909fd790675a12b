"""Colours and glyphs. A state is always a glyph and a word; the colour only helps the eye.

The hues are those of Okabe and Ito, lifted for a dark ground, so that they stay apart for people
who see no red or green.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.theme import Theme

from obstui.text import GLYPHS

DARK = Theme(
    name="obstui-dark",
    primary="#6cb6eb",
    secondary="#8fa3b8",
    accent="#6cb6eb",
    warning="#e6a532",
    error="#f0764f",
    success="#3fbf95",
    foreground="#d5dbe3",
    background="#14181d",
    surface="#1a1f26",
    panel="#222932",
    dark=True,
    variables={
        "block-cursor-foreground": "#f2f6fa",
        "block-cursor-background": "#2b4259",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-foreground": "#d5dbe3",
        "block-cursor-blurred-background": "#232f3c",
        "footer-key-foreground": "#6cb6eb",
        "footer-description-foreground": "#97a3b0",
        "footer-background": "#1a1f26",
        "border": "#33404d",
        "border-blurred": "#262e38",
        "input-selection-background": "#6cb6eb 35%",
    },
)


@dataclass(frozen=True, slots=True)
class Palette:
    """Rich styles for text that widgets draw themselves."""

    text: str = "#d5dbe3"
    strong: str = "bold #f2f6fa"
    muted: str = "#8592a0"
    faint: str = "#4a5663"
    accent: str = "#6cb6eb"
    good: str = "#3fbf95"
    warn: str = "#e6a532"
    bad: str = "#f0764f"
    pause: str = "#c99bd4"
    # From a small error to a large one: cividis, whose lightness alone tells the order.
    ramp: tuple[str, ...] = (
        "#3f5f8f", "#5a7290", "#758590", "#90998c", "#b0ae80", "#d2c46c", "#f5dc4d", "#fff08a",
    )  # fmt: skip


PALETTE = Palette()

_LOOKS = {
    "running": "accent",
    "starting": "accent",
    "pausing": "pause",
    "cancelling": "warn",
    "queued": "text",
    "held": "muted",
    "paused": "pause",
    "succeeded": "good",
    "failed": "bad",
    "cancelled": "muted",
    "skipped": "muted",
    "quarantined": "bad",
}
STATES: dict[str, tuple[str, str]] = {
    state: (GLYPHS[state], look) for state, look in _LOOKS.items()
}
"""Glyph and palette entry of every state."""


def style(name: str) -> str:
    """The Rich style of a palette entry."""
    return str(getattr(PALETTE, name))


def state_glyph(state: str) -> str:
    return STATES.get(state, ("?", "text"))[0]


def state_style(state: str) -> str:
    return style(STATES.get(state, ("?", "text"))[1])
