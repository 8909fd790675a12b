"""The parts of the worker that need no process."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from obstui.store import Claim, StoreError
from obstui.store.reader import held
from obstui.worker import gpu, manifest, python
from obstui.worker.liveness import DeviceLock, Holder, Process, start_ticks
from obstui.worker.protocol import LINE_LIMIT, Channel, Lines
from obstui.worker.relay import Relay
from obstui.worker.samples import Sampler
from obstui.worker.verdict import Ending, judge, last_line

CLAIM = Claim(1, "ULID", 1, "worker", "cpu", {"kind": "generate"}, {})


def line(number: int) -> bytes:
    return json.dumps({"v": 1, "type": "fact", "number": number}).encode() + b"\n"


def test_lines_find_every_message_however_the_bytes_are_cut() -> None:
    cut = random.Random(0)
    noise = [b"", b"{}", b"\xff\xfe", b"x" * LINE_LIMIT, b"y" * (3 * LINE_LIMIT), b'{"v":2}']
    data = b"".join(line(n) + cut.choice(noise) + b"\n" for n in range(200))
    lines, numbers = Lines(), []
    while data:
        size = cut.choice([1, 7, 100, 4096, 65536])
        numbers += [message["number"] for message in lines.feed(data[:size])]
        assert len(lines._partial) < LINE_LIMIT
        data = data[size:]
    assert numbers == list(range(200))
    assert lines.garbage > 0


@pytest.mark.parametrize("size", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1])
def test_an_overlong_line_is_one_piece_of_garbage(size: int) -> None:
    for cut in (1, size - 1, size, size + 1):
        lines = Lines()
        data = b"x" * size + b"\n" + line(1)
        assert [m["number"] for m in lines.feed(data[:cut]) + lines.feed(data[cut:])] == [1]
        assert lines.garbage == 1


def test_nan_does_not_reach_the_store() -> None:
    [message] = Lines().feed(b'{"v":1,"type":"fact","event":{"error":NaN,"psnr":Infinity}}\n')
    assert message["event"] == {"error": None, "psnr": None}


def test_the_channel_replaces_what_is_too_long() -> None:
    read, write = os.pipe()
    channel = Channel(write, os.abort)
    channel.say("fact", event={"type": "x", "text": "y" * LINE_LIMIT})
    channel.say("done")
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        note, done = Lines().feed(pipe.read())
    assert note["event"]["type"] == "note"
    assert done == {"v": 1, "type": "done"}


def ending(**changes: Any) -> Ending:
    nothing: dict[str, Any] = {"said": None, "exit_code": 0, "result": None, "asked": None}
    return Ending(**nothing | {"log": Path("/nonexistent")} | changes)


@pytest.mark.parametrize("asked", [None, "cancel", "pause", "worker"])
def test_a_finished_result_wins_over_every_wish(asked: str | None) -> None:
    for code in (0, -9, -11, 1, None):
        assert judge(ending(result={"x": 1}, asked=asked, exit_code=code)).state == "succeeded"


@pytest.mark.parametrize(
    ("asked", "said", "code", "state", "reason"),
    [
        ("cancel", None, -9, "cancelled", "user"),
        ("cancel", "stopped", 75, "cancelled", "user"),
        ("cancel", "failed", 1, "cancelled", "user"),
        ("pause", "stopped", 75, "paused", "user"),
        ("pause", "failed", 1, "failed", "x"),
        ("worker", "stopped", 75, "queued", "drain"),
        ("worker", None, -9, "queued", "drain"),
        (None, "failed", 1, "failed", "x"),
        (None, "stopped", 75, "queued", "child_lost"),
        (None, "done", 0, "failed", "exit_code"),
        (None, None, -9, "queued", "child_lost"),
        (None, None, -15, "queued", "child_lost"),
        (None, None, -11, "failed", "segfault"),
        (None, None, -6, "failed", "signal"),
        (None, None, -34, "failed", "signal"),
        (None, None, 3, "failed", "exit_code"),
    ],
)
def test_verdicts(asked: str | None, said: str | None, code: int, state: str, reason: str) -> None:
    word = {"type": said, "reason": "x", "error": "y"} if said else None
    verdict = judge(ending(asked=asked, said=word, exit_code=code))
    assert (verdict.state, verdict.reason) == (state, reason)
    if state == "failed":
        assert verdict.error


def test_the_last_line_of_a_log_is_safe_and_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_bytes(
        b"first\n\x1b]0;title\x07\x1b[31mred\x1b[0m \xff" + b"z" * 999 + b"\n \n\x1b[0m\n"
    )
    said = last_line(log, limit=50)
    assert said.startswith("red")
    assert "\x1b" not in said
    assert len(said) <= 50


def published(output: Path) -> dict[str, Any]:
    (output / "s10" / "unet").mkdir(parents=True)
    (output / "s10" / "unet" / "weights").write_bytes(b"12345")
    (output / "a.png").write_bytes(b"picture")
    result = {
        "variants": [{"id": "1@10", "path": str(output / "s10")}],
        "images": [{"path": str(output / "a.png"), "prompt": "a path"}],
    }
    manifest.write(output, 2, result)
    return result


def test_a_manifest_gives_back_the_result_even_from_another_place(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    result = published(tmp_path / "old")
    assert manifest.read(tmp_path / "old", 2) == result
    (tmp_path / "old").rename(tmp_path / "new")
    moved = manifest.read(tmp_path / "new", 2)
    assert moved is not None
    assert moved["variants"][0]["path"] == str(tmp_path / "new" / "s10")


def test_a_manifest_counts_only_for_its_attempt_and_whole_files(tmp_path: Path) -> None:
    published(tmp_path)
    assert manifest.read(tmp_path, 1) is None
    (tmp_path / "s10" / "unet" / "weights").write_bytes(b"1234")
    assert manifest.read(tmp_path, 2) is None
    (tmp_path / "s10" / "unet" / "weights").unlink()
    assert manifest.read(tmp_path, 2) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1, "attempt": 2, "files": 3}'])
def test_a_broken_manifest_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / manifest.NAME).write_text(text)
    assert manifest.read(tmp_path, 2) is None


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ValueError, match="secret"):
        manifest.write(output, 1, {"path": str(tmp_path / "secret")})
    data = {"version": 1, "attempt": 1, "files": [], "result": {"path": "../secret"}}
    (output / manifest.NAME).write_text(json.dumps(data))
    assert manifest.read(output, 1) is None


class Ledger:
    """What a relay writes; refuses while `down`, fences when `foreign`."""

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.progressed: list[int] = []
        self.down = False
        self.foreign = False

    def append(self, _: Claim, facts: list[tuple[str, dict[str, Any]]]) -> bool:
        if self.down:
            raise StoreError("busy")
        self.facts += [kind for kind, _ in facts]
        return not self.foreign

    def progress(self, _: Claim, progress: dict[str, Any]) -> bool:
        self.progressed.append(progress["done"])
        return not self.foreign


def test_the_relay_keeps_facts_and_thins_progress() -> None:
    ledger, now = Ledger(), [0.0]
    relay = Relay(ledger, CLAIM, clock=lambda: now[0])  # type: ignore[arg-type]
    for done in range(100):
        now[0] = done / 100
        assert relay.take({"type": "progress", "progress": {"done": done}})
        assert relay.take({"type": "fact", "event": {"type": f"kind {done}"}})
        ledger.down = 20 < done < 60
        assert relay.flush() is not ledger.down
    assert ledger.facts == [f"kind {n}" for n in range(100)]
    # None while the store was down, and never two within half a second.
    assert ledger.progressed == [0, 60]
    assert not relay.take({"type": "fact", "event": "no mapping"})


def test_a_fenced_relay_writes_no_more() -> None:
    ledger = Ledger()
    ledger.foreign = True
    relay = Relay(ledger, CLAIM)  # type: ignore[arg-type]
    relay.note("one")
    relay.flush()
    assert relay.fenced
    relay.note("two")
    assert relay.flush()
    assert ledger.facts == ["note"]


def test_a_process_is_itself_and_no_other(tmp_path: Path) -> None:
    me = Process.of(os.getpid())
    assert me is not None
    assert me.alive
    assert start_ticks(2**22 + 1) is None
    assert not Process(me.pid, me.start_ticks + 1, me.boot_id).alive
    assert not Process(me.pid, me.start_ticks, "another boot").alive


def test_the_lock_and_its_message(tmp_path: Path) -> None:
    path = tmp_path / "cpu.lock"
    me = Process.of(os.getpid())
    assert me is not None
    assert not held(path)
    first, second = DeviceLock(path), DeviceLock(path)
    assert first.take()
    long, short = (Holder("w" * n, "/db", "cpu", me) for n in (500, 5))
    first.sign(long)
    first.sign(short)
    assert Holder.read(path) == short
    assert held(path)
    assert not second.take()
    first.release()
    assert not held(path)
    assert second.take()
    second.release()
    assert path.stat().st_mode & 0o777 == 0o600


def test_devices_are_never_none_and_a_wrong_one_is_named() -> None:
    assert gpu.devices()
    assert gpu.choose("cpu").name
    with pytest.raises(gpu.NoSuchDevice, match="No device GPU-none: this machine has cpu"):
        gpu.choose("GPU-none")


def test_a_gpu_child_sees_its_own_gpu_only() -> None:
    env = python.environment("GPU-1234")
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-1234"
    assert python.environment("cpu")["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in python.environment()


def test_the_samples_of_a_night_are_few_and_hold_every_peak() -> None:
    now = [0.0]
    sampler = Sampler(lambda: now[0])
    kept = []
    for second in range(12 * 3600):
        now[0] = float(second)
        used = 90 if second == 30_000 else 10
        memory = {"device": "cuda", "now": used, "peak": 90, "total": 100}
        sample = sampler.take({"memory": memory, "done": second, "gpu": {"power": None}})
        kept += [(second, sample)] if sample else []
    assert len(kept) < 700
    assert [second for second, _ in kept[:3]] == [0, 5, 10]
    assert [sample["high"] for _, sample in kept].count(90) == 1
    assert "power" not in kept[0][1], "what the device does not tell is left out"
    assert sampler.take({"done": 1}) is None
