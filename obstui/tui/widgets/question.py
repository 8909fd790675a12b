"""One question of the form for a new job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from rich.segment import Segment
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Paste
from textual.geometry import Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Select, SelectionList, TextArea
from textual.widgets.option_list import OptionDoesNotExist
from textual.widgets.select import InvalidSelectValueError
from textual.widgets.selection_list import Selection

from obstui.text import one_line
from obstui.tui import form
from obstui.tui.recipe import dropped
from obstui.tui.theme import style
from obstui.tui.widgets.still import Still


class _Line(Input):
    """A line of text that leaves a dropped picture to the form."""

    def on_paste(self, event: Paste) -> None:
        if dropped(event.text):
            event.prevent_default()


class _Lines(TextArea):
    """As many lines."""

    def on_paste(self, event: Paste) -> None:
        if dropped(event.text):
            event.prevent_default()


class _Marks(SelectionList[str]):
    """A list in which Space marks, from the first row on; marked is told by more than a colour."""

    def on_focus(self) -> None:
        if self.highlighted is None and self.option_count:
            self.highlighted = 0

    def render_line(self, y: int) -> Strip:
        left, button, *rest = line = list(super().render_line(y))
        row = self.scroll_offset.y + y
        marked = row < self.option_count and self.get_option_at_index(row).value in self.selected
        if marked or row >= self.option_count:
            return Strip(line)
        return Strip([left, Segment(" " * len(button.text), button.style), *rest])


class Question(Widget):
    """A label, the widget that takes the answer, and the sentence about what is wrong with it.

    A form has dozens: the label is drawn, and the sentence made when there is one, for every widget
    makes the form come later.
    """

    DEFAULT_CSS = """
    Question { height: auto; color: $text-muted; }
    Question:focus-within { color: $accent; }
    Question > * { margin-left: 13; }
    Question > .fault { color: $error; }
    """

    label: reactive[str] = reactive("")

    def __init__(self, field: form.Field, offers: list[form.Offer], kind: str) -> None:
        super().__init__(id=f"ask-{field.key}", classes="wide" if field.wide else "half")
        self.set_reactive(Question.label, field.label)
        self.set_class(field.more, "more")
        self.set_class(kind not in field.kinds, "-other")
        self.field = field
        self._offers = offers

    def compose(self) -> ComposeResult:
        yield self._answer_widget()

    def render(self) -> Content:
        return Content(self.label)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The grid asks also who spans it for the height at one column's width."""
        width = container.width if self.field.wide else width
        return super().get_content_height(container, viewport, width)

    def _answer_widget(self) -> Any:
        field, key = self.field, f"answer-{self.field.key}"
        if field.choices:
            words = [(form.CHOICE_WORDS.get((field.key, c), c.replace("_", " ")), c)
                     for c in field.choices]  # fmt: skip
            return Select(words, id=key, compact=True,
                          value=field.choices[0], allow_blank=False)  # fmt: skip
        if field.key == "prompts":
            area = _Lines(id=key, compact=True, tab_behavior="focus")
            area.cursor_blink = False
            return area
        if field.key == "variant":
            return Select(
                single_choices(self._offers), id=key, compact=True, prompt="the dense model"
            )
        if field.key == "variants":
            return _Marks(*variant_choices(self._offers, ["demo"]), id=key, compact=True)
        answer = _Line(field.start, id=key, placeholder=field.hint, compact=True)
        answer.cursor_blink = False
        return answer

    @property
    def answer(self) -> Any:
        """Text, a choice, or a list of choices; empty where nothing was said."""
        widget = self.query_one(f"#answer-{self.field.key}")
        if isinstance(widget, TextArea):
            return widget.text.strip()
        if isinstance(widget, SelectionList):
            return list(widget.selected)
        if isinstance(widget, Select):
            return "" if widget.is_blank() else widget.value
        return cast(Input, widget).value.strip()

    def fill(self, answer: Any) -> None:
        """Answer for the person; a choice that is not offered (any more) is left open."""
        widget = self.query_one(f"#answer-{self.field.key}")
        if isinstance(widget, TextArea):
            widget.text = answer
        elif isinstance(widget, SelectionList):
            for offered in answer:
                with suppress(OptionDoesNotExist):
                    widget.select(offered)
        elif isinstance(widget, Select):
            with suppress(InvalidSelectValueError):
                widget.value = answer or (Select.NULL if self.field.key == "variant" else answer)
        else:
            cast(Input, widget).value = answer

    def show_kind(self, kind: str) -> None:
        """Stand in the form for this kind of job, or out of it, with nothing said yet."""
        self.set_class(kind not in self.field.kinds, "-other")
        self.say("")
        for widget in self.query("Input, TextArea"):
            cast(Input | TextArea, widget).placeholder = form.hint(self.field, kind)

    @on(SelectionList.SelectedChanged)
    def _count(self, event: SelectionList.SelectedChanged[str]) -> None:
        marked = len(event.selection_list.selected)
        self.label = f"{self.field.label} {marked or ''}".strip()

    def say(self, words: str) -> None:
        """Put this sentence under the field, or take it away."""
        told = self.query_children(Still)
        fault = told.first() if told else Still(classes="fault")
        fault.show(Text(words, style("bad")) if words else "")
        if words and not told:
            self.mount(fault)


def single_choices(offers: list[form.Offer]) -> list[tuple[Text, str]]:
    """The variants, one of which may be chosen; what is typed in the open list is looked for only
    among prompts of this type."""
    return [(Text(_words(offer)), offer.id) for offer in offers]


def variant_choices(offers: list[form.Offer], models: Sequence[str]) -> Iterator[Selection[str]]:
    """The variants of these models, to be marked."""
    for offer in offers:
        if offer.model in ("", *models):
            yield Selection(Content(_words(offer)), offer.id)


def _words(offer: form.Offer) -> str:
    return f"{one_line(offer.id, limit=80)}  {offer.words}"
