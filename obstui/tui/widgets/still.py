"""Text that repaints only when it differs: an idle dashboard must send nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from rich.text import Text
from textual.widgets import Static

from obstui.text import one_line
from obstui.tui.theme import style

P = ParamSpec("P")


def in_its_place(make: Callable[P, Text]) -> Callable[P, Text]:
    """`make`, or a sentence in its place when what a job left behind is not as it should be: the
    panel says so, and the rest of the screen goes on."""

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Text:
        try:
            return make(*args, **kwargs)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as err:
            why = one_line(f"{type(err).__name__}: {err}", limit=80)
            return Text(f"This cannot be read ({why}).", style("bad"))

    return made


def alike(one: Text, other: Text) -> bool:
    """Whether two texts look the same: Rich's own == does not see their base styles."""
    return one == other and one.style == other.style


class Still(Static):
    """A Static for text that others refresh often. Data is never markup."""

    DEFAULT_CSS = "Still { height: auto; } Still.-empty { display: none; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(markup=False, id=id, classes=f"-empty {classes or ''}")
        self._shown: Text | None = None

    def show(self, text: Text | str) -> None:
        """Draw `text` unless it is what the screen shows already. Empty text takes no room."""
        wanted = Text(text) if isinstance(text, str) else text
        if self._shown is not None and alike(self._shown, wanted):
            return
        same_shape = self._fixed and bool(wanted.plain) != self.has_class("-empty")
        same_shape = same_shape or (
            self._shown is not None
            and self._shown.plain.count("\n") == wanted.plain.count("\n")
            and self._shown.cell_len == wanted.cell_len
        )
        self._shown = wanted
        self.set_class(not wanted.plain, "-empty")
        self.update(wanted, layout=not same_shape)

    @property
    def _fixed(self) -> bool:
        """Whether no text can change the room that it takes."""
        width, height = self.styles.width, self.styles.height
        return bool(height and height.is_cells) and not (width and width.is_auto)

    @property
    def text(self) -> str:
        """What is shown, without styles."""
        return self._shown.plain if self._shown is not None else ""
