"""The form that queues a job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus, Paste
from textual.widget import Widget
from textual.widgets import Button, Input, Label, Select, SelectionList, TextArea
from textual.worker import Worker

from obstui import specs
from obstui.again import command_line
from obstui.errors import Problem
from obstui.text import one_line
from obstui.tui import form, queueing, recipe
from obstui.tui.clipboard import copy
from obstui.tui.follow import MadeReading
from obstui.tui.screens.confirm import Confirm
from obstui.tui.screens.confirm import Question as Ask
from obstui.tui.screens.view import Whole
from obstui.tui.theme import style
from obstui.tui.type_ahead import LOOK_EVERY
from obstui.tui.widgets.key_bar import KeyBar
from obstui.tui.widgets.plan_panel import PlanPanel
from obstui.tui.widgets.question import Question, single_choices, variant_choices
from obstui.tui.widgets.still import Still
from obstui.tui.writer import Declined, sentence

if TYPE_CHECKING:
    from obstui.store import JobView, Reader


_LEAVE = Ask("Leave the form?", "Nothing is queued, and the answers are gone.",
             yes="Leave", no="Go on writing")  # fmt: skip


class Makers(MadeReading[tuple["JobView", ...]]):
    """The jobs whose variants can be chosen, however many others have come since."""

    def read(self, reader: Reader) -> tuple[JobView, ...]:
        return tuple(reader.jobs(kinds=("prune", "import"), limit=2000))


class NewJobScreen(Whole[int]):
    """Dismissed with the queued job's number, once it is in the store."""

    CSS_PATH = "new_job.tcss"
    AUTO_FOCUS = "#kind"
    BINDINGS: ClassVar[list[BindingType]] = [
        # The buttons name the keys of these two: a narrow footer has no room for them.
        Binding("ctrl+s", "submit", "Queue or change", id="form.submit", priority=True, show=False,
                tooltip="Check the answers, and queue the job or change the one that waits"),
        Binding("ctrl+o", "more", "More options", id="form.more", priority=True,
                tooltip="Ask for everything that such a job can be told, or hide it again"),
        Binding("ctrl+g", "plan", "Plan", id="form.plan", priority=True,
                tooltip="What the job will take, in full, or the questions again"),
        Binding("ctrl+n,f2", "pick", "Pick", id="form.pick", priority=True,
                tooltip="Models that are known, or files and folders, for the field you are in"),
        Binding("ctrl+l", "copy('command')", "Copy command", id="form.copy-command", show=False,
                priority=True, tooltip="Copy the command line that would queue this"),
        Binding("ctrl+t", "copy('yaml')", "Copy YAML", id="form.copy-yaml", show=False,
                priority=True, tooltip="Copy this as a file for obstui submit"),
        Binding("ctrl+z", "bring_back", "Bring back", id="form.bring-back", show=False,
                priority=True, tooltip="The answers from before a picture was dropped here"),
        Binding("escape", "leave", "Back", id="form.leave", show=False,
                tooltip="Back, nothing queued"),
    ]  # fmt: skip

    def __init__(self, opening: form.Opening | None = None) -> None:
        super().__init__()
        self._makers = Makers()
        self._opening = opening
        self._edits = opening.edits if opening else None
        self._offers: list[form.Offer] = []
        self._sending = False
        self._shown_kind = ""
        self._began: dict[str, Any] | None = None
        self._contradicted: list[Question] = []
        self._refusals: dict[tuple[str, str], str] = {}
        self._before_preset: Mapping[str, Any] = {}
        self._written_in: Widget | None = None
        self._cursor: Any = None
        self._picture: Worker[bool] | None = None
        self._replaced: tuple[str, dict[str, Any], dict[str, Any]] | None = None

    @property
    def _made(self) -> Sequence[JobView]:
        """The jobs that make variants; those at hand until they have been read."""
        snapshot = self.dashboard.snapshot
        page = snapshot.page_of(self._makers)
        return page if isinstance(page, tuple) else snapshot.jobs

    @property
    def kind(self) -> str:
        return str(self.query_one("#kind", Select).value)

    def compose_whole(self) -> ComposeResult:
        self._offers = form.offers(self._made)
        known = self._opening is not None and self._opening.kind in specs.KINDS
        kind = self._opening.kind if self._opening is not None and known else "prune"
        with Horizontal(id="title"):
            yield Label("New job", id="heading")
            yield Select(form.KINDS, id="kind", compact=True, value=kind, allow_blank=False)
            yield Select([(preset.name, preset.name) for preset in form.PRESETS], id="preset",
                         compact=True, prompt="no preset")  # fmt: skip
        with Horizontal(id="middle"):
            with VerticalScroll(id="questions", can_focus=False):
                for field in form.FIELDS:
                    yield Question(field, self._offers, kind)
            yield PlanPanel(id="plan")
        yield Still(id="summary")
        yield Still(id="help")
        yield Still(id="fault")
        with Horizontal(id="buttons"):
            yield Button("Queue the job (ctrl+s)", id="submit", variant="primary", compact=True)
            yield Button("Back (esc)", id="leave", compact=True)
        yield KeyBar()

    def on_screen_resume(self) -> None:
        # The job below is followed on: its map would be empty for a moment after the form.
        self.dashboard.follow(self.dashboard.snapshot.focus, reading=self._makers)

    def on_mount(self) -> None:
        opening = self._opening
        if opening is not None and opening.kind in specs.KINDS:
            self.query_one("#heading", Label).update(Content(opening.heading))
            self._fill(opening.kind, opening.answers)
            if opening.remark:
                self.notify(opening.remark, severity="warning", markup=False)
        else:
            self._fill_first_model()
        if self._edits is not None:
            self.query_one("#kind", Select).disabled = True
            self.query_one("#submit", Button).label = f"Change job {self._edits} (ctrl+s)"
        self._show_kind()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._began = self._all_answers

    def _fill_first_model(self) -> None:
        """Who has never used the demo model does not begin with it."""
        jobs = sorted(self.dashboard.snapshot.jobs, key=lambda job: -job.id)
        named = [job.spec.get("model") for job in jobs]
        newest = next(filter(None, named), None)
        if newest and "demo" not in named:
            self.query_one("#ask-model", Question).fill(form.joined([str(newest)]))

    def _fill(self, kind: str, answers: Mapping[str, Any]) -> None:
        self.query_one("#kind", Select).value = kind
        self._renew_offers([answers.get("variant", ""), *answers.get("variants", ())])
        choices = self.query_one("#answer-variants", SelectionList)
        choices.clear_options()
        choices.add_options(variant_choices(self._offers, form.parts(answers.get("model", ""))))
        for question in self.query(Question):
            if question.field.key in answers:
                question.fill(answers[question.field.key])
                if question.field.more and question.answer not in question.field.usual:
                    self.add_class("-all")
        named = str(answers.get("variant") or "")
        if named and all(offer.id != named for offer in form.offers(self._made)):
            words = f"The variant {one_line(named, limit=80)} is none of those listed here."
            self.notify(words, severity="warning", markup=False)

    def on_paste(self, event: Paste) -> None:
        """A picture dropped on the terminal: its settings are the answers."""
        if path := recipe.dropped(event.text):
            self._picture = self._take_picture(path)

    @work(group="picture", exclusive=True, exit_on_error=False, description="read a picture")
    async def _take_picture(self, path: str) -> bool:
        """Whether it has filled the form."""
        try:
            if self._edits is not None and self.kind != "generate":
                raise recipe.NotOurs("A picture can only fill the form of a job that generates.")
            opening = await asyncio.to_thread(recipe.opening, path)
        except recipe.NotOurs as err:
            self.notify(str(err), severity="warning", markup=False)
            return False
        before = self._before_picture or (self.kind, self._all_answers)
        self._fill(opening.kind, opening.answers)
        self._show_kind()
        self._replaced = *before, self._all_answers
        self.refresh_bindings()
        words = f"The answers are those of {one_line(path, limit=120)}: ctrl+z brings back yours."
        if opening.remark:  # longer to read
            self.notify(f"{words} {opening.remark}", severity="warning", markup=False)
        else:
            self.notify(words, markup=False, timeout=6)
        return True

    async def _picture_taken(self) -> bool:
        """Once the picture that was dropped last has been read: whether it has filled the form, if
        there was one to wait for."""
        waited = False
        while (picture := self._picture) is not None and not picture.is_finished:
            waited = True
            await asyncio.sleep(LOOK_EVERY)
        return not waited or (picture is not None and bool(picture.result))

    @property
    def _before_picture(self) -> tuple[str, dict[str, Any]] | None:
        """The kind and the answers that a picture has replaced; None once something else has been
        written, which to bring them back would lose."""
        if self._replaced is None or self._replaced[2] != self._all_answers:
            return None
        return self._replaced[:2]

    def action_bring_back(self) -> None:
        if before := self._before_picture:
            self._replaced = None
            self._fill(*before)
            self.refresh_bindings()

    @on(Select.Changed, "#kind")
    def _show_kind(self) -> None:
        """Ask only what this kind of job needs. The widget reports its first value too, perhaps
        after the person has begun: that is no news, and must not wipe what was said since."""
        kind = self.kind
        if kind == self._shown_kind:
            return
        self._shown_kind = kind
        for question in self.query(Question):
            question.show_kind(kind)
        self._contradicted = []
        self.query_one("#fault", Still).show("")
        self.query_one("#preset", Select).display = kind == "prune"
        self._plan()

    @on(Select.Changed, "#preset")
    def _preset_chosen(self, event: Select.Changed) -> None:
        """Fill its answers in, or put back what was there before any preset."""
        preset = next((each for each in form.PRESETS if each.name == event.value), None)
        if preset is not None:
            self._before_preset = self._before_preset or {
                key: self.query_one(f"#ask-{key}", Question).answer for key in preset.answers
            }
        answers = preset.answers if preset is not None else self._before_preset
        for key, answer in answers.items():
            self.query_one(f"#ask-{key}", Question).fill(answer)
        if preset is None:
            self._before_preset = {}
        else:
            self._help(preset.says)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        question = _question_of(event.widget)
        self.refresh_bindings()
        if question is not None:
            self._help(question.field.advice)
            if question.field.key in ("variant", "variants"):
                self._renew_offers()
        elif event.widget.id == "preset":
            self._help("Fills the fields below; no preset brings back what you wrote.")
        elif isinstance(event.widget, PlanPanel):
            self._help("Arrows and page keys move the plan; ctrl+g or esc leads back.")
        else:
            self._help("")

    def _help(self, words: str) -> None:
        self.query_one("#help", Still).show(Text(words, style("muted")))

    def action_more(self) -> None:
        """Show the questions that few jobs need, and go to the first of them."""
        self.toggle_class("-all")
        if self.has_class("-all"):
            first = next(q for q in self.query(Question)
                         if q.field.more and self.kind in q.field.kinds)  # fmt: skip
            self.call_after_refresh(self._focus_answer, first)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "pick":
            question = _question_of(self.focused)
            return question is not None and question.field.pick is not None
        if action == "bring_back":
            return self._before_picture is not None
        if action == "plan":  # where there is room it stands beside the questions
            return self.has_class("-plan") or not self.has_class("-wide")
        return super().check_action(action, parameters)

    def action_pick(self) -> None:
        question = _question_of(self.focused)
        if question is None or (sort := question.field.pick) is None:
            return
        from obstui.tui.screens.pick import Pick

        before, varies = str(question.answer), question.field.varies
        begin = (form.parts(before) or [""])[-1] if varies else before

        def taken(answer: str | None) -> None:
            if answer is not None:
                question.fill(form.picked(before, answer) if varies else answer)

        self.app.push_screen(Pick(sort, begin), taken)

    def action_plan(self) -> None:
        """Back from the plan, the keys go where they went before."""
        covers = not self.has_class("-plan")
        if covers:
            self._written_in = self.focused
            self._cursor = getattr(self.focused, "selection", None)
        self._lay_plan_over(covers)
        self.call_after_refresh(self.query_one(PlanPanel).focus if covers else self._write_on)

    def _lay_plan_over(self, covers: bool) -> None:
        """Put the plan over the questions, or take it away: the keys are for what is on top."""
        self.set_class(covers, "-plan")
        self.query_one(PlanPanel).can_focus = covers
        self.query_one("#title").can_focus_children = not covers

    def _write_on(self) -> None:
        self.set_focus(field := self._written_in)
        if isinstance(field, Input):  # to which the focus marks all: the next key would replace it
            field.call_later(setattr, field, "selection", self._cursor)

    @property
    def _asked(self) -> list[Question]:
        return [question for question in self.query(Question) if self.kind in question.field.kinds]

    def _plan(self) -> None:
        kind, answers = self.kind, self._answers
        self.query_one(PlanPanel).ask(lambda: form.asked(kind, answers), _refusal)

    def on_plan_panel_planned(self, event: PlanPanel.Planned) -> None:
        """The plan's short form, and under their fields the sentences about what has none."""
        self.query_one("#summary", Still).show(event.summary)
        for question in self._contradicted:
            self._judge(question)
        self._contradicted = []
        for key, words in form.faults_of(event.fault).items() if event.fault else ():
            if not key:
                continue
            question = self.query_one(f"#ask-{key}", Question)
            if question.answer and self._judge(question):
                question.say(words)
                self._contradicted.append(question)
                if question.field.more:
                    self.add_class("-all")

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _typed(self, event: Input.Changed | TextArea.Changed) -> None:
        question = _question_of(event.control)
        if question is not None:
            self._judge(question)
            self._plan()

    @on(Select.Changed)
    def _chosen(self) -> None:
        self._plan()

    def _renew_offers(self, named: Iterable[str] = ()) -> None:
        """Jobs may have been queued, or may have ended, since the form was opened."""
        one = self.query_one("#ask-variant", Question).answer
        marked = self.query_one("#ask-variants", Question).answer
        offers = form.offers(self._made, [one, *marked, *named])
        if offers == self._offers:
            return
        self._offers = offers
        self._list_variants()
        choice: Select[str] = self.query_one("#answer-variant", Select)
        choice.set_options(single_choices(offers))
        choice.value = one or Select.NULL

    @on(Input.Changed, "#answer-model")
    def _list_variants(self) -> None:
        """Only variants of this model, or of these, can be compared with it."""
        choices = self.query_one("#answer-variants", SelectionList)
        marked = set(choices.selected)
        choices.clear_options()
        # Not an event's value: the first one comes after an old job's answers have been filled in.
        models = self.query_one("#answer-model", Input).value
        fresh = list(variant_choices(self._offers, form.parts(models)))
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

    @property
    def unsaved(self) -> bool:
        """Whether something was written that leaving would lose."""
        return self._all_answers != self._began

    def action_leave(self) -> None:
        """First out of the plan; what has been written is given up only after a yes."""
        if self.has_class("-plan"):
            self.action_plan()
        elif not self.unsaved:
            self.dismiss()
        else:
            self.app.push_screen(Confirm(_LEAVE), self._left)

    def _left(self, yes: bool | None) -> None:
        if yes:
            self.dismiss()

    @on(Button.Pressed, "#leave")
    def _leave_pressed(self) -> None:
        self.action_leave()

    @on(Button.Pressed, "#submit")
    def _submit_pressed(self) -> None:
        self.action_submit()

    @property
    def _answers(self) -> dict[str, Any]:
        answers = {question.field.key: question.answer for question in self._asked}
        opening = self._opening.answers if self._opening is not None else {}
        if answers["name"] == opening.get("name"):  # else it is the person's from now on
            answers[form.NAMED] = opening.get(form.NAMED, ())
        return answers

    @property
    def _all_answers(self) -> dict[str, Any]:
        """Also those that other kinds of jobs ask for: to look at another kind says nothing yet."""
        return {question.field.key: question.answer for question in self.query(Question)}

    def _judge_all(self) -> bool:
        """Whether nothing is wrong with any answer; else go to the first that is at fault."""
        self._refusals.clear()
        wrong = [question for question in self._asked if not self._judge(question)]
        if wrong:
            self._focus_answer(wrong[0])
        return not wrong

    def action_submit(self) -> None:
        if not self._sending:
            self._sending = True
            self._submit()

    @work(group="submit", exit_on_error=False)
    async def _submit(self) -> None:
        """What is queued is what the form says once a picture that was dropped has filled it; one
        that cannot was meant to."""
        try:
            if await self._picture_taken() and self._judge_all():
                await self._send(self.kind, self._answers)
        finally:
            self._sending = False

    def action_copy(self, how: str) -> None:
        if self._judge_all():
            self._copy(how, self.kind, self._answers)

    @work(group="copy", exclusive=True, exit_on_error=False, description="copy what is asked for")
    async def _copy(self, how: str, kind: str, answers: dict[str, Any]) -> None:
        """`how`: "command" or "yaml"."""
        try:
            new = await asyncio.to_thread(queueing.prepared, kind, answers)
            text = queueing.as_text(
                new, form.several(kind, answers), str(answers.get("name") or "")
            )
            if how == "command":
                text = "\n".join(command_line(job.spec, job.options) for job in new)
        except Problem as err:
            self._refused(err)
            return
        what = "The job as YAML" if len(new) == 1 else f"The sweep of {len(new):,} jobs as YAML"
        if how == "command":
            what = "The command line" if len(new) == 1 else f"{len(new):,} command lines"
        await copy(self.dashboard, text, what)

    async def _send(self, kind: str, answers: dict[str, Any]) -> None:
        """Read the files that the answers name, then queue; "queued" is said after the commit."""
        try:
            new = await asyncio.to_thread(queueing.prepared, kind, answers)
            sweep = form.sweep_name(kind, answers)
            job_id, words = await self.dashboard.write(queueing.act(new, sweep, self._edits))
        except (Problem, Declined) as err:
            self._refused(err)
        else:
            hidden = await self.dashboard.filtered_out(job_id)
            words += " The queue's filter hides it; Esc there clears the filter." if hidden else ""
            self.app.notify(words, markup=False, timeout=6 if hidden else 3)
            self.dismiss(job_id)

    def _refused(self, err: Exception) -> None:
        """Put each sentence under its field where it has one, else above the buttons."""
        faults = dict(form.faults_of(err))
        if words := faults.pop("", ""):
            self.query_one("#fault", Still).show(Text(words, style("bad")))
        wrong = [question for question in self._asked if question.field.key in faults]
        for question in wrong:
            key = question.field.key
            words = faults[key].removeprefix(f"{key}: ")
            self._refusals[key, str(question.answer)] = words
            self._judge(question)
        if wrong:
            self._focus_answer(wrong[0])

    def _focus_answer(self, question: Question) -> None:
        self._lay_plan_over(False)
        if question.field.more:
            self.add_class("-all")
        self.query_one(f"#answer-{question.field.key}").focus()


def _refusal(err: Exception) -> str:
    """Why there is no plan; a question says in better words what is wrong with its answer."""
    faults = form.faults_of(err)
    labels = [field.label for field in form.FIELDS if field.key in faults]
    return f"see {' and '.join(labels)}." if labels else sentence(err)


def _question_of(widget: Widget | None) -> Question | None:
    """The question that a widget takes the answer to."""
    above = widget.ancestors if widget is not None else ()
    return next((node for node in above if isinstance(node, Question)), None)
