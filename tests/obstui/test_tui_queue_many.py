"""The queue screen with many jobs: filter, order, stretches, marks, undo, places, stops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from textual.events import Key, Paste
from textual.pilot import Pilot

from obstui.config import Paths
from obstui.options import JobOptions, NewJob
from obstui.specs import parse
from obstui.store import Reader, StopView, Store
from obstui.tui import acts
from obstui.tui.app import Dashboard
from obstui.tui.screens.choice import Choice, Selections
from obstui.tui.screens.confirm import Confirm
from obstui.tui.screens.job_acts import _hangs_on
from obstui.tui.screens.queue import QueueScreen
from obstui.tui.widgets.filter_line import FilterLine
from obstui.tui.widgets.job_columns import COLUMNS
from obstui.tui.widgets.job_table import JobTable
from obstui.tui.widgets.still import Still
from tests.obstui import tui_store
from tests.obstui.test_store_search import fill
from tests.obstui.tui_pilot import opened, until


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


def listed(app: Dashboard) -> list[int]:
    return [int(str(row.key.value)) for row in app.screen_stack[0].query_one(JobTable).ordered_rows]


def shown(app: Dashboard, selector: str) -> str:
    return app.screen.query_one(selector, Still).text


def said(app: Dashboard) -> str:
    return " ".join(notice.message for notice in app._notifications)


def states(paths: Paths) -> dict[int, str]:
    with Reader.open(paths) as reader:
        return reader.states()


def stops(paths: Paths) -> list[StopView]:
    with Reader.open(paths) as reader:
        return reader.stops()


def priority(paths: Paths, job_id: int) -> int:
    with Reader.open(paths) as reader:
        job = reader.job(job_id)
    assert job is not None
    return job.priority


async def write(pilot: Pilot[None], text: str) -> None:
    await pilot.press(*("space" if char == " " else char for char in text))


# -- filter ----------------------------------------------------------------------------------------


async def test_a_filter_narrows_as_it_is_typed_and_escape_clears_it(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("slash")
        await write(pilot, "kind:prune -state:run")
        await until(pilot, lambda: listed(app) == [1])
        assert "1 of 8" in shown(app, "#filter-found")
        await pilot.press("enter")
        assert isinstance(app.focused, JobTable)
        assert "1 of 8" in shown(app, "#filter-found"), "the filter stays in force"
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 8)
        assert not app.screen.query_one("#filter").display, "and takes no room without use"


async def test_what_is_wrong_with_a_filter_is_said_and_the_last_one_stays(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("slash")
        await write(pilot, "state:failed")
        await until(pilot, lambda: listed(app) == [3])
        assert app.focused is not None
        app.focused.post_message(Paste(" colour:red"))  # whole: half a word is a filter, too
        await until(pilot, lambda: "no field colour" in shown(app, "#filter-fault"))
        assert listed(app) == [3]
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 8)
        assert not shown(app, "#filter-fault")


async def test_a_filter_that_finds_nothing_says_so(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("slash", *"zebra", "enter")
        await until(pilot, lambda: "No job is like that" in shown(app, "#empty"))
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 8)


async def test_the_selected_job_outlives_half_a_word(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("G")
        table = app.screen.query_one(JobTable)
        await until(pilot, lambda: table.job_id == listed(app)[-1])
        chosen = table.job_id
        await pilot.press("slash", *"zzz")
        await until(pilot, lambda: not listed(app))
        await pilot.press(*["backspace"] * 3)
        await until(pilot, lambda: len(listed(app)) == 8)
        assert table.job_id == chosen


async def test_a_filter_and_marks_that_come_in_one_go(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        for character in "/kind:prune\r*":
            key = {"/": "slash", ":": "colon", "\r": "enter", "*": "asterisk"}.get(character)
            app.post_message(Key(key or character, character))
        await until(pilot, lambda: "marked" in shown(app, "#filter-found"))
        assert app.screen.query_one(FilterLine).text == "kind:prune"
        assert shown(app, "#filter-found").startswith("2 marked")
        assert isinstance(app.focused, JobTable)


async def test_letters_in_the_filter_are_no_keys(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("slash", *"cxqPp", "enter")
        assert isinstance(app.screen, QueueScreen)
        assert states(busy.paths)[5] == "running"


@pytest.mark.parametrize(
    "pasted",
    ["x" * 10_000_000, "q\nx\ny\n", "'; DROP TABLE job; --", "\x1b[A"],
    ids=["10 MB", "keys", "sql", "escape"],
)
async def test_what_is_pasted_is_no_key_and_no_harm(busy: tui_store.Scene, pasted: str) -> None:
    async with opened(busy.paths) as (app, pilot):
        app.screen.post_message(Paste(pasted))
        await pilot.press("slash")
        assert app.focused is not None
        app.focused.post_message(Paste(pasted))
        await pilot.pause()
        assert len(app.screen.query_one(FilterLine).text) <= 1000
        await pilot.press(*"zzz", "enter")
        assert isinstance(app.screen, QueueScreen)
        await until(pilot, lambda: not listed(app) or shown(app, "#filter-fault"))
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 8)


async def test_filter_order_columns_and_job_are_there_the_next_time(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("slash", *"fox,", "backspace", "enter", "s", "S")
        await until(pilot, lambda: listed(app) == [7])
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: listed(app) == [7])
        assert "1 of 8" in shown(app, "#filter-found")
        found = app.snapshot.found
        assert found is not None
        assert (found.listing.sort, found.listing.reverse) == ("id", True)


# -- order, columns, stretches ---------------------------------------------------------------------


async def test_s_goes_through_the_orders_and_S_turns_them_round(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths) as (app, pilot):
        chosen = app.screen.query_one(JobTable).job_id
        await pilot.press("s")
        await until(pilot, lambda: listed(app) == [1, 2, 3, 4, 5, 6, 7, 8])
        await pilot.press("S")
        await until(pilot, lambda: listed(app) == [8, 7, 6, 5, 4, 3, 2, 1])
        assert app.screen.query_one(JobTable).job_id == chosen
        heads = [str(c.label) for c in app.screen.query_one(JobTable).ordered_columns]
        assert heads[0] == "job ↓"
        for _ in range(5):
            await pilot.press("s")
        await until(pilot, lambda: listed(app) == [5, 6, 7, 8, 4, 3, 2, 1])


async def test_a_click_on_a_head_sorts_by_it(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.click(JobTable, offset=(4, 0))
        await until(pilot, lambda: listed(app) == [1, 2, 3, 4, 5, 6, 7, 8])
        await pilot.click(JobTable, offset=(4, 0))
        await until(pilot, lambda: listed(app) == [8, 7, 6, 5, 4, 3, 2, 1])


async def test_columns_are_chosen_and_the_name_keeps_its_room(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, size=(120, 30)) as (app, pilot):
        table = app.screen.query_one(JobTable)
        await pilot.press("o")
        assert isinstance(app.screen, Selections)
        await pilot.press("space", "j", "j", "j", "j", "j", "j", "enter", "escape")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        keys = [str(column.key.value) for column in table.ordered_columns]
        assert "kind" not in keys
        assert "priority" in keys
        widths = {str(c.key.value): c.width for c in table.ordered_columns}
        assert widths["name"] >= 24


async def test_every_column_has_something_to_say(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, size=(420, 50)) as (app, _):
        table = app.screen.query_one(JobTable)
        table.chosen_columns = frozenset(column.key for column in COLUMNS)
        await app.screen.show_newest()  # type: ignore[attr-defined]
        heads = [str(column.key.value) for column in table.ordered_columns]
        said = {head: {table.get_cell(str(n), head).plain for n in range(1, 9)} for head in heads}
        assert {"4.2 M −27.5 %", "SSIM ≤ 0.960"} <= said["result"]
        assert said["priority"] == {"", "1"}
        assert {"demo", "sdxl-base-1.0"} <= said["model"]
        assert said["gpu"] == {"", "cpu"}
        assert {"2 min", "30 s"} <= said["time"]
        assert {"started", "finished", "created", "kind", "sweep"} <= said.keys()


async def test_ten_thousand_jobs_are_read_in_stretches(paths: Paths) -> None:
    fill(paths, 10_000)
    async with opened(paths) as (app, pilot):
        table = app.screen.query_one(JobTable)
        assert table.row_count == 500
        assert "1–500 of 10,000 jobs" in shown(app, "#filter-found")
        order = listed(app)
        await until(pilot, lambda: table.job_id == order[0])
        table.choose(order[470])
        await pilot.press("j")
        await until(pilot, lambda: "251–750" in shown(app, "#filter-found"))
        assert table.job_id == order[471], "the selection stays on its job"
        assert listed(app)[:250] == order[250:]
        await pilot.press("k")
        assert table.job_id == order[470]
        await pilot.press("s")  # by id: another stretch, the same job in it
        await until(pilot, lambda: listed(app) == sorted(listed(app)))
        assert table.job_id == order[470]
        assert order[470] in listed(app)
        await pilot.press("G")
        await until(pilot, lambda: table.job_id == 10_000)
        assert table.row_count == 500
        await pilot.press("g")
        await until(pilot, lambda: table.job_id == 1)
        app.screen_stack[0].choose(5000)  # type: ignore[attr-defined]
        await until(pilot, lambda: table.job_id == 5000)


async def test_the_list_is_found_scrolled_as_it_was_left(paths: Paths) -> None:
    fill(paths, 120)
    async with opened(paths, size=(80, 24)) as (app, pilot):
        table = app.screen.query_one(JobTable)
        await pilot.press(*["down"] * 30)
        table.scroll_to(y=table.scroll_y + 7, animate=False)
        await pilot.pause()
        left_at = table.line, table.job_id, table.scroll_y
        assert 0 < table.line < table.size.height - 3
    async with opened(paths, size=(80, 24)) as (app, pilot):
        table = app.screen.query_one(JobTable)
        await until(pilot, lambda: (table.line, table.job_id, table.scroll_y) == left_at)


async def test_a_scroll_to_the_end_brings_the_next_stretch(paths: Paths) -> None:
    fill(paths, 1200)
    async with opened(paths) as (app, pilot):
        table = app.screen.query_one(JobTable)
        await until(pilot, lambda: table.job_id is not None)
        table.scroll_end(animate=False)
        await until(pilot, lambda: "251–750" in shown(app, "#filter-found"))
        visible = range(round(table.scroll_y), round(table.scroll_y) + table.size.height)
        await until(pilot, lambda: table.cursor_row in visible)
        assert str(table.job_id) in table._rows, "what is selected can be seen"


# -- marks, undo -----------------------------------------------------------------------------------


async def test_marked_jobs_are_done_to_after_one_question_with_their_number(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths, watch=6) as (app, pilot):
        await pilot.press("space", "space")
        assert "2 marked" in shown(app, "#filter-found")
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert isinstance(app.screen, Confirm)
        assert app.screen.question.title == "Cancel 2 jobs?"
        assert app.focused is not None
        assert app.focused.id == "no"
        await pilot.press("y")
        await until(pilot, lambda: states(busy.paths)[6] == states(busy.paths)[7] == "cancelled")
        await until(pilot, lambda: "2 jobs cancelled" in said(app))
        await until(pilot, lambda: "marked" not in shown(app, "#filter-found"))
        await pilot.press("u")
        await until(pilot, lambda: states(busy.paths)[6] == states(busy.paths)[7] == "queued")


async def test_star_marks_all_found_and_what_an_act_does_not_fit_is_left_alone(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("slash", *"kind:generate", "enter")
        await until(pilot, lambda: len(listed(app)) == 4)
        await pilot.press("asterisk")
        await until(pilot, lambda: "4 marked" in shown(app, "#filter-found"))
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert isinstance(app.screen, Confirm)
        assert app.screen.question.title == "Retry 2 jobs?"
        assert "2 of the marked jobs stay as they are" in app.screen.question.consequence
        await pilot.press("n", "escape")
        await until(pilot, lambda: "marked" not in shown(app, "#filter-found"))
        assert len(listed(app)) == 4, "the first Escape forgets the marks, the second the filter"
        await pilot.press("escape")
        await until(pilot, lambda: len(listed(app)) == 8)


async def test_marks_of_jobs_that_an_act_never_fits_are_told(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=1) as (app, pilot):
        await pilot.press("space", "p")
        await until(pilot, lambda: "not for jobs in this state (succeeded)" in said(app))
        assert isinstance(app.screen, QueueScreen)


@pytest.mark.parametrize(
    ("job_id", "key", "after"), [(7, "p", "held"), (8, "p", "queued"), (7, "c", "cancelled")]
)
async def test_what_was_done_is_undone(
    busy: tui_store.Scene, job_id: int, key: str, after: str
) -> None:
    before = states(busy.paths)[job_id]
    async with opened(busy.paths, watch=job_id) as (app, pilot):
        await pilot.press(key)
        await until(pilot, lambda: states(busy.paths)[job_id] == after)
        await until(pilot, lambda: app.undoable)
        await pilot.press("u")
        await until(pilot, lambda: states(busy.paths)[job_id] == before)
        await until(pilot, lambda: f'Taken back: "Job {job_id}' in said(app))
        assert not app.undoable
        await pilot.press("u")
        await until(pilot, lambda: "nothing to take back" in said(app))


async def test_what_was_refused_for_all_is_not_there_to_be_undone(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=7) as (app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: app.undoable)
        gone = {98: "failed", 99: "failed"}  # another dashboard has removed them
        app.screen.change(lambda store: acts.carry_out(acts.RETRY, gone, store))
        await until(pilot, lambda: "refused for all 2 jobs" in said(app))
        assert [outcome.said for outcome in app.undoable] == ["Job 7 held."]


def test_an_unreadable_store_does_not_keep_anybody_from_cancelling(paths: Paths) -> None:
    paths.db.write_bytes(b"no store" * 1000)
    assert _hangs_on(paths, 1) == ""


async def test_what_can_no_longer_be_undone_is_said(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=7) as (app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: app.undoable)
        busy.store.cancel(7)
        await pilot.press("u")
        await until(pilot, lambda: "Cannot be undone any more" in said(app))


# -- priority and place ----------------------------------------------------------------------------


async def test_plus_and_minus_change_the_priority(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=7) as (app, pilot):
        await pilot.press("plus")
        await until(pilot, lambda: priority(busy.paths, 7) == 1)
        await pilot.press("minus")
        await until(pilot, lambda: priority(busy.paths, 7) == 0)
        await until(pilot, lambda: len(app.undoable) == 2)
        await pilot.press("u")
        await until(pilot, lambda: priority(busy.paths, 7) == 1)


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (("J",), [7, 9, 10]),
        ((">",), [7, 9, 10]),
        (("t",), [10, 7, 9]),
        (("K",), [7, 10, 9]),
        (("less_than_sign",), [7, 10, 9]),
    ],
)
async def test_a_waiting_job_is_moved_among_its_priority_and_back(
    busy: tui_store.Scene, keys: tuple[str, ...], order: list[int]
) -> None:
    for words in ("nine", "ten"):
        busy.queue("generate", prompts=[words])
    async with opened(busy.paths, watch=10) as (app, pilot):
        assert listed(app)[:5] == [5, 6, 7, 9, 10]
        await pilot.press(*keys)
        await until(pilot, lambda: said(app))
        await until(pilot, lambda: listed(app)[2:5] == order)
        assert app.screen.query_one(JobTable).job_id == 10
        if app.undoable:
            await pilot.press("u")
            await until(pilot, lambda: listed(app)[2:5] == [7, 9, 10])
        else:
            assert "last of its priority already" in said(app)


# -- remove ----------------------------------------------------------------------------------------


async def test_remove_does_and_says_what_rm_does(busy: tui_store.Scene) -> None:
    with Reader.open(busy.paths) as reader:
        job = reader.job(2)
    assert job is not None
    folder = busy.paths.job(job.ulid)
    assert list(folder.rglob("*.png"))
    async with opened(busy.paths, watch=2) as (app, pilot):
        await pilot.press("x")
        assert isinstance(app.screen, Confirm)
        assert "pictures go from the disk" in app.screen.question.consequence
        await pilot.press("y")
        await until(pilot, lambda: 2 not in states(busy.paths))
        await until(pilot, lambda: not folder.exists())


# -- what holds things up --------------------------------------------------------------------------


async def test_the_queue_is_paused_and_let_go_on(busy: tui_store.Scene) -> None:
    async with opened(busy.paths, watch=7) as (app, pilot):
        await pilot.press("P")
        assert isinstance(app.screen, Choice)
        await pilot.press("j", "enter")
        await until(pilot, lambda: stops(busy.paths))
        assert stops(busy.paths)[0].urgent, "the second choice is: now"
        await until(pilot, lambda: "The queue is paused" in shown(app, "#holds"))
        assert "P lets it go on" in " ".join(shown(app, "#holds").split())
        await pilot.press("P", "enter")
        await until(pilot, lambda: not stops(busy.paths))
        await until(pilot, lambda: not shown(app, "#holds"))
        await pilot.press("P", "enter")
        await until(pilot, lambda: stops(busy.paths))
        assert not stops(busy.paths)[0].urgent
        await until(pilot, lambda: app.undoable)
        await pilot.press("u")
        await until(pilot, lambda: not stops(busy.paths))


async def test_drain_reaches_the_worker(
    busy: tui_store.Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained: list[Paths] = []

    def drain(paths: Paths) -> int:
        drained.append(paths)
        return 1

    monkeypatch.setattr("obstui.worker.launch.drain", drain)  # its worker is this very process
    async with opened(busy.paths) as (app, pilot):
        await pilot.press("P", "end", "enter")
        await until(pilot, lambda: "The worker ends after its job" in said(app))
        assert drained == [busy.paths]


async def test_a_stopped_device_is_told_with_its_reason_and_let_go_on(
    busy: tui_store.Scene,
) -> None:
    busy.store.stop("cuda:0", "3 jobs failed alike: CUDA error")
    async with opened(busy.paths) as (app, pilot):
        assert "cuda:0 is stopped: 3 jobs failed alike: CUDA error" in shown(app, "#holds")
        await pilot.press("P", "enter")
        await until(pilot, lambda: not stops(busy.paths))


async def test_read_only_marks_moves_and_holds_nothing(busy: tui_store.Scene) -> None:
    busy.store.stop("cuda:0", "it failed")
    async with opened(busy.paths, readonly=True, watch=7) as (app, pilot):
        await pilot.press("space", "asterisk", "P", "t", "u", "plus")
        assert isinstance(app.screen, QueueScreen)
        assert "marked" not in shown(app, "#filter-found")
        assert stops(busy.paths)
        assert " P" not in shown(app, "#holds")
        await pilot.press("slash", *"state:failed", "enter")
        await until(pilot, lambda: listed(app) == [3])


# -- the pane --------------------------------------------------------------------------------------


async def test_sweep_needs_window_and_limits_of_a_job_are_told(paths: Paths) -> None:
    fox = parse({"kind": "generate", "prompts": ["a fox"]})
    hours = JobOptions(window="03:00-04:00 UTC", max_runtime="8h", after=("#0",), priority=2)  # type: ignore[arg-type]
    with Store.open(paths, clock=lambda: tui_store.NOW) as store:
        store.enqueue_all([NewJob(fox), NewJob(fox, hours), NewJob(fox)], sweep="night")
        store.cancel(3)
    async with opened(paths, watch=2) as (app, pilot):
        await until(pilot, lambda: "sweep 1 night: 0 of 3 jobs done" in shown(app, "#pane-placed"))
        words = shown(app, "#pane-placed")
        assert "priority 2" in words
        assert "after job 1" in words
        row = app.screen.query_one(JobTable).get_row("2")
        assert any("starts " in cell.plain for cell in row)
        assert "only 03:00-04:00 UTC" in words
        assert "at most 8 h" in words
        assert "Waits for job 1" in shown(app, "#pane-status")


async def test_an_error_and_notes_are_whole(paths: Paths) -> None:
    scene = tui_store.Scene(paths.home)
    scene.queue("prune", sparsity=(0.3,), num_prompts=4)
    claim = scene.start()
    note = "few samples for a layer: " + "calibrate on more prompts, " * 6 + "END"
    scene.store.append(claim, [("note", {"text": note})])
    error = "The solver broke: " + "a long story, " * 20 + "FIN."
    scene.finish(claim, "failed", reason="exit_code", error=error)
    async with opened(paths, size=(60, 20), watch=1) as (app, pilot):
        await until(pilot, lambda: "END" in shown(app, "#pane-notes"))
        assert "FIN." in shown(app, "#pane-status")
        status = app.screen.query_one("#pane-status")
        pane = app.screen.query_one("#detail")
        assert status.region.bottom <= pane.region.bottom, "not one line of the error is cut"
    scene.close()


async def test_a_key_that_does_not_fit_the_job_says_so(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        table = app.screen.query_one(JobTable)
        await until(pilot, lambda: 6 in listed(app))
        table.choose(3)
        await until(pilot, lambda: table.job_id == 3 and app.up_to_date)
        await pilot.press("p")
        await until(pilot, lambda: "Pause/resume: not for a job that has failed." in said(app))
        await pilot.press("r")
        await until(pilot, lambda: states(busy.paths)[3] == "queued")
        assert "Retry: not for" not in said(app)


async def test_a_dashboard_that_only_looks_says_so_to_a_key_that_would_write(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths, readonly=True) as (app, pilot):
        await until(pilot, lambda: bool(listed(app)))
        await pilot.press("x")
        await until(pilot, lambda: "This dashboard is read-only." in said(app))


async def test_marks_and_moves_that_come_in_one_go(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: len(listed(app)) == 8)
        await pilot.press("g")
        order = listed(app)
        table = app.screen.query_one(JobTable)
        await until(pilot, lambda: table.job_id == order[0])
        for key in ("space", "down", "down", "space", "j", "space"):
            app.post_message(Key(key, None))
        await until(pilot, lambda: shown(app, "#filter-found").startswith("3 marked"))
        assert set(table.marks) == {order[0], order[3], order[5]}


async def test_the_ends_of_the_list_have_their_keys(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: len(listed(app)) == 8)
        order, table = listed(app), app.screen.query_one(JobTable)
        for key, place in (("end", -1), ("up", -2), ("home", 0), ("down", 1), ("pagedown", -1),
                           ("pageup", 0), ("G", -1), ("g", 0)):  # fmt: skip
            await pilot.press(key)
            await until(pilot, lambda: table.job_id == order[place])  # noqa: B023


async def test_rows_that_come_right_behind_a_move_leave_the_cursor_where_it_went(
    busy: tui_store.Scene,
) -> None:
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: len(listed(app)) == 8)
        table = app.screen.query_one(JobTable)
        order = listed(app)
        table.choose(order[1])
        table.action_cursor_down()
        table.show(app.snapshot, 0.0)
        assert (table.job_id, table.cursor_row) == (order[2], 2)


async def test_jobs_that_have_not_changed_are_in_memory_once(busy: tui_store.Scene) -> None:
    async with opened(busy.paths) as (app, pilot):
        await until(pilot, lambda: len(listed(app)) == 8)
        before = {job.id: job for job in app.snapshot.jobs}
        with Store.open(busy.paths) as store:
            store.set_priority(8, 7)
        await until(pilot, lambda: priority_shown(app, 8) == 7)
        now = {job.id: job for job in app.snapshot.jobs}
        assert {job for job in now if now[job] is not before[job]} == {8}
        assert app.snapshot.found is not None
        assert all(job is now[job.id] for job in app.snapshot.found.jobs)


def priority_shown(app: Dashboard, job_id: int) -> int:
    return next(job.priority for job in app.snapshot.jobs if job.id == job_id)
