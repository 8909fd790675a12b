"""What a person can do to jobs, the same on every screen that has some chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.events import Key

from obstui.errors import Problem
from obstui.tui import acts
from obstui.tui.acts import Act
from obstui.tui.clipboard import copy
from obstui.tui.screens.confirm import Confirm, Question
from obstui.tui.screens.view import T, View
from obstui.tui.wording import has_come_to
from obstui.tui.writer import Declined

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import JobView, Store

UNDO_DEPTH = 50
MANY = 100  # jobs that take long enough for a word at the beginning


class JobActs(View[T]):
    """Bindings and actions on `selected_job`, or on all of `marked_jobs`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause/resume", id="job.pause",
                tooltip="Hold it, or let it go on where it was"),
        Binding("c", "cancel", "Cancel", id="job.cancel",
                tooltip="End the job; a running one asks first"),
        Binding("r", "retry", "Retry", id="job.retry",
                tooltip="Queue it again; finished work is kept"),
        Binding("d", "duplicate", "Retry with changes", id="job.duplicate", show=False,
                tooltip="A new job like this one: the form, filled with its answers"),
        Binding("E", "edit", "Edit", id="job.edit", show=False,
                tooltip="Change what a job that has not begun was asked to do"),
        Binding("x", "remove", "Remove", id="job.remove", show=False,
                tooltip="Remove a job that does not run, with all its files"),
        Binding("+,plus", "raise_priority(1)", "Sooner", id="job.sooner", show=False,
                tooltip="Raise the priority: higher runs earlier"),
        Binding("-,minus", "raise_priority(-1)", "Later", id="job.later", show=False,
                tooltip="Lower the priority"),
        Binding("y", "copy_job('command')", "Copy command", id="job.copy-command", show=False,
                tooltip="Copy the command line that queues this job again"),
        Binding("Y", "copy_job('yaml')", "Copy YAML", id="job.copy-yaml", show=False,
                tooltip="Copy the job as a file for obstui submit"),
        Binding("u", "undo", "Undo", id="job.undo", show=False,
                tooltip="Take the last pause, resume, cancel, priority or move back"),
    ]  # fmt: skip

    @property
    def selected_job(self) -> JobView | None:
        """The job that the actions are about."""
        raise NotImplementedError

    async def marked_jobs(self) -> Mapping[int, str]:
        """The jobs that the actions are about instead, with their states; empty: none is marked."""
        return {}

    @property
    def any_marked(self) -> bool:
        return False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what cannot be done: everything that writes when read-only, else by state."""
        if action == "undo":
            return not self.dashboard.readonly
        if action == "edit":
            job = self.selected_job
            waits = job is not None and job.state in _STATES[action] and not job.attempt
            return not self.dashboard.readonly and (waits or None)
        if action == "copy_job":
            return self.selected_job is not None or None
        if action == "duplicate":
            return not self.dashboard.readonly and (self.selected_job is not None or None)
        fitting = _STATES.get(action)
        if fitting is None:
            return super().check_action(action, parameters)
        if self.dashboard.readonly:
            return False
        job = self.selected_job
        fits = self.any_marked or (job is not None and job.state in fitting)
        # What the footer names is hidden where it does not fit; the rest stays in the help.
        return fits or (False if action in ("pause", "cancel", "retry") else None)

    def on_key(self, event: Key) -> None:
        """A key whose action does not fit the job says so: silence would look like a dead key."""
        job = self.selected_job
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            action = binding.action.partition("(")[0]
            if job is None or action not in _STATES or self.check_action(action, ()):
                continue
            words = "This dashboard is read-only."
            if not self.dashboard.readonly:
                words = f"{binding.description}: not for a job that {has_come_to(job.state)}."
            self.notify(words, severity="warning", markup=False, timeout=3)

    async def action_pause(self) -> None:
        marked = await self.marked_jobs()
        job = self.selected_job
        if marked:
            run = any(state in acts.PAUSE.states for state in marked.values())
            self._ask(acts.PAUSE if run else acts.RESUME, marked)
        elif job is not None:
            over = job.state in ("held", "paused") or job.desired == "pause"
            self._carry_out(acts.RESUME if over else acts.PAUSE, {job.id: job.state})

    async def action_cancel(self) -> None:
        job = self.selected_job
        if not self.any_marked and job is not None and job.live:
            again = job.desired == "cancel"
            follows = "It was asked to end already: asking again ends it without saving."
            if not again:
                follows = "It saves what it has and ends; Retry goes on from there."
                follows += await asyncio.to_thread(_hangs_on, self.dashboard.paths, job.id)
            question = Question(
                f"Cancel job {job.id}, which is {job.state}?", follows,
                yes="Cancel the job", no="Keep it",
            )  # fmt: skip
            self._after(question, acts.CANCEL, {job.id: job.state})
        else:
            await self.perform(acts.CANCEL)

    async def action_retry(self) -> None:
        await self.perform(acts.RETRY)

    def action_duplicate(self) -> None:
        self._open_form(edit=False)

    def action_edit(self) -> None:
        self._open_form(edit=True)

    @work(group="form", exclusive=True, exit_on_error=False, description="read a job for the form")
    async def _open_form(self, *, edit: bool) -> None:
        from obstui.tui import form

        if (job := self.selected_job) is None:
            return
        try:
            opening = await asyncio.to_thread(form.opening, self.dashboard.paths, job, edit=edit)
        except Problem as err:
            self.notify(str(err), severity="error", markup=False)
        else:
            self.dashboard.new_job(opening)

    @work(group="copy", exclusive=True, exit_on_error=False, description="copy a job")
    async def action_copy_job(self, form: str) -> None:
        """`form`: "command" or "yaml"."""
        if (job := self.selected_job) is None:
            return
        from obstui import again
        from obstui.job_files import as_yaml

        try:
            spec, options = await asyncio.to_thread(again.asked_for, self.dashboard.paths, job)
            text = again.command_line(spec, options) if form == "command" else ""
        except Problem as err:
            self.notify(str(err), severity="warning", markup=False)
            return
        what = f"The {'command line' if text else 'YAML'} of job {job.id}"
        await copy(self.dashboard, text or as_yaml(job.spec, options), what)

    async def action_remove(self) -> None:
        """What others need is refused before anybody is asked."""
        if not self.any_marked and (job := self.selected_job) is not None:
            try:
                await asyncio.to_thread(_check_unneeded, self.dashboard.paths, job.id)
            except Problem as err:
                self.notify(str(err), severity="error", markup=False)
                return
        await self.perform(acts.REMOVE)

    async def action_raise_priority(self, step: int) -> None:
        await self.perform(acts.priority(step))

    async def perform(self, act: Act) -> None:
        """Do it to what is marked, or else to the selected job; ask first where that is due."""
        marked = await self.marked_jobs()
        if marked:
            self._ask(act, marked)
        elif (job := self.selected_job) is not None and not self.any_marked:
            if job.state in act.asks:
                question = Question(f"{act.verb} job {job.id}?", act.warning, act.verb, "Keep it")
                self._after(question, act, {job.id: job.state})
            else:
                self._carry_out(act, {job.id: job.state})

    def _ask(self, act: Act, marked: Mapping[int, str]) -> None:
        """One question for many jobs, with their number."""
        fitting = {job_id: state for job_id, state in marked.items() if state in act.states}
        others = len(marked) - len(fitting)
        if not fitting:
            states = ", ".join(sorted(set(marked.values())))
            words = f"{act.verb}: not for jobs in this state ({states})."
            self.notify(words, severity="warning", markup=False)
            return
        left = f" {others:,} of the marked jobs stay as they are." if others else ""
        count = "1 job" if len(fitting) == 1 else f"{len(fitting):,} jobs"
        title = f"{act.verb} {count}?"
        question = Question(title, act.warning + left, title.removesuffix("?"), "Leave them")
        self._after(question, act, fitting)

    def _after(self, question: Question, act: Act, targets: Mapping[int, str]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._carry_out(act, targets)

        self.app.push_screen(Confirm(question), answered)

    def _carry_out(self, act: Act, targets: Mapping[int, str]) -> None:
        if len(targets) >= MANY:
            words = f"{act.verb} {len(targets):,} jobs: under way."
            self.notify(words, markup=False, timeout=3)
        self.change(lambda store: acts.carry_out(act, targets, store))

    @work(group="acts", exit_on_error=False, description="change jobs")
    async def change(self, act: Callable[[Store], acts.Outcome]) -> None:
        """Carry a wish to the store; say what came of it, and keep how to take it back."""
        try:
            outcome = await self.dashboard.write(act)
        except Declined as err:
            self.notify(str(err), severity="error", markup=False)
            return
        if outcome.changed:
            self.dashboard.undoable.append(outcome)
            del self.dashboard.undoable[:-UNDO_DEPTH]
        self.refresh_bindings()
        self.notify(outcome.said, severity="warning" if outcome.refused else "information",
                    markup=False, timeout=3)  # fmt: skip

    @work(group="acts", exit_on_error=False, description="undo")
    async def action_undo(self) -> None:
        if not self.dashboard.undoable:
            self.notify("There is nothing to take back.", markup=False, timeout=3)
            return
        last = self.dashboard.undoable.pop()
        if not last.undo:
            words = f'Cannot be taken back: "{last.said}" Press u again for what came before it.'
            self.notify(words, severity="warning", markup=False)
            return
        try:
            refused = await self.dashboard.write(lambda store: acts.take_back(last.undo, store))
        except Declined as err:
            self.notify(str(err), severity="error", markup=False)
            return
        if refused == len(last.undo):
            words = f"Cannot be undone any more: {last.said}"
        else:
            words = f'Taken back: "{last.said}"'
            words += f" For {refused:,} it was too late." if refused else ""
        self.notify(words, severity="warning" if refused else "information", markup=False)
        self.refresh_bindings()


_STATES: Mapping[str, tuple[str, ...]] = {
    "pause": (*acts.WAITING, *acts.LIVE),
    "cancel": acts.CANCEL.states,
    "retry": acts.RETRY.states,
    "remove": acts.REMOVE.states,
    "raise_priority": acts.WAITING,
    "edit": ("held", "queued"),
    "move": acts.WAITING,
}
"""The states in which an action fits a job."""


def _check_unneeded(paths: Paths, job_id: int) -> None:
    from obstui.store import Reader

    with Reader.open(paths) as reader:
        reader.check_unneeded(job_id)


def _hangs_on(paths: Paths, job_id: int) -> str:
    """A sentence about the jobs that wait for this one and would be skipped; "" if none does, or
    if the store cannot be read, which must not keep anybody from cancelling."""
    from obstui.store import Reader

    try:
        with Reader.open(paths) as reader:
            needs = reader.all_needs()
    except Problem:
        return ""
    children: set[int] = set()
    fresh = {job_id}
    while fresh := {child for child, parents in needs.items() if fresh & set(parents)} - children:
        children |= fresh
    if not children:
        return ""
    names = ", ".join(map(str, sorted(children)[:5])) + (", ..." if len(children) > 5 else "")
    one = len(children) == 1
    return f" Job{'' if one else 's'} {names} wait{'s' if one else ''} for it and would be skipped."
