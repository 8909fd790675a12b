"""The time left is said only as far as it is known."""

from __future__ import annotations

import pytest

from obstui.estimate import PhaseRun, fraction_done, parted, remaining, typical, unit_seconds
from obstui.tui import formats


def progress(done: int, total: int, **more: object) -> dict[str, object]:
    return {"phase": "solve", "done": done, "total": total, "phase_started_at": 1000.0,
            "following": [], **more}  # fmt: skip


def test_nothing_is_claimed_before_a_rate_is_known() -> None:
    assert remaining(None, 1000).seconds is None
    assert remaining(progress(0, 100), 1060).seconds is None
    assert remaining(progress(1, 100), 1060).seconds is None, "one unit holds the warm-up"
    assert remaining(progress(50, 100), 1001).seconds is None, "too early to tell"


def test_the_rate_of_this_phase_tells_what_is_left_of_it() -> None:
    estimate = remaining(progress(20, 100), 1040)
    assert estimate.seconds == pytest.approx(160)
    assert not estimate.at_least


def test_a_comparison_has_one_progress_and_one_pace() -> None:
    """Of four models with ten steps each, two are done and the third is half way."""
    third = progress(5, 10, phase="generate 1@30", passed=20, following=[["generate 2@30", 10]])
    assert fraction_done(third) == 25 / 40
    assert remaining(third, 1010).seconds == pytest.approx(30), "the next model is about as fast"
    assert not remaining(third, 1010).at_least
    assert remaining(third, 1001, history={"generate": 1.0}).seconds == pytest.approx(15)


def test_phases_that_come_again_later_are_no_part_of_this_one() -> None:
    packages = progress(3, 10, phase="calibrate", following=[["solve", 9], ["calibrate", 10]])
    assert fraction_done(packages) == 0.3
    assert fraction_done({"phase": "load"}) is None


def test_units_of_an_earlier_attempt_do_not_count_as_speed() -> None:
    assert remaining(progress(60, 100, resumed_from=40), 1040).seconds == pytest.approx(80)


def test_a_phase_to_come_without_a_price_makes_it_at_least() -> None:
    estimate = remaining(progress(20, 100, following=[["write", 3]]), 1040)
    assert estimate.at_least
    assert estimate.seconds == pytest.approx(160)


def test_history_prices_the_phases_to_come() -> None:
    estimate = remaining(progress(20, 100, following=[["write", 3]]), 1040, history={"write": 10.0})
    assert (estimate.seconds, estimate.at_least) == (pytest.approx(190), False)


def test_history_serves_until_this_phase_has_a_rate_and_gives_up_when_it_is_wrong() -> None:
    assert remaining(progress(0, 10), 1002, history={"solve": 30.0}).seconds == pytest.approx(298)
    assert remaining(progress(0, 10), 1090, history={"solve": 30.0}).seconds is None


def test_a_stalled_phase_never_counts_down() -> None:
    early = remaining(progress(20, 100), 1040).seconds
    late = remaining(progress(20, 100), 1400).seconds
    assert early is not None
    assert late is not None
    assert late > early


def test_history_of_finished_jobs() -> None:
    runs = [PhaseRun("calibrate", 10, 0, 0.0), PhaseRun("solve", 5, 3, 50.0)]
    assert unit_seconds(runs, 58.0) == {"calibrate": 5.0, "solve": 4.0}
    assert typical([{"solve": 4.0}, {"solve": 6.0}, {"solve": 50.0}]) == {"solve": 6.0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4, "10 s"),
        (44, "40 s"),
        (130, "2 min"),
        (3000, "50 min"),
        (7200, "2 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_countdown_is_calm(seconds: float, words: str) -> None:
    assert formats.duration(formats.calm(seconds)) == words


def phase(name: str, total: int, done: int = 0) -> dict[str, object]:
    return {"name": name, "total": total, "done": done}


def test_what_grows_with_the_passes_and_what_does_not() -> None:
    pruned = [
        (2.0, phase("load", 1)),
        (10.0, phase("calibrate", 40, 20)),
        (30.0, phase("solve", 9)),
    ]
    assert parted(pruned, 0.0, 35.0) == (15, 40), "half of the passes were taken over"
    compared = [(0.0, phase("generate dense", 8)), (8.0, phase("generate 1@30", 8))]
    assert parted(compared, 0.0, 14.0) == (0, 14)
    assert parted([(1.0, phase("export", 1))], 0.0, 44.0) == (44, 0), (
        "a price, though nothing grows"
    )
    assert parted([(1.0, phase("calibrate", 40, 40))], 0.0, 9.0) is None, "all was taken over"
