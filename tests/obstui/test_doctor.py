"""doctor and gc as a person meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from obstui.config import Paths
from obstui.store import Store
from tests.obstui.test_cli import Run, obstui

__all__ = ["obstui"]


def by_name(done: object) -> dict[str, dict[str, object]]:
    return {finding["what"]: finding for finding in done.data}  # type: ignore[attr-defined]


def test_before_anything_was_queued(obstui: Run, tmp_path: Path) -> None:
    done = obstui("doctor", "--json")
    found = by_name(done)
    assert done.code == 0
    assert found.keys() == {"terminal", "pictures", "gpu", "settings", "store", "privacy",
                            "worker", "disk", "logout"}  # fmt: skip
    assert found["store"]["ok"] is True
    assert found["worker"]["mend"] == "obstui worker start"
    assert not (tmp_path / "home").exists()  # looking makes nothing


def test_a_damaged_store_is_a_finding_and_fails(obstui: Run, tmp_path: Path) -> None:
    obstui("prune")
    (tmp_path / "home" / "jobs.db").write_bytes(b"\xa5" * 9000)
    done = obstui("doctor")
    assert done.code == 4
    assert "✗ store" in done.out
    assert "✓ disk" in done.out or "! disk" in done.out  # the others are looked at all the same


def test_what_others_may_read(obstui: Run, tmp_path: Path) -> None:
    obstui("prune")
    assert by_name(obstui("doctor", "--json"))["privacy"]["ok"] is True
    (tmp_path / "home" / "jobs.db").chmod(0o644)
    found = by_name(obstui("doctor", "--json"))["privacy"]
    assert found["ok"] is None
    assert str(found["mend"]).startswith("chmod go= ")


def test_gc(obstui: Run, tmp_path: Path) -> None:
    obstui("prune")
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")
    with Store.open(paths) as store:
        claim = store.claim("w", "cpu")
        assert claim is not None
        store.started(claim, 1, 2)
        store.finish(claim, "succeeded", result={})
    work = paths.work(claim.ulid)
    work.mkdir(parents=True)
    (work / "x").write_bytes(b"x" * 2048)
    dry = obstui("gc", "--dry-run")
    assert "2.0 KiB would be freed" in dry.err
    assert work.exists()
    done = obstui("gc", "--json")
    assert done.data["bytes"] == 2048
    assert done.data["removed"][0]["path"] == str(work)
    assert not work.exists()
    assert "0 B were freed" in obstui("gc").err


def test_a_home_that_cannot_be_made(obstui: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSTUI_HOME", "/proc/x")
    done = obstui("doctor", "--json")
    found = by_name(done)
    assert done.code == 4
    assert found["store"]["ok"] is False
    assert "/proc/x/jobs.db cannot be made" in str(found["store"]["words"])
    assert "OBSTUI_HOME" in str(found["store"]["mend"])
    assert found["disk"]["ok"] is False


@pytest.mark.parametrize(
    ("text", "mode", "ok", "words"),
    [
        (None, 0o600, True, "none; "),
        ("", 0o600, True, "sets nothing"),
        ('notify = ["ntfys://secret/x"]\nhot = 80\n', 0o600, True, "sets notify, hot"),
        ('notify = ["ntfys://secret/x"]\n', 0o644, False, "run chmod 600"),
        ("hot = 80\n", 0o644, True, "sets hot"),
        ("hott = 80\n", 0o600, False, "no setting hott"),
        ("hot = \n", 0o600, False, "Cannot read the settings"),
    ],
)
def test_the_settings(
    obstui: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    mode: int,
    ok: bool,
    words: str,
) -> None:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("OBSTUI_CONFIG", str(file))
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    done = obstui("doctor", "--json")
    found = by_name(done)["settings"]
    assert (done.code, found["ok"]) == (0 if ok else 4, ok)
    assert words in str(found["words"])
    assert str(file) in str(found["words"])
    assert "secret" not in done.out + done.err
