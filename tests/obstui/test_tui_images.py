"""Pictures as cells and as pixels: what reaches the terminal shows what is in the file."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

import obstui
from obstui.config import Paths
from obstui.tui import images, pixels
from obstui.tui.difference import FULL, distance, heat
from obstui.tui.images import Unreadable, Wanted
from obstui.tui.pixels import Box
from tests.obstui import tui_pictures, tui_store
from tests.obstui.fake_terminal import FOOT, KITTY, FakeTerminal

ROOMY = Box(40, 20, (10, 20), 1 << 24)


@pytest.fixture
def picture(tmp_path: Path) -> Image.Image:
    path = tmp_path / "p.png"
    tui_pictures.painting(path, 3, "a fox")
    return images.read(str(path))


def alike(a: Image.Image, b: Image.Image) -> float:
    """The mean difference of a channel, of 255."""
    return float(sum(ImageStat.Stat(ImageChops.difference(a, b.resize(a.size))).mean) / 3)


# -- kitty -----------------------------------------------------------------------------------


def kitty_png(data: str) -> tuple[dict[str, str], Image.Image]:
    """The first command's keys, and the picture that all commands together carry."""
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", data)
    keys = dict(pair.split("=") for pair in commands[0][0].split(","))
    more = [dict(p.split("=") for p in head.split(","))["m"] for head, _ in commands]
    assert more == ["1"] * (len(commands) - 1) + ["0"]
    assert all(len(part) <= 4096 for _, part in commands)
    sent = base64.b64decode("".join(part for _, part in commands))
    return keys, Image.open(io.BytesIO(sent)).convert("RGB")


@pytest.mark.parametrize("truecolor", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_kittys_placeholders_name_the_picture_that_was_sent(
    picture: Image.Image, truecolor: bool, second: bool
) -> None:
    made = pixels.kitty(picture, ROOMY, second=second, truecolor=truecolor, tmux=False)
    keys, sent = kitty_png(made.data)
    assert alike(picture, sent) < 2
    assert (keys["a"], keys["U"], keys["f"], keys["q"]) == ("T", "1", "100", "2")
    assert (int(keys["c"]), int(keys["r"])) == (made.width, made.height) == (40, 20)
    assert len(made.strips) == made.height
    first = made.strips[0]._segments[0]
    assert first.text.startswith("\U0010eeee\u0305\u0305\U0010eeee")
    assert made.strips[2]._segments[0].text.startswith("\U0010eeee\u030e\u0305\U0010eeee")
    assert first.text.count("\U0010eeee") == first.cell_length == 40
    assert first.style is not None
    assert first.style.color is not None
    shown = first.style.render("x").split("m")[0]
    rgb = first.style.color.triplet
    assert rgb is not None, shown
    number = int(keys["i"])
    if truecolor:
        assert number == rgb.red << 16 | rgb.green << 8 | rgb.blue
    else:
        from rich.color import ColorSystem

        assert number == first.style.color.downgrade(ColorSystem.EIGHT_BIT).number
    assert f"i={number}" in made.remove


def test_two_pictures_in_turn_have_two_numbers(picture: Image.Image) -> None:
    for truecolor in (True, False):
        numbers = {
            kitty_png(pixels.kitty(picture, ROOMY, second=s, truecolor=truecolor, tmux=False).data)[
                0
            ]["i"]
            for s in (True, False)
        }
        assert len(numbers) == 2


def test_tmux_hands_kittys_commands_on(picture: Image.Image) -> None:
    made = pixels.kitty(picture, ROOMY, second=False, truecolor=True, tmux=True)
    wrapped = re.findall(r"\x1bPtmux;((?:\x1b\x1b|[^\x1b])*)\x1b\\", made.data + made.remove)
    inner = [command.replace("\x1b\x1b", "\x1b") for command in wrapped]
    assert "".join(f"\x1bPtmux;{w}\x1b\\" for w in wrapped) == made.data + made.remove
    assert alike(picture, kitty_png("".join(inner[:-1]))[1]) < 2


def test_the_marks_of_the_protocol() -> None:
    marks = pixels.diacritics()
    assert len(marks) == len(set(marks)) >= 128
    assert [ord(marks[i]) for i in (0, 1, 10, 29, 60, 100)] == [
        0x305, 0x30D, 0x34B, 0x36F, 0x616, 0x7EB,
    ]  # fmt: skip


# -- sixel -----------------------------------------------------------------------------------


def sixel_picture(data: str) -> Image.Image:
    """A sixel picture as a terminal draws it."""
    match = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', data, re.DOTALL)
    assert match
    width, height = int(match[1]), int(match[2])
    drawn = Image.new("RGB", (width, height), (255, 0, 255))
    palette: dict[int, tuple[int, int, int]] = {}
    x = top = colour = 0
    for token in re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([?-~])|([$-])", match[3]):
        if token[1]:
            colour = int(token[1])
            if token[2]:
                r, g, b = (round(int(token[i]) * 255 / 100) for i in (2, 3, 4))
                palette[colour] = (r, g, b)
        elif token[8]:
            x, top = 0, top + (6 if token[8] == "-" else 0)
        else:
            count, char = (int(token[5]), token[6]) if token[5] else (1, token[7])
            for bit in range(6):
                if (ord(char) - 63) >> bit & 1:
                    drawn.paste(palette[colour], (x, top + bit, x + count, top + bit + 1))
            x += count
    return drawn


def test_sixels_show_the_picture_and_never_scroll(picture: Image.Image) -> None:
    made = pixels.sixel(picture, Box(20, 7, (7, 15), 1 << 24))
    drawn = sixel_picture(made.data)
    assert alike(drawn, picture) < 12, "256 dithered colours"
    assert drawn.height % 6 == 0
    assert drawn.height <= made.height * 15 <= 7 * 15
    assert drawn.width == made.width * 7
    assert all(strip.text.isspace() for strip in made.strips)
    assert made.over


@pytest.mark.parametrize("limit", [200_000, 40_000, 8_000])
def test_a_picture_stays_within_the_limit(limit: int) -> None:
    noise = Image.effect_noise((512, 512), 90).convert("RGB")
    box = Box(78, 20, (10, 20), limit)
    assert len(pixels.sixel(noise, box).data) <= limit
    data = pixels.kitty(noise, box, second=False, truecolor=True, tmux=False).data
    assert len(data) <= limit * 1.05 + 200, "the commands around the chunks"
    assert kitty_png(data)[0]["c"] == "40", "the terminal enlarges it again"


# -- files and differences -------------------------------------------------------------------


def test_a_file_tells_how_it_was_made(tmp_path: Path) -> None:
    tui_pictures.painting(tmp_path / "a.png", 7, "a fox")
    assert "Steps: 30, Sampler: Euler" in images.settings_of(str(tmp_path / "a.png"))
    assert images.settings_of(str(tmp_path / "a.thumb.png")) == ""
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    with pytest.raises(Unreadable, match="unreadable picture"):
        images.read(str(tmp_path / "half.png"))
    with pytest.raises(Unreadable, match="no picture here"):
        images.render(Wanted(str(tmp_path / "none.png"), "", 9, 9, "half"))


def test_only_the_format_that_we_write_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "fax.png", "TIFF")
    with pytest.raises(Unreadable, match="unreadable picture"):
        images.read(str(tmp_path / "fax.png"))


def test_a_picture_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    wanted = Wanted(str(path), "", 8, 4, "half")
    shown = []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (16, 16), colour).save(path)
        os.utime(path, ns=(number, number))
        shown.append(images.render(wanted))
    assert shown[0] != shown[1]


def test_the_heat_map_tells_where_and_how_much() -> None:
    a = Image.new("RGB", (20, 10), (100, 100, 100))
    b = a.copy()
    b.paste((100, 100 + FULL, 100), (10, 0, 20, 10))
    drawn = heat(a, b)
    assert drawn.getpixel((3, 3)) == (0, 34, 78)
    assert drawn.getpixel((15, 3)) == (254, 232, 56)
    little = a.copy()
    little.paste((100, 100, 100 + FULL // 64), (0, 0, 20, 10))
    assert heat(a, little).getpixel((3, 3)) == (23, 56, 112), "an eighth of the way"
    found = distance(a, b)
    assert found.changed == 0.5
    assert found.mean == pytest.approx(FULL / 6)
    assert found.psnr == pytest.approx(13.77, abs=0.01)
    assert distance(a, a).psnr == float("inf")
    assert heat(a, b.resize((40, 20))).size == a.size


# -- the whole program on a terminal ---------------------------------------------------------

SCRIPT = """
import os, select, sys, termios, tty
from pathlib import Path
from obstui.config import Paths
from obstui import tui
home = Path(sys.argv[1])
tui.run(Paths(home, home / "jobs.db"), readonly=True)
tty.setraw(0)
left = b""
while select.select([0], [], [], 0.3)[0]:
    left += os.read(0, 4096)
print("LEFT", left, "END")
"""


class Opened:
    """The dashboard on a fake terminal."""

    def __init__(self, fake: FakeTerminal, home: Path, **env: str) -> None:
        self.fake = fake
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TMUX", "COLORTERM")}
        root = str(Path(obstui.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(home)],
            stdin=fake.slave, stdout=fake.slave, stderr=fake.slave, start_new_session=True,
            env=clean | {"TERM": "xterm-256color", "PYTHONPATH": root} | env,
        )  # fmt: skip

    def until(self, words: bytes, start: int = 0, seconds: float = 60) -> bytes:
        """What was written since `start`, once `words` are in it."""
        end = time.monotonic() + seconds
        while words not in self.fake.seen[start:]:
            assert time.monotonic() < end, self.fake.seen[-2000:]
            time.sleep(0.01)
        return self.fake.seen[start:]

    def press(self, key: bytes, words: bytes) -> bytes:
        start = len(self.fake.seen)
        self.fake.press(key)
        return self.until(words, start)


@pytest.fixture
def opened(paths: Paths) -> Iterator[Callable[..., Opened]]:
    scene = tui_store.Scene(paths.home)
    tui_pictures.generated(scene, ["a fox in the snow"], range(3))
    scene.close()
    made: list[Opened] = []

    def start(answers: dict[bytes, bytes], **env: str) -> Opened:
        made.append(Opened(FakeTerminal(answers, seconds=0.15), paths.home, **env))
        made[-1].until(b"Gallery")
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()
        one.fake.close()


def test_kitty_gets_one_picture_at_a_time_and_none_is_left(
    opened: Callable[..., Opened],
) -> None:
    dashboard = opened(KITTY)
    dashboard.press(b"2", b"1 of 3")
    sent = dashboard.press(b"\r", b"kitty, ")
    keys, _ = kitty_png("".join(re.findall(r"\x1b_Ga=T.*?\x1b\\|\x1b_Gm=.*?\x1b\\", sent.decode())))
    assert f"38;5;{keys['i']}m\U0010eeee\u0305\u0305".encode() in sent
    swapped = dashboard.press(b"l", b"a=d,d=I,i=" + keys["i"].encode())
    assert swapped.count(b"a=T,U=1") == 1
    left = dashboard.press(b"\x1b", b"a=d,d=I,i=")
    assert "\U0010eeee".encode() not in left.split(b"a=d,d=I,i=")[1]
    dashboard.press(b"q", b"LEFT b'' END")


def test_sixels_are_drawn_and_drawn_again_after_being_covered(
    opened: Callable[..., Opened],
) -> None:
    dashboard = opened(FOOT)
    dashboard.press(b"2", b"1 of 3")
    sent = dashboard.press(b"\r", b"\x1b8").decode()
    found = re.search(r"\x1b7\x1b\[(\d+);(\d+)H(\x1bP0;1;0q.*?\x1b\\)\x1b8", sent, re.DOTALL)
    assert found
    drawn = sixel_picture(found[3])
    assert int(found[1]) + drawn.height // 18 < 24, "the last line would scroll"
    dashboard.press(b"?", b"Image mode")
    dashboard.press(b"\x1b", b"\x1bP0;1;0q")
    without = dashboard.press(b"i", b"half-blocks")
    assert b"\x1bP0;1;0q" not in without
    assert "▀".encode() in without


def test_the_person_decides(opened: Callable[..., Opened], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('images = "ascii"\n')
    dashboard = opened(KITTY, OBSTUI_CONFIG=str(tmp_path / "config.toml"))
    assert b"\x1b_G" not in dashboard.fake.seen, "what does not matter is not asked"
    dashboard.press(b"2", b"1 of 3")
    assert b"letters, " in dashboard.press(b"\r", b"letters, ")


# -- inside a real tmux ----------------------------------------------------------------------


class Tmux:
    """A tmux server of its own, attached to a fake terminal."""

    def __init__(self, folder: Path, answers: dict[bytes, bytes]) -> None:
        self._socket = str(folder / "tmux")
        self.fake = FakeTerminal(answers)
        env = {k: v for k, v in os.environ.items() if k not in ("TMUX", "NO_COLOR", "COLORTERM")}
        root = str(Path(obstui.__file__).parents[1])
        self._env = env | {"TERM": "xterm-256color", "PYTHONPATH": root, "LC_ALL": "C.UTF-8"}
        self._client = subprocess.Popen(
            ["tmux", "-S", self._socket, "-u", "-f", "/dev/null", "new-session", "-x", "80",
             "-y", "24", "sh"],
            stdin=self.fake.slave, stdout=self.fake.slave, stderr=self.fake.slave,
            env=self._env, start_new_session=True,
        )  # fmt: skip
        self.wait(lambda: self("list-clients"))

    def __call__(self, *command: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *command], capture_output=True, text=True, env=self._env
        )
        return done.stdout

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self("capture-pane", "-p")
            time.sleep(0.02)

    def type(self, line: str) -> None:
        self("send-keys", line, "Enter")

    def close(self) -> None:
        self("kill-server")
        self._client.wait()
        self.fake.close()


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Callable[[dict[bytes, bytes]], Tmux]]:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux here")
    made: list[Tmux] = []

    def start(answers: dict[bytes, bytes]) -> Tmux:
        made.append(Tmux(tmp_path, answers))
        return made[-1]

    yield start
    for one in made:
        one.close()


ASK = "from obstui.tui.images import ask_terminal as a; print('MODE', a('auto', '256').modes[0])"


def test_tmux_shows_half_blocks_unless_it_lets_pixels_through(
    tmux: Callable[[dict[bytes, bytes]], Tmux],
) -> None:
    inside = tmux(KITTY)
    inside.wait(lambda: "kitty" in inside("display-message", "-p", "#{client_termtype}"))
    inside.type(f'clear; {sys.executable} -c "{ASK}"')
    inside.wait(lambda: "MODE half" in inside("capture-pane", "-p"))
    inside("set-option", "-g", "allow-passthrough", "on")
    inside.type(f'clear; {sys.executable} -c "{ASK}"')
    inside.wait(lambda: "MODE kitty" in inside("capture-pane", "-p"))


def test_the_dashboard_inside_tmux(
    tmux: Callable[[dict[bytes, bytes]], Tmux], paths: Paths, tmp_path: Path
) -> None:
    scene = tui_store.Scene(paths.home)
    tui_pictures.generated(scene, ["a fox in the snow"], range(3))
    scene.close()
    (tmp_path / "run.py").write_text(SCRIPT)
    inside = tmux(KITTY)
    inside.wait(lambda: "kitty" in inside("display-message", "-p", "#{client_termtype}"))
    inside("set-option", "-g", "allow-passthrough", "on")
    inside.type(f"{sys.executable} {tmp_path / 'run.py'} {paths.home}")
    inside.wait(lambda: "2 Gallery" in inside("capture-pane", "-p"))
    inside("send-keys", "2")
    inside.wait(lambda: inside("capture-pane", "-p").count("▀") > 100)
    inside("send-keys", "Enter")
    inside.wait(lambda: "kitty, " in inside("capture-pane", "-p"))
    sent = inside.fake.seen.decode("utf-8", "replace")
    keys, _ = kitty_png("".join(re.findall(r"\x1b_Ga=T.*?\x1b\\|\x1b_Gm=.*?\x1b\\", sent)))
    assert f"38;5;{keys['i']}m" in sent, "the colour that tells the number comes through"
    assert "\U0010eeee\u0305\u0305" in sent
    inside("send-keys", "i")
    inside.wait(lambda: "half-blocks, " in inside("capture-pane", "-p"))
    inside("send-keys", "q")
    inside.wait(lambda: "LEFT b'' END" in inside("capture-pane", "-p"))
