"""What terminals are asked, what they answer, and which way of showing pictures follows."""

from __future__ import annotations

import os
import time

import pytest

from obstui.tui.images import Display, choose_mode, display
from obstui.tui.probe import Terminal, _inside_tmux, probe
from tests.obstui import fake_terminal
from tests.obstui.fake_terminal import FOOT, KITTY, KONSOLE, SILENT, WEZTERM, XTERM, terminal

PLAIN = {"TERM": "xterm-256color"}


@pytest.mark.parametrize("seconds", [0.0, 0.08, 0.15, 0.5])
@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (KITTY, Terminal(kitty=True, cell=(10, 20))),
        (FOOT, Terminal(sixel=True, cell=(9, 18))),
        (XTERM, Terminal()),
    ],
    ids=["kitty", "foot", "xterm"],
)
def test_the_answers_are_heard_however_long_the_line(
    answers: dict[bytes, bytes], found: Terminal, seconds: float
) -> None:
    with terminal(answers, seconds=seconds) as fake:
        began = time.monotonic()
        assert probe(fake.slave, env=PLAIN) == found
        assert time.monotonic() - began >= seconds
        assert fake.idle
        assert fake.waiting() == b"", "what is left over would be taken for keys"


def test_a_silent_terminal_costs_the_cap_and_gets_no_pixels() -> None:
    with terminal(SILENT) as fake:
        began = time.monotonic()
        assert probe(fake.slave, env=PLAIN, cap=0.3) == Terminal()
        assert 0.3 <= time.monotonic() - began < 2


def test_answers_in_pieces_and_keys_between_them() -> None:
    with terminal({b"\x1b[c": b"\x1b[?62;"}) as fake:
        fake._answers |= {b"\x1b[16t": b"q\x1b[6;20;10t"}
        fake._due.append((time.monotonic() + 0.1, b"4;22c"))
        assert probe(fake.slave, env=PLAIN) == Terminal(sixel=True, cell=(10, 20))


def test_pixels_that_the_kernel_knows_are_believed_first() -> None:
    with terminal(FOOT, pixels=(640, 384)) as fake:
        assert probe(fake.slave, env=PLAIN).cell == (8, 16)


def test_what_speaks_kitty_but_knows_no_placeholders() -> None:
    with terminal(WEZTERM) as fake:
        assert probe(fake.slave, env=PLAIN) == Terminal(sixel=True, cell=(10, 20))
    with terminal(KONSOLE) as fake:
        assert probe(fake.slave, env=PLAIN) == Terminal(cell=(10, 20))


def test_the_questions_go_out_at_once_the_last_one_ends_the_wait() -> None:
    with terminal(KITTY) as fake:
        probe(fake.slave, env=PLAIN)
        assert fake.seen.endswith(b"\x1b[c")
        assert fake.seen.count(b"\x1b[c") == 1


@pytest.mark.parametrize("env", [{}, {"TERM": "dumb"}, {"TERM": "linux"}])
def test_terminals_that_cannot_answer_are_not_asked(env: dict[str, str]) -> None:
    with terminal(KITTY) as fake:
        assert probe(fake.slave, env=env) == Terminal()
        assert fake.seen == b""


def test_what_is_no_terminal_is_not_asked() -> None:
    read, write = os.pipe()
    try:
        assert probe(write, env=PLAIN) == Terminal()
    finally:
        os.close(read)
        os.close(write)


def test_a_terminal_that_hangs_up_meanwhile() -> None:
    fake = fake_terminal.FakeTerminal(SILENT)
    fake._stopped = True
    fake._thread.join()
    os.close(fake.master)
    assert probe(fake.slave, env=PLAIN, cap=0.2) == Terminal()
    os.close(fake.slave)


@pytest.mark.parametrize(
    ("reply", "facts", "found"),
    [
        (b"\x1b[?1;2c", "xterm-kitty(0.42)\t10\t20\t1", Terminal(tmux=True, cell=(10, 20))),
        (b"\x1b[?1;2c", "kitty(0.42.1)\t10\t20\t0", Terminal(tmux=True, cell=(10, 20))),
        (b"\x1b[?1;2c", "kitty(0.42.1)\t\t\ton", Terminal(tmux=True, kitty=True)),
        (b"\x1b[?1;2c", "ghostty 1.1\t\t\tall", Terminal(tmux=True, kitty=True)),
        (b"\x1b[?1;2;4c", "foot(1.21.0)\t9\t18\t0", Terminal(tmux=True, cell=(9, 18), sixel=True)),
        (b"\x1b[?1;2;4c", "", Terminal(tmux=True, sixel=True)),
    ],
)  # fmt: skip
def test_inside_tmux_its_own_terminal_counts(reply: bytes, facts: str, found: Terminal) -> None:
    assert _inside_tmux(reply, facts) == found


BOTH = Terminal(sixel=True, kitty=True, cell=(10, 20))


@pytest.mark.parametrize(
    ("wanted", "terminal", "colours", "mode"),
    [
        ("auto", Terminal(), "truecolor", "half"),
        ("auto", Terminal(), "256", "half"),
        ("auto", Terminal(), "standard", "half"),
        ("auto", BOTH, "standard", "half"),
        ("auto", BOTH, None, "ascii"),
        ("auto", BOTH, "truecolor", "sixel"),
        ("auto", Terminal(kitty=True), "256", "kitty"),
        ("auto", Terminal(sixel=True, cell=(10, 20)), "256", "sixel"),
        ("auto", Terminal(sixel=True), "truecolor", "half"),
        ("half", BOTH, "truecolor", "half"),
        ("off", BOTH, "truecolor", "off"),
        ("kitty", Terminal(), None, "kitty"),
    ],
)  # fmt: skip
def test_the_mode_that_follows(
    wanted: str, terminal: Terminal, colours: str | None, mode: str
) -> None:
    assert choose_mode(wanted, terminal, colours) == mode
    shown = display(wanted, terminal, colours)
    assert shown.modes[0] == mode
    assert {"half", "ascii", "off"} <= set(shown.modes)


def test_the_key_goes_through_all_that_the_terminal_can() -> None:
    assert display("half", BOTH, "256").modes == ("half", "ascii", "off", "kitty", "sixel")
    assert display("auto", Terminal(), "256").modes == ("half", "ascii", "off")
    assert display("sixel", Terminal(), "256").modes == ("sixel", "half", "ascii", "off")


def test_several_pictures_are_never_in_pixels() -> None:
    assert [Display(modes=(mode, "half")).grid for mode in ("kitty", "sixel", "ascii", "off")] == [
        "half", "half", "ascii", "off",
    ]  # fmt: skip
