from __future__ import annotations

import pytest

from obstui.text import label, one_line, plain, short_model


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jx", "x"),
        ("\x1bPq#0;sixel\x1b\\x", "x"),
        ("a\u202eb\u2066c", "abc"),
        ("bell\x07 back\x08space \x7f", "bell backspace "),
        ("zero\u200bwidth", "zerowidth"),
        ("lone \udc80 surrogate", "lone ? surrogate"),
        ("[bold]markup stays text[/]", "[bold]markup stays text[/]"),
        ("tab\tand\nnewline stay", "tab\tand\nnewline stay"),
        ("Grüße 日本語 🎨", "Grüße 日本語 🎨"),
        ("unfinished \x1b[", "unfinished "),
    ],
)
def test_plain(hostile: str, shown: str) -> None:
    assert plain(hostile) == shown


def test_ten_megabytes_on_one_line_are_cut_without_reading_them_all() -> None:
    assert one_line("x" * 10_000_000, limit=20) == "x" * 19 + "…"


def test_one_line() -> None:
    assert one_line("a\n  b\t\tc ") == "a b c"
    assert one_line("short", limit=20) == "short"


def test_label_is_composed() -> None:
    assert label("Cafe\u0301\n") == "Café"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl-base-1.0"),
        ("modelscope:AI-ModelScope/stable-diffusion-xl-base-1.0", "sdxl-base-1.0"),
        ("/models/juggernaut/", "juggernaut"),
        ("12@30", "12@30"),
        ("a/b\x1b[31m", "b"),
    ],
)
def test_a_models_name_says_what_tells_it_apart(source: str, shown: str) -> None:
    assert short_model(source) == shown
