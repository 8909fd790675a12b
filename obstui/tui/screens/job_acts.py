"""What a person can do to a job, the same on every screen that has one selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from obstui.tui.screens.confirm import Confirm, Question
from obstui.tui.screens.view import T, View

if TYPE_CHECKING:
    from obstui.store import JobView


class JobActs(View[T]):
    """Bindings and actions on `selected_job`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause/resume", id="job.pause",
                tooltip="Hold it, or let it go on where it was"),
        Binding("c", "cancel", "Cancel", id="job.cancel",
                tooltip="End the job; a running one asks first"),
        Binding("r", "retry", "Retry", id="job.retry",
                tooltip="Queue it again; finished work is kept"),
        Binding("x", "remove", "Remove", id="job.remove", show=False,
                tooltip="Forget a finished job; its files stay"),
        Binding("+,plus", "raise_priority(1)", "Sooner", id="job.sooner", show=False,
                tooltip="Raise the priority: higher runs earlier"),
        Binding("-,minus", "raise_priority(-1)", "Later", id="job.later", show=False,
                tooltip="Lower the priority"),
    ]  # fmt: skip

    @property
    def selected_job(self) -> JobView | None:
        """The job that the actions are about."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what cannot be done: everything that writes when read-only, else by state."""
        if action not in ("pause", "cancel", "retry", "remove", "raise_priority"):
            return super().check_action(action, parameters)
        job = self.selected_job
        if self.dashboard.readonly or job is None:
            return False
        if action in ("pause", "cancel", "raise_priority"):
            return not job.finished
        return job.finished and (action == "remove" or job.state != "succeeded")

    def action_pause(self) -> None:
        if (job := self.selected_job) is None:
            return
        job_id = job.id
        if job.state in ("held", "paused") or job.desired == "pause":
            self.dashboard.change(lambda s: s.resume(job_id), f"Job {job_id} may go on.")
        else:
            said = f"Job {job_id} saves its work and pauses." if job.live else f"Job {job_id} held."
            self.dashboard.change(lambda s: s.pause(job_id), said)

    def action_cancel(self) -> None:
        if (job := self.selected_job) is None:
            return
        job_id = job.id
        if not job.live:
            self.dashboard.change(lambda s: s.cancel(job_id), f"Job {job_id} cancelled.")
            return
        again = job.desired == "cancel"
        question = Question(
            f"Cancel job {job_id}, which is {job.state}?",
            "It was asked to end already: asking again ends it without saving."
            if again
            else "It saves what it has and ends; Retry goes on from there.",
            yes="Cancel the job",
            no="Keep it",
        )
        self._after(question, lambda: self.dashboard.change(
            lambda s: s.cancel(job_id), f"Job {job_id} was asked to end."
        ))  # fmt: skip

    def action_retry(self) -> None:
        if (job := self.selected_job) is not None:
            job_id = job.id
            self.dashboard.change(lambda s: s.retry(job_id), f"Job {job_id} queued again.")

    def action_remove(self) -> None:
        if (job := self.selected_job) is None:
            return
        job_id = job.id
        question = Question(
            f"Remove job {job_id} from the list?",
            "Its history is forgotten; its files stay on the disk.",
            yes="Remove",
            no="Keep it",
        )
        self._after(question, lambda: self.dashboard.change(
            lambda s: s.remove(job_id), f"Job {job_id} removed."
        ))  # fmt: skip

    def action_raise_priority(self, step: int) -> None:
        if (job := self.selected_job) is not None:
            job_id, priority = job.id, job.priority + step
            self.dashboard.change(
                lambda s: s.set_priority(job_id, priority),
                f"Job {job_id} has priority {priority}.",
            )

    def _after(self, question: Question, act: object) -> None:
        def answered(yes: bool | None) -> None:
            if yes and callable(act):
                act()

        self.app.push_screen(Confirm(question), answered)
