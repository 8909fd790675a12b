"""Notices, the digest, the command after a job, the action at the end of the queue: real side
processes, and a web server of our own on the loopback interface as the service."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from obstui.config import BadSettings, Paths, Settings
from obstui.specs import GenerateSpec
from obstui.store import Reader, Store, backup
from obstui.worker import notify, when_empty
from obstui.worker.when_empty import COUNTDOWN, CannotArm, WhenEmpty

from ..conftest import clock, paths, reader, store
from .conftest import Bench

__all__ = ["clock", "paths", "reader", "store"]

SECRET = "tk_topsecret"


class Service:
    """Takes what is posted; `status` is what it answers, None for no answer at all."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.status: int | None = 200
        self.over = threading.Event()
        self.asked = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.asked.set()
                if service.status is None:
                    service.over.wait()
                    return
                self.send_response(service.status)
                if service.status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/2")
                self.end_headers()
                service.heard.append(json.loads(body) | {"path": self.path})

            def do_GET(self) -> None:
                service.heard.append({"path": f"GET {self.path}"})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:{SECRET}@127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.over.set()
    service.server.shutdown()
    service.server.server_close()


def send(url: str) -> int:
    return notify.start([url], "title", "body").wait(30)


def test_a_notice_is_posted_without_following_a_redirect(service: Service) -> None:
    assert send(service.url) == 0
    assert [(n["title"], n["message"]) for n in service.heard] == [("title", "body")]
    service.status = 302
    send(service.url)
    assert [n["path"] for n in service.heard] == ["/hook", "/hook"]


def test_addresses_where_clouds_keep_credentials_are_refused() -> None:
    assert not notify.allowed("json://169.254.169.254/latest")
    assert not notify.allowed("jsons://[fe80::1]/x")
    assert notify.allowed("ntfys://ntfy.sh/topic")
    assert send("json://169.254.169.254/latest") == 1


def test_hostile_text_is_harmless_in_a_notice() -> None:
    bad = "\x1b]0;gone\x07a\u202eb\n[red]" + "x" * 1000
    payload = {"job_id": 7, "name": bad, "error": bad}
    for said in notify.words("failed", payload) + notify.words("stop", {"reason": bad}):
        assert not {"\x1b", "\x07", "\u202e", "\n"} & set(said)
        assert len(said) < 700


def test_each_failure_is_told_once_and_no_secret_is_kept(bench: Bench, service: Service) -> None:
    worker = bench.up(settings={"notify": [service.url], "digest": ""})
    job_id = bench.submit("raise no such model", name="night")
    bench.finished(job_id)
    bench.until(lambda: service.heard and not bench.store.notices())
    [notice] = service.heard
    assert notice["title"] == f"obstui: job {job_id} failed"
    assert "no such model" in notice["message"]
    worker.terminate()
    assert SECRET not in worker.communicate(timeout=20)[1]
    assert SECRET.encode() not in bench.paths.db.read_bytes()


def test_f28_a_service_that_hangs_delays_no_job(bench: Bench, service: Service) -> None:
    service.status = None
    bench.up(settings={"notify": [service.url], "digest": ""})
    bench.finished(bench.submit("raise it"))
    bench.until(service.asked.is_set)
    began = time.monotonic()
    assert bench.finished(bench.submit("nothing")).state == "succeeded"
    print(f"a job done in {time.monotonic() - began:.2f} s while the service hangs")
    [notice] = bench.store.notices()  # still not told
    assert notice.tries == 0


def test_a_command_hears_of_every_finished_job(bench: Bench, tmp_path: Path) -> None:
    told = tmp_path / "told"
    hook = ["sh", "-c", f"cat >> {told}; echo >> {told}"]
    bench.up(settings={"on_finish": hook, "digest": ""})
    jobs = [bench.submit("nothing"), bench.submit("raise $(touch /tmp/x)")]
    for job in jobs:
        bench.finished(job)
    lines = bench.until(lambda: told.exists() and len(x := told.read_text().split("\n")) > 2 and x)
    said = {json.loads(line)["id"]: json.loads(line)["state"] for line in lines if line}
    assert said == {jobs[0]: "succeeded", jobs[1]: "failed"}


class Scene:
    def __init__(self, store: Store, reader: Reader, clock: Any, flag: Path) -> None:
        self.typed = self.in_use = False
        self.store, self.clock, self.flag = store, clock, flag
        self.ending = WhenEmpty(
            store, reader, lambda: self.in_use, typed=lambda _: self.typed, clock=clock
        )
        when_empty.arm(store, "command", ["touch", str(flag)])

    def turn(self, seconds: float = 0) -> when_empty.Armed | None:
        self.clock.now += seconds
        self.ending.turn()
        return when_empty.armed(self.store)

    def happened(self, within: float = 5.0) -> bool:
        deadline = time.monotonic() + within
        while not self.flag.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.flag.exists()


@pytest.fixture
def scene(store: Store, reader: Reader, clock: Any, tmp_path: Path) -> Scene:
    return Scene(store, reader, clock, tmp_path / "flag")


def test_the_action_comes_once_after_the_countdown(scene: Scene) -> None:
    armed = scene.turn()
    assert armed is not None
    assert armed.due_at == scene.clock.now + COUNTDOWN
    assert scene.turn(COUNTDOWN - 1) == armed
    assert not scene.flag.exists()
    assert scene.turn(1) is None
    assert scene.happened()
    scene.flag.unlink()
    scene.turn(10 * COUNTDOWN)
    assert not scene.happened(within=0.3)


def test_f29_a_new_job_stops_the_countdown_and_it_starts_again(scene: Scene) -> None:
    scene.turn()
    job = scene.store.enqueue(GenerateSpec(prompts=("a",)))
    armed = scene.turn(COUNTDOWN)
    assert armed is not None
    assert (armed.due_at, armed.said) == (None, "a new job was queued")
    scene.store.cancel(job.id)
    armed = scene.turn()
    assert armed is not None
    assert armed.due_at == scene.clock.now + COUNTDOWN
    assert not scene.flag.exists()


@pytest.mark.parametrize("reason", ["typed", "in_use", "off"])
def test_f29_people_and_other_programs_call_it_off(scene: Scene, reason: str) -> None:
    scene.turn()
    if reason == "off":
        assert when_empty.disarm(scene.store)
    else:
        setattr(scene, reason, True)
    assert scene.turn(COUNTDOWN) is None
    assert scene.turn(COUNTDOWN) is None
    assert not scene.happened(within=0.3)
    told = [notice.payload["text"] for notice in scene.store.notices()]
    assert len(told) == (1 if reason == "off" else 2)


def test_only_what_this_machine_can_do_is_armed(store: Store) -> None:
    with pytest.raises(CannotArm):
        when_empty.arm(store, "command")
    with pytest.raises(CannotArm, match="no program"):
        when_empty.arm(store, "command", ["no-such-program"])
    store.set_setting(when_empty.KEY, {"nonsense": 1})
    assert when_empty.armed(store) is None


def settings(path: Path, text: str, monkeypatch: pytest.MonkeyPatch, mode: int = 0o600) -> Settings:
    path.write_text(text)
    path.chmod(mode)
    monkeypatch.setenv("OBSTUI_CONFIG", str(path))
    return Settings.load()


def test_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("OBSTUI_CONFIG", str(path))
    assert Settings.load() == Settings()
    text = 'notify = ["ntfys://t"]\ndigest = "07:30"\nhot = 80\nforeign_gib = 2.5\n'
    read = settings(path, text, monkeypatch)
    assert (read.notify, read.digest, read.hot) == (("ntfys://t",), "07:30", 80)
    for bad, words in [
        ("digest = 8", "digest in"),
        ('digest = "25:00"', "as 08:00"),
        ("hot = true", "a number"),
        ('notify = "x"', "a list of strings"),
        ("volume = 11", "no setting volume"),
        ("hot =", "Cannot read"),
    ]:
        with pytest.raises(BadSettings, match=words):
            settings(path, bad, monkeypatch)
    with pytest.raises(BadSettings, match="chmod 600"):
        settings(path, text, monkeypatch, mode=0o644)


def test_the_digest_comes_once_a_day_and_says_what_happened(bench: Bench) -> None:
    bench.up(settings={"digest": "00:00", "notify": []})
    bench.until(lambda: bench.store.setting("digest"))  # the first day only sets the beginning
    bad, good = bench.submit("raise no such model"), bench.submit("nothing")
    bench.finished(bad)
    bench.finished(good)
    bench.store.set_setting("digest", {"day": "1999-12-31", "at": 0})
    told = bench.until(lambda: bench.rows("SELECT payload FROM outbox WHERE kind = 'digest'"))
    [(payload,)] = told
    text = json.loads(payload)["text"]
    assert text.startswith("1 done, 1 failed, 0 left.")
    assert f"Job {bad} failed: no such model" in text
    assert bench.store.setting("digest")["day"] != "1999-12-31"


def test_waste_goes_once_a_day_and_a_clean_end_leaves_a_backup(bench: Bench) -> None:
    claim_id = bench.submit("nothing")
    claim = bench.store.claim("w", "cpu")
    assert claim is not None
    bench.store.started(claim, 1, 2)
    bench.store.finish(claim, "succeeded")
    work = bench.paths.work(bench.job(claim_id).ulid)
    work.mkdir(parents=True)
    worker = bench.up(settings={"digest": ""})
    bench.until(lambda: not work.exists())
    late = bench.submit("nothing")
    bench.finished(late)
    worker.terminate()
    worker.wait(20)
    copies = {path.stem.partition("-")[2]: path for path in backup.backups(bench.paths.db)}
    assert copies.keys() == {"daily", "end"}
    with Reader.open(Paths(bench.paths.home, copies["end"])) as reader:
        job = reader.job(late)
        assert job is not None
        assert job.state == "succeeded"
