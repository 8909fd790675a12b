"""The filter that people type, the orders they ask for, and moving jobs about in the queue."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from obstui.config import Paths
from obstui.specs import parse as spec
from obstui.store import LIVE, STATES, TERMINAL, WAITING, Reader, Refused, Store
from obstui.store.errors import BadFilter
from obstui.store.search import SORTS, Listing, parse
from obstui.store.tables import jobs
from obstui.tui import acts
from tests.obstui import tui_store
from tests.obstui.test_cli import Run, obstui

__all__ = ["obstui"]


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Jobs 1-8 of the busy evening: 1 and 2 succeeded, 3 failed, 4 cancelled, 5 runs, 6 and 7 are
    queued, 8 is held."""
    scene = tui_store.busy(tmp_path_factory.mktemp("evening"))
    reader = Reader.open(scene.paths, clock=lambda: tui_store.NOW)
    yield reader
    reader.close()
    scene.close()


def ids(reader: Reader, text: str) -> list[int]:
    found = reader.find(Listing(parse(text), "id"))
    assert found.total == len(found.jobs)
    return [job.id for job in found.jobs]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("   ", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("state:failed", [3]),
        ("STATUS=Failed", [3]),
        ("state:fail,held", [3, 8]),
        ("state:finished", [1, 2, 3, 4]),
        ("state:live", [5]),
        ("-state:finished -state:live", [6, 7, 8]),
        ("kind:prune", [1, 5]),
        ("kind:prune,comp", [1, 2, 5, 6]),
        ("kind:prune model:demo", [1]),
        ("model:xl-base", [5, 6]),
        ("sparsity>0.3", [1, 2]),
        ("sparsity>=30%", [1, 2, 5, 6]),
        ("sparsity:20%", [5, 6]),
        ("sparsity<0.15 kind:compare", [2]),
        ("priority>=1", [6]),
        ("priority>-1 priority:0", [1, 2, 3, 4, 5, 7, 8]),
        ("id:3,5,7", [3, 5, 7]),
        ("id>6 id<=7", [7]),
        ("gpu:cuda", []),
        ("gpu:cpu", [1, 2, 3, 5]),
        ("age>1h", [1, 2, 3, 4]),
        ("age<1h30m", None),
        ("took>1m", [1, 5]),
        ("sweep:3", []),
        ("-sweep:3", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("lighthouse", [3]),
        ("FOX", [7]),
        ("-fox", [1, 2, 3, 4, 5, 6, 8]),
        ('"red bicycle"', [4]),
        ('"bicycle red"', []),
        ("bicycle red", [4]),
        ('-"red bicycle" state:cancelled', []),
        ('name:"posters for"', [8]),
        ("9.4 memory", [3]),
        ("12:30", []),
        ("%", [5]),
        ("_", [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_a_filter_finds(evening: Reader, text: str, found: list[int] | None) -> None:
    if found is None:
        with pytest.raises(BadFilter):
            parse(text)
    elif text == "_":
        assert ids(evening, "name:_") == [], "no wild card"
    else:
        assert ids(evening, text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour:red", "There is no field colour: use state, kind"),
        ("state:", "state wants a value, such as state:failed"),
        ("state:flying", "There is no state flying: use held, queued"),
        ("state>failed", "state is not a number"),
        ("sparsity>much", "much is no number: write sparsity>0.2"),
        ("sparsity>0.1,0.2", "wants one value"),
        ("age<soon", "soon is no length of time: write age<1d"),
        ("id:1e5", "1e5 is no number"),
        ("id:nan", "nan is no number"),
        ("id:99999999999999999999", "is no number"),
        ("priority:--1", "--1 is no number"),
        ('"red bicycle', "A quote is not closed"),
        ('"red"bicycle', "Leave a space after a closing quote"),
        ("-", "- wants a value"),
        ("id:,", "id wants one value"),
        (" ".join("ab" for _ in range(41)), "at most 40 words"),
        ("x" * 10_000_000, "at most 1,000 characters"),
    ],
)
def test_what_is_no_filter_is_told_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(BadFilter) as told:
        parse(text)
    assert says in str(told.value)
    assert len(str(told.value)) < 200
    assert str(told.value).endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        "'); DROP TABLE job; --",
        "name:'; DELETE FROM job; --",
        "1=1 OR 1=1",
        "name:x' OR '1'='1",
        "%_%[a-z]*?",
        "\x00",
        "\x1b[31m",
        "\ud800",
        "état 图像 🦊",
        "x" * 999,
        ("a" * 24 + " ") * 40,
        "-" * 30,
        "'",
        "\\",
        "$.model",
        "{}[]",
    ],
)
def test_hostile_words_are_words(evening: Reader, text: str) -> None:
    try:
        terms = parse(text)
    except BadFilter:
        return
    assert evening.find(Listing(terms)).total in (0, 8)
    assert evening.counts()["succeeded"] == 2, "the table is still there"


def test_any_rubbish_is_a_filter_or_a_sentence(evening: Reader) -> None:
    rng = random.Random(7)
    pieces = [*"-:<>=\"',.%() ", "state", "kind", "sparsity", "age", "0.2", "1d", "failed", "é"]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        with contextlib.suppress(BadFilter):
            evening.find(Listing(parse(text)))


def test_non_ascii_prompts_are_found(paths: Paths) -> None:
    with Store.open(paths) as store:
        store.enqueue(spec({"kind": "generate", "prompts": ["ein Fuchs im Märzschnee"]}))
    with Reader.open(paths) as reader:
        assert ids(reader, "märzschnee") == ids(reader, "fuchs") == [1]


# -- orders and stretches --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """10,000 jobs: the last tenth queued, the others over."""
    home: Path = tmp_path_factory.mktemp("many")
    paths = Paths(home, home / "jobs.db")
    fill(paths, 10_000)
    reader = Reader.open(paths)
    yield reader
    reader.close()


def fill(paths: Paths, count: int) -> None:
    with Store.open(paths.ensure()) as store:
        store.enqueue(spec({"kind": "generate", "name": "job 1", "prompts": ["a fox"]}))
        with store._write() as conn:
            first = dict(conn.execute(select(jobs)).one()._mapping)
            del first["id"]
            rows = []
            for number in range(2, count + 1):
                row = {**first, "ulid": f"{number:026d}", "name": f"job {number}"}
                if number <= count * 0.9:
                    row["state"] = ("succeeded", "failed", "cancelled")[number % 3]
                    row["started_at"] = first["created_at"] + number
                    row["finished_at"] = first["created_at"] + number + number % 500
                rows.append(row)
            conn.execute(insert(jobs), rows)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("reverse", [False, True])
def test_stretches_lie_end_to_end_in_every_order(many: Reader, sort: str, reverse: bool) -> None:
    seen: list[int] = []
    for offset in range(0, 10_000, 1000):
        found = many.find(Listing((), sort, reverse, offset, 1000))
        assert found.total == 10_000
        seen += [job.id for job in found.jobs]
    assert sorted(seen) == list(range(1, 10_001)), "none is missing, none is there twice"


def test_the_stretch_around_a_job_has_it_in_any_order(many: Reader) -> None:
    for sort in SORTS:
        found = many.find(Listing((), sort, around=5000))
        assert 5000 in [job.id for job in found.jobs]
        assert found.listing.around is None
        assert many.find(found.listing).jobs == found.jobs
    gone = many.find(Listing(parse("state:queued"), around=5000, offset=200))
    assert gone.listing.offset == 200, "a job that the filter hides moves nothing"
    assert many.find(Listing(offset=99_999)).listing.offset == 9_500


def test_states_of_ten_thousand_named_jobs_take_one_statement(many: Reader) -> None:
    assert len(many.states(among=range(1, 10_001))) == 10_000
    assert many.states(parse("state:queued"), among=[1, 2, 3]) == {1: "queued"}


def test_queue_order_is_the_order_of_claims(paths: Paths) -> None:
    with Store.open(paths) as store, Reader.open(paths) as reader:
        for _ in range(6):
            store.enqueue(spec({"kind": "generate", "prompts": ["a fox"]}))
        store.set_priority(4, 2)
        store.place(6, before=2)
        store.pause(3)
        listed = [job.id for job in reader.find(Listing()).jobs if job.state == "queued"]
        ahead = [reader.ahead(job_id) for job_id in listed]
        claimed = []
        while (claim := store.claim("w", "cpu")) is not None:
            claimed.append(claim.job_id)
        assert listed == claimed == [4, 1, 6, 2, 5]
        assert ahead == [0, 1, 2, 3, 4]


# -- moving jobs about -----------------------------------------------------------------------------


def waiting(reader: Reader) -> list[int]:
    return [job.id for job in reader.find(Listing()).jobs]


def test_shift_moves_among_jobs_that_wait_alike_and_back(paths: Paths) -> None:
    with Store.open(paths) as store, Reader.open(paths) as reader:
        for _ in range(5):
            store.enqueue(spec({"kind": "generate", "prompts": ["a fox"]}))
        store.pause(2)  # held: it lies between 1 and 3, but is shown behind
        assert waiting(reader) == [1, 3, 4, 5, 2]
        assert store.shift(3, -1) == -1, "over the held one, before 1"
        assert waiting(reader) == [3, 1, 4, 5, 2]
        assert store.shift(3, 1) == 1
        assert waiting(reader) == [1, 3, 4, 5, 2]
        assert store.shift(5, -(1 << 40)) == -3
        assert waiting(reader) == [5, 1, 3, 4, 2]
        assert store.shift(5, 3) == 3
        assert waiting(reader) == [1, 3, 4, 5, 2]
        assert store.shift(1, -1) == 0
        assert store.shift(2, 7) == 0
        for _ in range(120):  # halves run out
            store.shift(4, -1)
            store.shift(4, 1)
        assert waiting(reader) == [1, 3, 4, 5, 2]
        claim = store.claim("w", "cpu")
        assert claim is not None
        with pytest.raises(Refused, match="only waiting jobs have a place"):
            store.shift(claim.job_id, 1)


def test_raise_priority_adds(paths: Paths) -> None:
    with Store.open(paths) as store:
        store.enqueue(spec({"kind": "generate", "prompts": ["a fox"]}))
        assert store.raise_priority(1, 2).priority == 2
        assert store.raise_priority(1, -3).priority == -1
        with pytest.raises(Refused):
            store.raise_priority(1, 1 << 70)


def test_the_dashboards_states_are_the_stores() -> None:
    assert (set(acts.WAITING), set(acts.LIVE), set(acts.OVER)) == (
        set(WAITING), set(LIVE), set(TERMINAL),
    )  # fmt: skip
    for act in (acts.PAUSE, acts.RESUME, acts.CANCEL, acts.RETRY, acts.REMOVE):
        assert set(act.states) | set(act.asks) <= set(STATES)


# -- the command line ------------------------------------------------------------------------------


def test_ls_takes_the_same_filter(obstui: Run) -> None:
    obstui("prune", "--sparsity", "0.1,0.3", "--name", "night")
    obstui("generate", "--prompt", "a red fox", "--held")
    obstui("generate", "--prompt", "a harbour")

    def listed(*words: str) -> list[int]:
        return [job["id"] for job in obstui("ls", *words, "--json").data]

    assert listed() == [3, 2, 1]
    assert listed("kind:gen -harbour") == [2]
    assert listed("sparsity>0.2") == [1]
    assert listed("red fox", "--state", "held") == listed("red", "fox") == [2]
    assert listed("state:failed") == []
    assert obstui("ls", "state:failed").err == "No job is like that.\n"
    wrong = obstui("ls", "colour:red")
    assert wrong.code == 2
    assert "There is no field colour" in wrong.err
    assert obstui("ls", "--queue", "red").code == 2
