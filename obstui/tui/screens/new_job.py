"""The form that queues a job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Label, Select, SelectionList, TextArea
from textual.widgets.option_list import OptionDoesNotExist
from textual.widgets.select import InvalidSelectValueError
from textual.widgets.selection_list import Selection

from obstui import specs
from obstui.lookup import checked
from obstui.tui import form
from obstui.tui.theme import style
from obstui.tui.widgets.plan_panel import PlanPanel
from obstui.tui.widgets.still import Still
from obstui.tui.writer import Declined

if TYPE_CHECKING:
    from obstui.store import JobView
    from obstui.tui.app import Dashboard


class Question(Vertical):
    """A label, the widget that takes the answer, and the sentence about what is wrong with it."""

    DEFAULT_CSS = """
    Question { height: auto; }
    Question > Horizontal { height: auto; }
    Question Label { width: 13; color: $text-muted; }
    Question .fault { padding-left: 13; color: $error; }
    """

    def __init__(self, field: form.Field, offers: list[form.Offer]) -> None:
        super().__init__(id=f"ask-{field.key}", classes=" ".join(
            ["wide" if field.wide else "half", *(["more"] if field.more else [])]))  # fmt: skip
        self.field = field
        self._offers = offers

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Label(self.field.label, markup=False)
            yield self._answer_widget()
        yield Still(classes="fault")

    def _answer_widget(self) -> Any:
        field, key = self.field, f"answer-{self.field.key}"
        if field.choices:
            words = [(form.CHOICE_WORDS.get((field.key, c), c.replace("_", " ")), c)
                     for c in field.choices]  # fmt: skip
            return Select(words, id=key, compact=True,
                          value=field.choices[0], allow_blank=False)  # fmt: skip
        if field.key == "prompts":
            hint = "one prompt a line; empty: the bundled prompts"
            area = TextArea(id=key, compact=True, tab_behavior="focus", placeholder=hint)
            area.cursor_blink = False
            return area
        if field.key == "variant":
            options = [(Content(f"{o.id}  {o.words}"), o.id) for o in self._offers]
            return Select(options, id=key, compact=True, prompt="the dense model")
        if field.key == "variants":
            return SelectionList(*variant_choices(self._offers, "demo"), id=key, compact=True)
        answer = Input(field.start, id=key, placeholder=field.hint, compact=True)
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
        """Answer for the person; a choice that is not offered any more is left open."""
        widget = self.query_one(f"#answer-{self.field.key}")
        if isinstance(widget, TextArea):
            widget.text = answer
        elif isinstance(widget, SelectionList):
            for offered in answer:
                with suppress(OptionDoesNotExist):
                    widget.select(offered)
        elif isinstance(widget, Select):
            with suppress(InvalidSelectValueError):
                widget.value = answer
        else:
            cast(Input, widget).value = answer

    def say(self, words: str) -> None:
        """Put this sentence under the field, or take it away."""
        self.query_one(".fault", Still).show(Text(words, style("bad")) if words else "")


def variant_choices(offers: list[form.Offer], model: str) -> Iterator[Selection[str]]:
    """The variants of one model, to be marked."""
    for offer in offers:
        if offer.model in ("", model):
            yield Selection(Content(f"{offer.id}  {offer.words}"), offer.id)


class NewJobScreen(Screen[int]):
    """Dismissed with the queued job's number, once it is in the store."""

    CSS_PATH = "new_job.tcss"
    AUTO_FOCUS = "#kind"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "submit", "Queue the job", id="form.submit", priority=True,
                tooltip="Check the answers and queue the job"),
        Binding("ctrl+o", "more", "More options", id="form.more", priority=True,
                tooltip="Ask for everything that such a job can be told, or hide it again"),
        Binding("ctrl+g", "plan", "Plan", id="form.plan", priority=True,
                tooltip="What the job will take, in full, or the questions again"),
        Binding("escape", "leave", "Back", id="form.leave", tooltip="Back, nothing queued"),
    ]  # fmt: skip

    def __init__(self, like: JobView | None = None) -> None:
        """`like`: the job whose answers it begins with."""
        super().__init__()
        self._like = like
        self._offers: list[form.Offer] = []
        self._sending = False
        self._shown_kind = ""
        self._contradicted: Question | None = None
        self._refusals: dict[tuple[str, str], str] = {}

    @property
    def dashboard(self) -> Dashboard:
        return cast("Dashboard", self.app)

    @property
    def kind(self) -> str:
        return str(self.query_one("#kind", Select).value)

    def compose(self) -> ComposeResult:
        self._offers = form.offers(self.dashboard.snapshot.jobs)
        with Horizontal(id="title"):
            yield Label("New job", id="heading")
            yield Select(form.KINDS, id="kind", compact=True, value="prune", allow_blank=False)
            yield Select([(preset.name, preset.name) for preset in form.PRESETS], id="preset",
                         compact=True, prompt="no preset")  # fmt: skip
        with Horizontal(id="middle"):
            with VerticalScroll(id="questions", can_focus=False):
                for field in form.FIELDS:
                    yield Question(field, self._offers)
            yield PlanPanel(id="plan")
        yield Still(id="summary")
        yield Still(id="help")
        yield Still(id="fault")
        with Horizontal(id="buttons"):
            yield Button("Queue the job (ctrl+s)", id="submit", variant="primary", compact=True)
            yield Button("Back (esc)", id="leave", compact=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        if self._like is not None and self._like.kind in specs.KINDS:
            self._fill(self._like)
        self._show_kind()

    def _fill(self, job: JobView) -> None:
        self.query_one("#heading", Label).update(Content(f"Like job {job.id}"))
        self.query_one("#kind", Select).value = job.kind
        answers = form.answers_of(job.spec, job.priority)
        choices = self.query_one("#answer-variants", SelectionList)
        choices.clear_options()
        choices.add_options(variant_choices(self._offers, answers.get("model", "")))
        for question in self.query(Question):
            if question.field.key in answers:
                question.fill(answers[question.field.key])

    @on(Select.Changed, "#kind")
    def _show_kind(self) -> None:
        """Ask only what this kind of job needs. The widget reports its first value too, perhaps
        after the person has begun: that is no news, and must not wipe what was said since."""
        kind = self.kind
        if kind == self._shown_kind:
            return
        self._shown_kind = kind
        for question in self.query(Question):
            question.set_class(kind not in question.field.kinds, "-other")
            question.say("")
        self._contradicted = None
        self.query_one("#fault", Still).show("")
        self.query_one("#preset", Select).display = kind == "prune"
        self._plan()

    @on(Select.Changed, "#preset")
    def _preset_chosen(self, event: Select.Changed) -> None:
        preset = next((each for each in form.PRESETS if each.name == event.value), None)
        if preset is None:
            return
        for key, answer in preset.answers.items():
            self.query_one(f"#ask-{key}", Question).fill(answer)
        self._help(preset.says)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        question = next((n for n in event.widget.ancestors if isinstance(n, Question)), None)
        if question is not None:
            self._help(question.field.help)
        elif event.widget.id == "preset":
            self._help("Fills the fields below; change what you like after.")
        else:
            self._help("")

    def _help(self, words: str) -> None:
        self.query_one("#help", Still).show(Text(words, style("muted"), no_wrap=True))

    def action_more(self) -> None:
        """Show the questions that few jobs need, and go to the first of them."""
        self.toggle_class("-all")
        if self.has_class("-all"):
            first = next(q for q in self.query(Question)
                         if q.field.more and self.kind in q.field.kinds)  # fmt: skip
            self.call_after_refresh(self._focus_answer, first)

    def action_plan(self) -> None:
        self.toggle_class("-plan")

    @property
    def _asked(self) -> list[Question]:
        return [question for question in self.query(Question) if self.kind in question.field.kinds]

    def _plan(self) -> None:
        answers = {question.field.key: question.answer for question in self._asked}
        self.query_one(PlanPanel).ask(self.kind, answers)

    def on_plan_panel_planned(self, event: PlanPanel.Planned) -> None:
        """The plan's short form, and the sentence about fields that contradict each other."""
        self.query_one("#summary", Still).show(event.summary)
        if self._contradicted is not None:
            self._judge(self._contradicted)
            self._contradicted = None
        key = form.field_of(event.fault)
        if key is not None:
            question = self.query_one(f"#ask-{key}", Question)
            if self._judge(question):
                question.say(event.fault)
                self._contradicted = question
                if question.field.more:
                    self.add_class("-all")

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _typed(self, event: Input.Changed | TextArea.Changed) -> None:
        question = next((n for n in event.control.ancestors if isinstance(n, Question)), None)
        if question is not None:
            self._judge(question)
            self._plan()

    @on(Select.Changed)
    def _chosen(self) -> None:
        self._plan()

    @on(Input.Changed, "#answer-model")
    def _model_named(self, event: Input.Changed) -> None:
        """Only variants of this model can be compared with it."""
        choices = self.query_one("#answer-variants", SelectionList)
        marked = set(choices.selected)
        choices.clear_options()
        fresh = list(variant_choices(self._offers, event.value.strip()))
        choices.add_options(fresh)
        for choice in fresh:
            if choice.value in marked:
                choices.select(choice)

    @on(SelectionList.SelectedChanged)
    def _marked(self) -> None:
        self._judge(self.query_one("#ask-variants", Question))
        self._plan()

    def _judge(self, question: Question) -> bool:
        """Say what is wrong with an answer, also what was found wrong with this very answer when
        it was sent last."""
        key, answer = question.field.key, question.answer
        words = form.fault(self.kind, key, answer) or self._refusals.get((key, str(answer)), "")
        question.say(words)
        return not words

    def action_leave(self) -> None:
        self.dismiss()

    @on(Button.Pressed, "#leave")
    def _leave_pressed(self) -> None:
        self.action_leave()

    @on(Button.Pressed, "#submit")
    def _submit_pressed(self) -> None:
        self.action_submit()

    def action_submit(self) -> None:
        self._refusals.clear()
        asked = self._asked
        wrong = [question for question in asked if not self._judge(question)]
        if wrong:
            self._focus_answer(wrong[0])
        elif not self._sending:
            self._sending = True
            self._send(self.kind, {q.field.key: q.answer for q in asked})

    @work(group="submit", exit_on_error=False)
    async def _send(self, kind: str, answers: dict[str, Any]) -> None:
        """Read the files that the answers name, then queue; "queued" is said after the commit."""
        try:
            options = form.options(answers)
            spec = await asyncio.to_thread(_prepare, kind, answers)
            job = await self.dashboard.write(lambda store: store.enqueue(spec, options=options))
        except (specs.BadSpec, Declined) as err:
            self._refused(err)
        else:
            self.app.notify(f"Queued as job {job.id}.", markup=False, timeout=3)
            self.dismiss(job.id)
        finally:
            self._sending = False

    def _refused(self, err: Exception) -> None:
        """Put the sentence under its field where it has one, else above the buttons."""
        words = str(err)
        key = "model" if isinstance(err, specs.NoSuchModel) else form.field_of(words)
        if "prompt file" in words:
            key = "prompt_file"
        if key is None:
            self.query_one("#fault", Still).show(Text(words, style("bad")))
            return
        question = self.query_one(f"#ask-{key}", Question)
        self._refusals[key, str(question.answer)] = words.removeprefix(f"{key}: ")
        self._judge(question)
        self._focus_answer(question)

    def _focus_answer(self, question: Question) -> None:
        self.remove_class("-plan")
        if question.field.more:
            self.add_class("-all")
        self.query_one(f"#answer-{question.field.key}").focus()


def _prepare(kind: str, answers: dict[str, Any]) -> specs.Spec:
    """Answers to a spec; looks at files, so never on the UI thread. Raises BadSpec."""
    return checked(form.spec_data(kind, answers))
