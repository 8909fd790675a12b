"""Time windows on the wall clock: across midnight, and where the clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obstui.options import duration, seconds
from obstui.windows import is_open, opens_at, parse_window

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("now", "shown", "opens"),
    [
        ("2026-01-10 22:59", False, "2026-01-10 23:00"),
        ("2026-01-10 23:00", True, None),
        ("2026-01-11 03:00", True, None),
        ("2026-01-11 06:59", True, None),
        ("2026-01-11 07:00", False, "2026-01-11 23:00"),
        # The clocks go forward (02:00 is 03:00) and back (03:00 is 02:00) in the night.
        ("2026-03-29 03:00", True, None),
        ("2026-03-29 07:00", False, "2026-03-29 23:00"),
        ("2026-10-25 06:59", True, None),
        ("2026-10-24 12:00", False, "2026-10-24 23:00"),
    ],
)
def test_across_midnight(now: str, shown: bool, opens: str | None) -> None:
    window = parse_window("23:00-07:00 Europe/Berlin")
    assert is_open(window, at(now)) is shown
    assert opens_at(window, at(now)) == at(opens or now)


def test_the_hour_that_the_clocks_skip() -> None:
    inside = parse_window("02:15-02:45 Europe/Berlin")
    assert opens_at(inside, at("2026-03-28 12:00")) == at("2026-03-30 02:15")
    reaching_out = parse_window("02:30-06:00 Europe/Berlin")
    assert opens_at(reaching_out, at("2026-03-28 12:00")) == at("2026-03-29 03:00")


def test_the_hour_that_the_clocks_repeat() -> None:
    window = parse_window("02:15-02:45 Europe/Berlin")
    first, second = at("2026-10-25 02:30"), at("2026-10-25 02:30", fold=1)
    assert second - first == 3600
    assert is_open(window, first)
    assert not is_open(window, first + 1800)
    assert is_open(window, second)
    assert opens_at(window, first + 1800) == second - 900


@given(
    st.integers(0, 1439), st.integers(0, 1439), st.floats(1.7e9, 1.9e9),
    st.sampled_from(["", " Europe/Berlin", " Asia/Kolkata", " Australia/Lord_Howe"]),
)  # fmt: skip
def test_it_opens_when_it_says(start: int, end: int, now: float, zone: str) -> None:
    if start == end:
        return
    window = parse_window(f"{start // 60}:{start % 60:02d}-{end // 60}:{end % 60:02d}{zone}")
    assert parse_window(window) == window
    opens = opens_at(window, now)
    assert opens >= now
    assert is_open(window, opens)
    if opens > now:
        assert not is_open(window, opens - 60)


@pytest.mark.parametrize(
    "text", ["", "23-7", "23:00", "25:00-7:00", "7:00-7:00", "7:60-8:00", "23:00-07:00 Mars/Crater",
             "23:00-07:00 ../../etc/passwd", "23:00-07:00 /etc/localtime", "\x1b[31m", "1:00-2:00\n"
             "3:00-4:00", "24:01-25:00"],
)  # fmt: skip
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError):
        parse_window(text)


def test_lengths_of_time() -> None:
    assert [seconds(t) for t in ("8h", "90m", "1h30m", "45 s", "2d", "60s")] == [
        28800, 5400, 5400, 45, 172800, 60,
    ]  # fmt: skip
    for value in (1.0, 5400.0, 90061.0):
        assert seconds(duration(value)) == value
    for bad in ("", "8", "h", "-1h", True, float("nan"), float("inf"), 0, 1e12, "9" * 400 + "h"):
        with pytest.raises(ValueError):
            seconds(bad)
