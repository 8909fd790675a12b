"""The queue screen: order, selection, acts on jobs, the worker, broken stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.message import Message
from textual.widgets import Input
from textual.widgets._footer import FooterKey

from obstui import again, specs
from obstui.config import Paths
from obstui.store import Reader
from obstui.store.stops import BY_HAND, QUEUE
from obstui.tui import holds, wording
from obstui.tui.follow import Snapshot
from obstui.tui.messages import StoreRead
from obstui.tui.screens.choice import Choice
from obstui.tui.screens.confirm import Confirm
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.widgets.job_columns import USUAL, cells_of, columns_for, row_of
from obstui.tui.widgets.job_detail import JobDetail
from obstui.tui.widgets.job_table import JobTable
from obstui.tui.widgets.still import Still
from obstui.tui.writer import Declined
from tests.obstui import tui_store
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


def state(scene: tui_store.Scene, job_id: int) -> str:
    with Reader.open(scene.paths) as reader:
        job = reader.job(job_id)
    assert job is not None
    return job.desired if job.live else job.state


def shown(app: object, selector: str) -> str:
    return app.screen.query_one(selector, Still).text  # type: ignore[attr-defined]


async def test_running_comes_first_then_waiting_in_order_then_finished(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths) as (app, _):
        table = app.screen.query_one(JobTable)
        ids = [int(str(row.key.value)) for row in table.ordered_rows]
        assert ids == [5, 6, 7, 8, 4, 3, 2, 1], "6 has the higher priority, 8 is held"
        assert table.job_id == 5
        assert "at least 3 min left" in shown(app, "#pane-status")
        assert "17.4 GiB now" in shown(app, "#pane-memory")


async def test_the_selection_follows_the_job_through_changes(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        table = app.screen.query_one(JobTable)
        await pilot.press("j", "j")
        assert table.job_id == 7
        busy.queue("generate", prompts=["one more"])
        busy.store.set_priority(7, 5)  # now before 6
        await until(pilot, lambda: len(app.snapshot.jobs) == 9 and table.row_count == 9)
        await until(pilot, lambda: table.ordered_rows[1].key.value == "7")
        assert table.job_id == 7
        assert table.cursor_row == 1
        assert app.screen.query_one(JobDetail).query_one("#pane-head", Still).text.startswith("7 ")


async def test_a_running_job_is_cancelled_only_after_a_yes(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("c")
        assert isinstance(app.screen, Confirm)
        assert app.focused is not None
        assert app.focused.id == "no", "Enter must be harmless"
        await pilot.press("enter")
        assert isinstance(app.screen, QueueScreen)
        assert state(busy, 5) == "run"
        await pilot.press("c", "y")
        await until(pilot, lambda: state(busy, 5) == "cancel")
        await until(pilot, lambda: "cancelling" in shown(app, "#pane-head"))


async def test_pause_resume_retry_and_remove_reach_the_store(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=7) as (app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: state(busy, 7) == "held")
        await until(pilot, lambda: app.snapshot.job(7).state == "held")  # type: ignore[union-attr]
        await pilot.press("p")
        await until(pilot, lambda: state(busy, 7) == "queued")
    async with opened(busy.paths, watch=3) as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: state(busy, 3) == "queued")
    async with opened(busy.paths, watch=4) as (app, pilot):
        await pilot.press("x", "y")
        await until(pilot, lambda: app.snapshot.job(4) is None)


async def test_read_only_hides_every_act(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, readonly=True) as (app, pilot):
        await pilot.press("c")
        assert isinstance(app.screen, QueueScreen)
        actions = {b.binding.action for b in app.screen.active_bindings.values() if b.enabled}
        assert not actions & {"pause", "cancel", "retry", "remove", "new_job", "start_worker"}
        assert "read-only" in shown(app, "#top")
        with pytest.raises(Declined, match="read-only"):  # also what forgot to hide itself
            await app.write(lambda store: store.cancel(6))
        with Reader.open(busy.paths) as reader:
            assert reader.states()[6] == "queued"


async def test_words_of_the_system_are_no_markup(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "drain", lambda paths: "bad [/home/x] there")
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("P")
        await until(pilot, lambda: isinstance(app.screen, Choice))
        await pilot.press("end", "enter")
        await until(pilot, lambda: "bad [/home/x] there" in [n.message for n in app._notifications])


async def test_a_failed_job_says_why_and_what_to_do(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=3) as (app, _):
        words = shown(app, "#pane-status")
        assert "9.4 GiB more were needed" in words
        assert "Press d to queue it with changes" in words


async def test_nothing_is_sent_while_nothing_changes(busy: tui_store.Scene) -> None:
    heard: list[Message] = []
    async with opened(busy.paths, heard=heard) as (app, pilot):
        follower = app._follower
        heard.clear()
        ticks = 0
        look = follower._look

        def counted() -> object:
            nonlocal ticks
            ticks += 1
            return look()

        follower._look = counted  # type: ignore[method-assign, assignment]
        await until(pilot, lambda: ticks >= 4)
        assert not [message for message in heard if isinstance(message, StoreRead)]


async def test_a_worker_is_started_when_none_lives(paths: Paths) -> None:
    tui_store.Scene(paths.home).close()
    asked: list[Paths] = []
    async with opened(paths, start_worker=asked.append) as (_, pilot):
        await until(pilot, lambda: asked)
        assert asked == [paths]


async def test_a_worker_that_does_not_start_is_a_banner_with_a_key(paths: Paths) -> None:
    tui_store.Scene(paths.home).close()
    tries = 0

    def fails(_: Paths) -> None:
        nonlocal tries
        tries += 1
        raise OSError("no room")

    async with opened(paths, start_worker=fails) as (app, pilot):
        await until(pilot, lambda: "no room" in shown(app, "#banner"))
        assert "w starts one" in shown(app, "#banner")
        await pilot.press("w")
        await until(pilot, lambda: tries == 2)


async def test_a_living_worker_is_left_alone(busy: tui_store.Scene) -> None:
    asked: list[Paths] = []
    async with opened(busy.paths, start_worker=asked.append) as (app, _):
        assert asked == []
        assert "job 5" in shown(app, "#top")


async def test_a_bad_store_is_a_sentence_not_a_traceback(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "jobs.db")
    paths.ensure().db.write_text("this is no database, and long enough to be looked at" * 20)
    async with opened(paths) as (app, pilot):
        await until(pilot, lambda: "not an obstui store" in shown(app, "#banner"))


async def test_an_empty_queue_says_how_to_begin(paths: Paths) -> None:
    tui_store.Scene(paths.home).close()
    async with opened(paths) as (app, _):
        assert "n queues a job. Try it with ctrl+s" in shown(app, "#empty")


@pytest.mark.parametrize("size", [(30, 10), (39, 24), (80, 11)])
async def test_a_tiny_terminal_gets_a_sentence(
    busy: tui_store.Scene, size: tuple[int, int]
) -> None:
    async with opened(busy.paths, size=size) as (app, _):
        assert app.screen.query_one("#too-small").display
        assert not app.screen.query_one("#body").display


@pytest.mark.parametrize("width", [60, 75, 76, 80, 93, 120, 160])
def test_columns_fill_the_table_exactly(width: int) -> None:
    assert sum(column + 2 for _, column in columns_for(width)) == width


@pytest.mark.parametrize(
    ("width", "waits", "paused", "compared"),
    [
        (160, "waits for job 5 (running)", "in solve 87 of 210 targets", "4 models, SSIM ≥ 0.840"),
        (80, "waits for 5", "solve", "SSIM ≥ 0.840"),
        (60, "waits for 5", "solve", "SSIM ≥ 0.840"),
    ],
)
def test_what_a_job_waits_for_or_came_to_fits_its_column(
    busy: tui_store.Scene, width: int, waits: str, paused: str, compared: str
) -> None:
    with Reader.open(busy.paths) as reader:
        jobs = {job.id: job for job in reader.jobs()}
    jobs[5] = dataclasses.replace(jobs[5], state="paused", blocked=None)
    columns = columns_for(width, USUAL)
    place = [column.key for column, _ in columns].index("progress")

    def progress(job: int) -> str:
        row = row_of(jobs[job], Snapshot(), tui_store.NOW, marked=False, theme="dark")
        return cells_of(row, columns, tui_store.NOW)[place].plain

    assert [progress(job) for job in (6, 5, 2)] == [waits, paused, compared]


async def test_every_action_is_in_the_palette_and_in_the_help(busy: tui_store.Scene) -> None:
    from obstui.tui.screens.keys import key_lines

    async with opened(busy.paths) as (app, pilot):
        named = {command.title for command in app.get_system_commands(app.screen)}
        listed = {line.words for line in key_lines(app.screen)}
        assert {"Open", "Cancel", "Pause/resume", "New job", "Quit", "Keys"} <= named & listed
        for active in app.screen.active_bindings.values():
            if active.binding.id:
                assert active.binding.tooltip
        await pilot.press("question_mark")
        assert type(app.screen).__name__ == "KeysScreen"


def test_a_bound_is_not_rounded_past_what_was_measured(busy: tui_store.Scene) -> None:
    with Reader.open(busy.paths) as reader:
        compared = next(job for job in reader.jobs() if job.kind == "compare" and job.result)
    models = [{"ssim": None}, {"ssim": 0.99951}, {"ssim": 0.99962}]
    job = dataclasses.replace(compared, result={"models": models})
    assert wording.outcome(job) == "3 models, SSIM ≥ 0.999"
    assert wording.best_result(job) == "SSIM ≤ 1.000"


async def test_a_changed_job_is_called_by_its_new_name(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        app.screen.choose(6)
        await until(pilot, lambda: app.screen.selected_job.id == 6)
        assert "night of ten" not in app.snapshot.title(app.screen.selected_job)
        spec = {**app.screen.selected_job.spec, "name": "night of ten"}
        options = again.options_of(app.screen.selected_job, ())
        busy.store.edit(6, specs.parse(spec), options)
        await until(pilot, lambda: "night of ten" in shown(app, "#pane-head"))


@pytest.mark.parametrize("readonly", [False, True])
async def test_a_paused_queue_is_let_go_on_by_its_key(
    busy: tui_store.Scene, readonly: bool
) -> None:
    """The command is for who may not press it."""
    busy.store.stop(QUEUE, BY_HAND)
    async with opened(busy.paths, watch=7, readonly=readonly) as (app, pilot):
        words = "obstui resume --queue" if readonly else "P in the queue lets it go on"
        await until(pilot, lambda: f"by hand; {words}" in shown(app, "#pane-status"))


async def test_a_question_does_not_stop_the_clock(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        below = app.screen
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        busy.store.pause(6)
        await until(pilot, lambda: "held" in str(below.query_one(JobTable).get_row("6")))


async def test_a_filter_that_is_wrong_keeps_the_keys(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("slash", *"colour:red", "enter", "x", "y")
        await until(pilot, lambda: "no field colour" in shown(app, "#filter-fault"))
        await pilot.pause()
        assert isinstance(app.focused, Input), "x and y are for the filter"
        assert app.focused.value == "colour:redxy"
        assert not isinstance(app.screen, Confirm)


async def test_what_another_job_needs_is_not_asked_about_to_be_removed(
    busy: tui_store.Scene,
) -> None:
    child = busy.queue("compare", variants=["1@30"])
    async with opened(busy.paths, watch=1) as (app, pilot):
        await until(pilot, lambda: app.screen.selected_job is not None)
        await pilot.press("x")
        words = f"Job 1 is needed by job {child.id}, which is queued: cancel that first."
        await until(pilot, lambda: words in [n.message for n in app._notifications])
        assert isinstance(app.screen, QueueScreen)
        busy.store.cancel(child.id)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))


async def test_keys_that_type_are_not_offered_as_actions(busy: tui_store.Scene) -> None:
    def offered() -> set[str]:
        return {key.key for key in app.screen.query(FooterKey)}

    async with opened(busy.paths, size=(200, 30), watch=6) as (app, pilot):
        await until(pilot, lambda: {"plus", "minus"} <= offered())
        await pilot.press("slash")
        await until(pilot, lambda: not {"plus", "minus", "p"} & offered(), 5)
        await pilot.press("escape")
        await until(pilot, lambda: {"plus", "minus"} <= offered())


@pytest.mark.parametrize("size", [(39, 11), (39, 24), (80, 11)])
async def test_blind_keys_do_nothing(busy: tui_store.Scene, size: tuple[int, int]) -> None:
    def blind() -> bool:
        return bool(app.screen.classes & {"-tiny", "-flat"})

    async with opened(busy.paths) as (app, pilot):
        await pilot.resize_terminal(*size)
        await until(pilot, blind)
        await pilot.press("p", "c", "P", "enter")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not blind())
        assert isinstance(app.screen, QueueScreen)
        assert state(busy, 5) == "run"
        await pilot.resize_terminal(*size)
        await until(pilot, blind)
        await pilot.press("q")
    assert not app.is_running
