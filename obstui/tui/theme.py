"""Colours and glyphs. A state is always a glyph and a word; the colour only helps the eye.

`use` chooses the palette in force; `style` and `ramp` give its styles, so that nobody who asks them
each time he draws has to know that there are several.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from rich.cells import cell_len
from textual.theme import Theme

from obstui.text import GLYPHS


@dataclass(frozen=True, slots=True)
class Palette:
    """Rich styles for text that widgets draw themselves."""

    text: str
    strong: str
    muted: str
    faint: str
    accent: str
    good: str
    warn: str
    bad: str
    pause: str
    cursor: str
    """Lies behind what the cursor is on, and leaves its shape and colour."""
    ramp: tuple[str, ...]
    """Eight, from a small error to a large one; on colours, lightness alone tells the order."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What lies behind the text: colours of areas, of the cursor's row, of lines."""

    background: str
    surface: str
    panel: str
    cursor: str
    cursor_text: str
    cursor_blurred: str
    border: str
    border_blurred: str


_CIVIDIS = (
    "#3f5f8f", "#5a7290", "#758590", "#90998c", "#b0ae80", "#d2c46c", "#f5dc4d", "#fff08a",
)  # fmt: skip

_DARK = (
    Palette(
        text="#d5dbe3", strong="bold #f2f6fa", muted="#8592a0", faint="#4a5663", accent="#6cb6eb",
        good="#3fbf95", warn="#e6a532", bad="#f0764f", pause="#c99bd4",
        cursor="on #47688a", ramp=_CIVIDIS,
    ),
    Ground(
        background="#14181d", surface="#1a1f26", panel="#222932", cursor="#2b4259",
        cursor_text="#f2f6fa", cursor_blurred="#232f3c", border="#33404d",
        border_blurred="#262e38",
    ),
)  # fmt: skip
_LIGHT = (
    Palette(
        text="#26303a", strong="bold #0d1319", muted="#5b6875", faint="#a9b3be", accent="#0b63a5",
        good="#08754f", warn="#8f5a00", bad="#b53a12", pause="#7b458f",
        cursor="on #e3c7f0",
        ramp=("#a4b0bc", "#95a0a8", "#868f94", "#777d80", "#66696f", "#535963", "#374566",
              "#00204d"),
    ),
    Ground(
        background="#f8f9fb", surface="#eceff3", panel="#e2e7ed", cursor="#c9dff2",
        cursor_text="#0d1319", cursor_blurred="#dfe8f0", border="#b9c3cd",
        border_blurred="#d5dce3",
    ),
)  # fmt: skip
_HIGH_CONTRAST = (
    Palette(
        text="#ffffff", strong="bold #ffffff", muted="#d2d2d2", faint="#949494", accent="#6fdcff",
        good="#5cff9d", warn="#ffd84d", bad="#ff8a70", pause="#f4b0ff",
        cursor="on #00509f",
        ramp=("#6f8fd0", "#86a0cc", "#9fb1c4", "#b7c0b4", "#cdcc9a", "#e4da7a", "#fff05a",
              "#ffffff"),
    ),
    Ground(
        background="#000000", surface="#000000", panel="#101010", cursor="#004a8f",
        cursor_text="#ffffff", cursor_blurred="#2a2a2a", border="#ffffff",
        border_blurred="#b0b0b0",
    ),
)  # fmt: skip
# The hues of Okabe and Ito as they published them.
_COLOUR_BLIND = (
    Palette(
        text="#e2e2e2", strong="bold #ffffff", muted="#9a9a9a", faint="#5a5a5a", accent="#56b4e9",
        good="#009e73", warn="#f0e442", bad="#d55e00", pause="#cc79a7",
        cursor="on #47688a", ramp=_CIVIDIS,
    ),
    Ground(
        background="#101112", surface="#18191b", panel="#212326", cursor="#063f66",
        cursor_text="#ffffff", cursor_blurred="#262a2e", border="#3c4146",
        border_blurred="#2a2d31",
    ),
)  # fmt: skip
# The terminal's own sixteen colours on its own ground. Its "bright black" is invisible in some
# schemes, so what is less important is dim.
_ANSI = Palette(
    text="", strong="bold", muted="dim", faint="dim", accent="cyan", good="green", warn="yellow",
    bad="red", pause="magenta", cursor="reverse",
    ramp=("blue", "blue", "cyan", "cyan", "green", "yellow", "bright_yellow", "bright_yellow"),
)  # fmt: skip
_COLOURLESS = Palette(
    text="", strong="bold", muted="dim", faint="dim", accent="bold", good="", warn="bold",
    bad="bold", pause="", cursor="reverse", ramp=("",) * 8,
)  # fmt: skip


def _theme(name: str, colours: tuple[Palette, Ground], *, dark: bool = True) -> Theme:
    palette, ground = colours
    return Theme(
        name=name,
        primary=palette.accent,
        secondary=palette.muted,
        accent=palette.accent,
        warning=palette.warn,
        error=palette.bad,
        success=palette.good,
        foreground=palette.text,
        background=ground.background,
        surface=ground.surface,
        panel=ground.panel,
        dark=dark,
        variables={
            "block-cursor-foreground": ground.cursor_text,
            "block-cursor-background": ground.cursor,
            "block-cursor-text-style": "none",
            "block-cursor-blurred-foreground": palette.text,
            "block-cursor-blurred-background": ground.cursor_blurred,
            "footer-key-foreground": palette.accent,
            "footer-description-foreground": palette.muted,
            "footer-background": ground.surface,
            "border": ground.border,
            "border-blurred": ground.border_blurred,
            "input-selection-background": f"{palette.accent} 35%",
        },
    )


def _terminal_theme(name: str, *, hue: str, variables: dict[str, str]) -> Theme:
    """On the terminal's own ground; `hue` of what has the focus. The cursor is reversed: no two of
    the sixteen colours are sure to be apart."""
    own = "ansi_default"
    return Theme(
        name=name, ansi=True, primary=hue, secondary=own, accent=hue, foreground=own,
        background=own, surface=own, panel=own, boost=own,
        warning=variables.pop("warning", own), error=variables.pop("error", own),
        success=variables.pop("success", own),
        variables={
            "block-cursor-foreground": own,
            "block-cursor-background": own,
            "block-cursor-text-style": "reverse",
            "block-cursor-blurred-foreground": own,
            "block-cursor-blurred-background": own,
            "block-cursor-blurred-text-style": "reverse",
            "footer-key-foreground": hue,
            "ansi-background": own,
            "ansi-foreground": own,
            "scrollbar-background": own,
            "scrollbar-background-hover": own,
            "scrollbar-background-active": own,
            "input-cursor-text-style": "reverse",
            "input-selection-background": own,
            "border": own,
            "border-blurred": own,
            "button-focus-text-style": "reverse",
            **variables,
        },
    )  # fmt: skip


THEMES: dict[str, tuple[Theme, Palette]] = {
    "dark": (_theme("dark", _DARK), _DARK[0]),
    "light": (_theme("light", _LIGHT, dark=False), _LIGHT[0]),
    "high-contrast": (_theme("high-contrast", _HIGH_CONTRAST), _HIGH_CONTRAST[0]),
    "colour-blind": (_theme("colour-blind", _COLOUR_BLIND), _COLOUR_BLIND[0]),
    "ansi": (
        _terminal_theme(
            "ansi",
            hue="ansi_cyan",
            variables={
                "warning": "ansi_yellow", "error": "ansi_red", "success": "ansi_green",
                "input-selection-background": "ansi_blue",
            },
        ),
        _ANSI,
    ),
}  # fmt: skip
"""What people may choose, by the names of `config.THEMES`."""

COLOURLESS = "colourless"
"""The theme under NO_COLOR; not to be chosen, for it says nothing that `ansi` does not."""

_ALL = THEMES | {
    COLOURLESS: (
        _terminal_theme(COLOURLESS, hue="ansi_default", variables={}),
        _COLOURLESS,
    )
}

_in_force = _DARK[0]


def themes() -> list[Theme]:
    """All of them, for Textual to know."""
    return [theme for theme, _ in _ALL.values()]


def use(name: str) -> None:
    """Take styles from this theme's palette from now on."""
    global _in_force
    _in_force = _ALL[name][1]


def style(name: str) -> str:
    """The Rich style of a palette entry in the theme in force."""
    return str(getattr(_in_force, name))


def ramp() -> tuple[str, ...]:
    """Eight styles from a small error to a large one."""
    return _in_force.ramp


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


def state_glyph(state: str) -> str:
    return STATES.get(state, ("?", "text"))[0]


def state_style(state: str) -> str:
    return style(STATES.get(state, ("?", "text"))[1])


ASCII: dict[str, str] = {
    # States.
    "●": "*", "◐": "%", "◑": "%", "○": "o", "◇": ".", "‖": "=", "✓": "+", "✗": "x", "∅": "-",
    "↷": ">", "▲": "!", "◆": "@", "▸": ">", "▾": "v", "▼": "v", "◂": "<", "◀": "<", "▶": ">",
    # Bars, and heights from low to high.
    "━": "=", "╍": "~", "─": "-", "▁": "_", "▂": ",", "▃": ":", "▄": "-", "▅": "=", "▆": "+",
    "▇": "*", "█": "#", "▀": '"', "▔": "-", "▐": "[", "▌": "]", "▍": "|", "▎": "|", "▏": "|",
    "▊": "|", "▋": "|", "▉": "|", "▕": "|", "░": ".", "▒": ":", "▓": "#", "■": "#", "□": "o",
    # Signs.
    "–": "-", "—": "-", "−": "-", "·": ".", "•": "*", "…": "~", "≈": "~", "≥": ">", "≤": "<",
    "×": "x", "±": "+", "°": "'", "←": "<", "→": ">", "↑": "^", "↓": "v", "⏎": "<", "\xa0": " ",
    "‘": "'", "’": "'", "“": '"', "”": '"', "«": "<", "»": ">", "ß": "s", "ø": "o", "Ø": "O",
    "🔎": "/ ", "æ": "a", "Æ": "A", "œ": "o", "ł": "l", "Ł": "L",
    "đ": "d", "µ": "u",
}  # fmt: skip
"""One ASCII character for each of ours; `ascii_twin` knows the rest."""

_BRAILLE = 0x2800
_DOTS = " .:-=+*#@"


def ascii_twin(character: str) -> str:
    """ASCII of the same width in cells: what the table says, a drawn line, the number of dots, the
    letter without its accents, else question marks."""
    if character in ASCII:
        return ASCII[character]
    number = ord(character)
    if _BRAILLE <= number < _BRAILLE + 256:
        return _DOTS[(number - _BRAILLE).bit_count()]
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        across = any(word in name for word in ("HORIZONTAL", "LEFT", "RIGHT"))
        down = any(word in name for word in ("VERTICAL", "UP", "DOWN"))
        return "+" if (across and down) or "ARC" in name else "-" if across else "|"
    width = cell_len(character)
    letters = "".join(c for c in unicodedata.normalize("NFKD", character) if c.isascii())
    return letters[:width] if 0 < width <= len(letters) else "?" * width
