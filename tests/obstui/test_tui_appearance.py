"""Themes, no colours, ASCII, other keys, and what is remembered: for every screen."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from textual.color import Color
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import OptionList, Static
from textual.widgets._footer import FooterKey

from obstui.config import THEMES, BadSettings, Paths, Settings
from obstui.tui import theme
from obstui.tui.app import Dashboard
from obstui.tui.appearance import Appearance, to_ascii
from obstui.tui.keymap import doubled, known_ids, wrong_ids
from obstui.tui.places import PLACES
from obstui.tui.remembered import Remembered
from obstui.tui.screens.keys import KeysScreen, key_lines, key_name
from obstui.tui.snapshot import settled
from obstui.tui.widgets.key_bar import KeyBar
from obstui.tui.widgets.layer_map import AT_WORK, GATHERING, HEIGHTS, WAITING
from tests.obstui import tui_pilot, tui_store
from tests.obstui.cases import first_now

WAYS = {
    **{f"place {place.name}": (place.key,) for place in PLACES},
    "job": ("1", "enter"),
    "form": ("1", "n"),
    "question": ("1", "c"),
    "keys": ("1", "question_mark"),
    "palette": ("1", "colon"),
}
"""How to get to each screen."""

AIRY = {name: keys for name, keys in WAYS.items() if name.startswith("place ") or name == "job"}


@pytest.fixture
def busy(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.busy(paths.home)
    yield scene
    scene.close()


@pytest.fixture(autouse=True)
def dark_again() -> Iterator[None]:
    yield
    theme.use("dark")


async def drawn(pilot: Pilot[None]) -> list[Strip]:
    """What the terminal gets."""
    await pilot.pause()
    return pilot.app.screen._compositor.render_strips()


async def go(app: Dashboard, pilot: Pilot[None], keys: tuple[str, ...]) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(app, pilot)


def contrast(one: str, other: str) -> float:
    """WCAG 2: (lighter + 0.05) / (darker + 0.05)."""

    def light(colour: str) -> float:
        parts = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in Color.parse(colour.split()[-1]).normalized
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_words_can_be_read_in_every_theme(name: str) -> None:
    assert tuple(theme.THEMES) == THEMES
    look, palette = theme.THEMES[name]
    if look.ansi:
        return  # the terminal's own colours
    least = 7.0 if name == "high-contrast" else 4.5
    for entry in ("text", "strong", "muted", "accent", "good", "warn", "bad", "pause"):
        for ground in (look.background, look.surface):
            assert ground is not None
            assert contrast(getattr(palette, entry), ground) >= min(
                least, 4.5 if entry in ("good", "bad") else least
            ), (entry, ground)


async def test_a_theme_is_switched_live_and_worn_again(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        before = await drawn(pilot)
        await pilot.press("T")
        await tui_pilot.until(pilot, lambda: app.theme == "light")
        after = await drawn(pilot)
        assert [strip.text for strip in after[:-5]] == [strip.text for strip in before[:-5]]
        light = {segment.style for strip in after[:-5] for segment in strip}
        assert not light & {segment.style for strip in before for segment in strip if segment.style}
    async with tui_pilot.opened(busy.paths) as (app, _):
        assert app.theme == "light"
    async with tui_pilot.opened(busy.paths, appearance=Appearance(theme="ansi")) as (app, _):
        assert app.theme == "ansi"
    async with tui_pilot.opened(busy.paths, settings=Settings(theme="high-contrast")) as (app, _):
        assert app.theme == "high-contrast", "settings that were changed since count"


@pytest.mark.parametrize("keys", first_now(AIRY.values()), ids=AIRY.keys())
async def test_a_switch_leaves_nothing_of_the_theme_before(
    busy: tui_store.Scene, keys: tuple[str, ...]
) -> None:
    async with tui_pilot.opened(busy.paths, watch=5) as (app, pilot):
        await go(app, pilot, keys)
        await pilot.press("T")
        await tui_pilot.until(pilot, lambda: app.theme == "light")
        app.clear_notifications()
        await settled(app, pilot)
        switched = [list(strip) for strip in await drawn(pilot)]
    light = Appearance(theme="light")
    async with tui_pilot.opened(busy.paths, watch=5, appearance=light) as (app, pilot):
        await go(app, pilot, keys)
        fresh = [list(strip) for strip in await drawn(pilot)]
    for row, (one, other) in enumerate(zip(switched, fresh, strict=True)):
        assert one == other, row


@pytest.mark.parametrize("name", [name for name in THEMES if name != "ansi"])
def test_two_hundred_and_fifty_six_colours_are_enough(name: str) -> None:
    """Words stay readable, and the cursor's row apart, where the nearest of 256 is shown."""

    def nearest(colour: str) -> str:
        parsed = RichColor.parse(colour.split()[-1]).downgrade(ColorSystem.EIGHT_BIT)
        return parsed.get_truecolor().hex

    look, palette = theme.THEMES[name]
    assert look.background is not None
    for entry in ("text", "strong", "muted", "accent", "good", "warn", "bad", "pause"):
        assert contrast(nearest(getattr(palette, entry)), nearest(look.background)) >= 4, entry
    cursor = look.variables["block-cursor-background"]
    assert nearest(cursor) != nearest(look.background)
    assert contrast(nearest(palette.strong), nearest(cursor)) >= 4.5


async def test_the_palette_has_every_action(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths, watch=5) as (app, _):
        named = {command.title for command in app.get_system_commands(app.screen)}
        missing = {
            line.words for line in key_lines(app.screen) if line.enabled and line.words not in named
        }
        assert not missing
        assert {f"Theme: {name}" for name in THEMES} <= named


@pytest.mark.parametrize("keys", first_now(WAYS.values()), ids=WAYS.keys())
async def test_ascii_is_ascii_everywhere(busy: tui_store.Scene, keys: tuple[str, ...]) -> None:
    busy.queue("generate", name="façade «ночь» 夜 ✨", prompts=["x"])
    ascii_only = Appearance(ascii=True)
    async with tui_pilot.opened(busy.paths, watch=5, appearance=ascii_only) as (app, pilot):
        await go(app, pilot, keys)
        for strip in await drawn(pilot):
            assert strip.text.isascii(), strip.text
            assert len(strip.text) == strip.cell_length == 80


async def test_in_ascii_a_key_is_a_word_and_not_another_key(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths, appearance=Appearance(ascii=True)) as (app, _):
        shown = {key.key: key.key_display for key in app.screen.query(FooterKey)}
        assert shown["enter"] == "Enter"
        keys = {line.id: line.keys for line in key_lines(app.screen)}
        assert keys["queue.open"] == ["Enter"]
        signs = [key for names in keys.values() for key in names if not key.isascii()]
        assert not signs
        assert key_name("down", app.appearance) == "Down"


def test_ascii_keeps_the_width() -> None:
    assert to_ascii("é–ß─│╭━●⣿夜") == "e-s-|+=*@??"
    assert to_ascii("🔎") == "/ ", "the sign of the palette"
    assert to_ascii("e\u0301") == "e"


@pytest.mark.parametrize("keys", first_now(WAYS.values()), ids=WAYS.keys())
async def test_no_color_means_none(
    busy: tui_store.Scene, keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with tui_pilot.opened(busy.paths, watch=5) as (app, pilot):
        await go(app, pilot, keys)
        styles = [segment.style for strip in await drawn(pilot) for segment in strip]
        colours = {part for style in styles if style for part in (style.color, style.bgcolor)}
        assert {colour.name for colour in colours if colour} <= {"default"}
        assert any(style and style.reverse for style in styles), "no cursor and no tab to be seen"


@pytest.mark.parametrize("look", [Appearance(theme="ansi"), None], ids=["ansi", "NO_COLOR"])
@pytest.mark.parametrize("key", ["colon", "o"])
async def test_the_marked_option_of_a_list_is_seen_without_a_colour(
    busy: tui_store.Scene, key: str, look: Appearance | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if look is None:
        monkeypatch.setenv("NO_COLOR", "1")
    async with tui_pilot.opened(busy.paths, watch=5, appearance=look) as (app, pilot):
        await pilot.press(key)
        await tui_pilot.until(pilot, lambda: app.screen.query(OptionList))
        options = app.screen.query_one(OptionList)
        await tui_pilot.until(pilot, lambda: options.highlighted == 0)
        marked = [
            any(part.style and part.style.underline for part in options.render_line(y))
            for y in range(options.option_count)
        ]
        assert any(marked)
        assert not all(marked)


@pytest.mark.parametrize("keys", first_now(AIRY.values()), ids=AIRY.keys())
async def test_density_gives_air(busy: tui_store.Scene, keys: tuple[str, ...]) -> None:
    """Not only the top line, which is the same everywhere, gets more of it."""
    async with tui_pilot.opened(busy.paths, watch=5) as (app, pilot):
        await go(app, pilot, keys)
        top = app.screen.query_one("#top").region.bottom
        tight = [strip.text for strip in (await drawn(pilot))[top:]]
        await pilot.press("Z")
        await settled(app, pilot)
        assert [strip.text for strip in (await drawn(pilot))[top:]] != tight


@pytest.mark.parametrize("density", ["compact", "comfortable"])
@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30)], ids=str)
async def test_the_key_bar_cuts_no_entry(
    busy: tui_store.Scene, size: tuple[int, int], density: str
) -> None:
    settings = Settings(density=density)
    async with tui_pilot.opened(busy.paths, watch=5, size=size, settings=settings) as (app, pilot):
        for way, keys in {**AIRY, "marks": ("escape", "space", "j", "space")}.items():
            await go(app, pilot, keys)
            bar = app.screen.query_one(KeyBar)
            await tui_pilot.until(pilot, lambda bar=bar: "Quit" in _entries(bar))
            end = bar.region.right + 1  # the space behind the last one
            entries = bar.query(FooterKey)
            assert all(each.region.right <= end for each in entries), (way, _entries(bar))


def _entries(bar: KeyBar) -> list[str]:
    return [each.description for each in bar.query(FooterKey)]


async def test_keys_are_changed_by_id(busy: tui_store.Scene) -> None:
    settings = Settings(keys={"app.help": "f2"})
    async with tui_pilot.opened(busy.paths, settings=settings) as (app, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        assert len(app.screen_stack) == 1
        await pilot.press("f2")
        await tui_pilot.until(pilot, lambda: len(app.screen_stack) == 2)


@pytest.mark.parametrize("width", [60, 80, 130])
async def test_the_help_lists_the_ids_of_the_actions(busy: tui_store.Scene, width: int) -> None:
    async with tui_pilot.opened(busy.paths, size=(width, 24)) as (app, pilot):
        listed = {line.id for line in key_lines(app.screen)}
        await pilot.press("question_mark")
        await tui_pilot.until(pilot, lambda: isinstance(app.screen, KeysScreen))
        table = app.screen.query_one("#keys Static", Static)
        assert listed <= set(str(table.render()).split())


async def test_a_wrong_id_is_said_in_a_sentence(busy: tui_store.Scene) -> None:
    settings = Settings(keys={"queue.nwe": "N"})
    async with tui_pilot.opened(busy.paths, settings=settings) as (app, pilot):
        await tui_pilot.until(pilot, lambda: len(app._notifications) > 0)
        said = [note.message for note in app._notifications]
        assert any("No action is called queue.nwe" in words for words in said), said


def test_every_action_can_be_named() -> None:
    ids = known_ids()
    assert {"queue.new", "app.theme", "workers.stop", "keys.close", "job.pause"} <= set(ids)
    assert wrong_ids({"queue.new": "n"}) is None
    untold = [name for name, binding in ids.items() if not binding.tooltip]
    assert not untold, "every key says in the help what it does"


def test_settings_of_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("OBSTUI_CONFIG", str(file))
    file.write_text('theme = "light"\nattention = "bell"\n[keys]\n"queue.new" = "N"\n')
    settings = Settings.load()
    assert (settings.theme, settings.attention, settings.keys) == (
        "light", "bell", {"queue.new": "N"},
    )  # fmt: skip
    for wrong in ('theme = "pink"', "attention = 3", "keys = 3", '[keys]\n"queue.new" = 3'):
        file.write_text(wrong)
        with pytest.raises(BadSettings, match=str(file)):
            Settings.load()


async def test_the_help_tells_what_is_not_possible_now(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths, watch=5) as (app, pilot):
        await go(app, pilot, ("5",))
        lines = {line.id: line for line in key_lines(app.screen)}
        assert lines["workers.lift"].enabled is False
        assert lines["workers.pause"].enabled is True
        assert lines["app.help"].everywhere
        assert not lines["workers.pause"].everywhere
        assert lines["app.help"].keys == ["?", "F1"]


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_the_help_can_be_read_to_its_end(
    busy: tui_store.Scene, size: tuple[int, int]
) -> None:
    async with tui_pilot.opened(busy.paths, size=size) as (app, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        seen = set()
        for _ in range(10):
            seen |= {strip.text.strip() for strip in await drawn(pilot)}
            await pilot.press("space")
        words = " ".join(seen)
        for line in key_lines(app.screen_stack[0]):
            assert line.words in words, line
        assert "Esc closes" in words


async def test_the_place_is_remembered(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await go(app, pilot, ("5",))
        assert app.place == "workers"
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        await tui_pilot.until(pilot, lambda: app.place == "workers")
    async with tui_pilot.opened(busy.paths, watch=5) as (app, _):
        assert app.place == "queue", "who asks for a job gets it"


async def test_a_tab_is_a_door(busy: tui_store.Scene) -> None:
    async with tui_pilot.opened(busy.paths) as (app, pilot):
        at = (await drawn(pilot))[0].text.index("Workers")
        await pilot.click("#top", offset=(at, 0))
        await tui_pilot.until(pilot, lambda: app.place == "workers")


def test_remembered_values_survive(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.json"
    one, two = Remembered(path), Remembered(path)
    one.put("queue.sort", "name")
    two.put("queue.selected", 7)
    one.close()
    two.close()
    again = Remembered(path)
    assert again.get("queue.sort", "newest") == "name"
    assert again.get("queue.selected", 0) == 7
    assert again.get("queue.selected", "") == "", "a value of another type counts as absent"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["dashboard.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_broken_memory_costs_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dashboard.json"
    path.write_bytes(content)
    remembered = Remembered(path)
    assert remembered.get("place", "queue") == "queue"
    assert remembered.fault is not None
    assert str(path) in remembered.fault
    remembered.put("place", "workers")
    remembered.close()
    assert json.loads(path.read_bytes()) == {"place": "workers"}


def test_a_folder_that_cannot_be_written_costs_the_memory_only(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path / "nowhere" / "dashboard.json")
    remembered.put("place", "workers")
    remembered.close()
    assert remembered.get("place", "") == "workers"


async def test_pasted_text_is_no_command(busy: tui_store.Scene) -> None:
    from textual import events

    async with tui_pilot.opened(busy.paths, watch=5) as (app, pilot):
        app.post_message(events.Paste("cxnq5T"))
        await pilot.pause()
        await pilot.pause()
        assert len(app.screen_stack) == 1
        assert app.theme == "dark"
        assert app.is_running


def test_a_key_given_twice_is_told() -> None:
    """On one screen, or on one and everywhere; two screens may use the same key."""
    assert doubled({"queue.filter": "z", "log.search": "z"}) is None
    assert "key z is given to both queue.new and queue.sort" in (
        doubled({"queue.new": "z", "queue.sort": "z"}) or ""
    )
    assert "app.theme and log.wrap" in (doubled({"log.wrap": "b,z", "app.theme": "z"}) or "")
    assert "job.pause and queue.new" in (doubled({"queue.new": "N", "job.pause": "N"}) or "")
    assert "queue.new and job.pause" in (doubled({"queue.new": "p"}) or ""), "a key from before"
    assert "go.queue and job.remove" in (doubled({"go.queue": "x"}) or "")
    assert doubled({"queue.new": "p", "job.pause": "n"}) is None, "they have changed places"


def test_in_ascii_too_no_height_looks_like_a_target_that_waits() -> None:
    signs = [*HEIGHTS, WAITING, GATHERING, AT_WORK]
    assert len({to_ascii(sign) for sign in signs}) == len(signs)


async def test_the_help_keeps_names_and_what_they_do_apart(busy: tui_store.Scene) -> None:
    """The longest name too ends before the column in which the sentences begin."""
    async with tui_pilot.opened(busy.paths, watch=5, size=(160, 50)) as (app, _):
        lines = key_lines(app.screen)
        table = str(KeysScreen(app.screen)._table_for(160))
        begins = {
            row.index(line.tip[:12]) for line in lines for row in table.splitlines()
            if f" {line.words} " in row and line.tip[:12] in row
        }  # fmt: skip
        assert len(begins) == 1, begins
