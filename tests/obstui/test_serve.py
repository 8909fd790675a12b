"""The dashboard in a browser: a real server, a real child, a client that speaks its protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import pytest
from PIL import Image, ImageColor

from obstui.tui import theme
from tests.obstui import tui_store
from tests.obstui.test_page import CHROMIUM


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """`obstui serve --readonly` on a store with a finished prune; its address."""
    scene = tui_store.Scene(tmp_path / "home")
    tui_store.prune_finished(scene)
    scene.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "OBSTUI_HOME": str(tmp_path / "home")}
    server = subprocess.Popen(
        [sys.executable, "-m", "obstui", "serve", "--readonly", "--port", str(port)],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert server.stderr is not None
    assert f"127.0.0.1:{port}" in server.stderr.readline()
    yield f"127.0.0.1:{port}"
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(20)


async def answer(served: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    """What the page says, once the server listens."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://{served}/", headers=headers) as response:
                    known = {str(key): value for key, value in response.headers.items()}
                    return response.status, await response.text(), known
            except aiohttp.ClientConnectionError:
                continue


async def test_the_dashboard_comes_through_the_page(served: str) -> None:
    status, page, headers = await answer(served)
    assert status == 200
    assert f"ws://{served}/ws" in page
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    # Through a tunnel the browser knows it by another port: its links must follow.
    _, tunnelled, _ = await answer(served, Host="localhost:9000")
    assert "ws://localhost:9000/ws" in tunnelled
    seen = b""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{served}/ws?width=100&height=30") as socket_,
    ):
        async for message in socket_:
            if message.type is aiohttp.WSMsgType.BINARY:
                seen += message.data
            if b"succeeded" in seen:
                break
        await socket_.send_str(json.dumps(["stdin", "q"]))
        await socket_.receive()  # the server closes once the dashboard has gone
    assert b"read-only" in seen


async def test_the_page_asks_nobody_else(served: str) -> None:
    _, page, _ = await answer(served)
    asked = re.findall(r'(?:href|src)="(?:https?:)?//([^/"]+)', page)
    assert asked
    assert set(asked) == {served}
    assert "css/xterm.css" in page


class Browser:
    """A page of a headless Chromium, which does what it is asked to, one thing after another."""

    def __init__(self, line: aiohttp.ClientWebSocketResponse) -> None:
        self._line, self._asked, self._happened = line, 0, set[str]()

    async def _hear(self) -> dict[str, Any]:
        told = cast("dict[str, Any]", await self._line.receive_json())
        self._happened.add(told.get("method", ""))
        return told

    async def ask(self, method: str, **what: object) -> dict[str, Any]:
        self._asked += 1
        await self._line.send_json({"id": self._asked, "method": method, "params": what})
        while (answer := await self._hear()).get("id") != self._asked:
            pass
        assert "result" in answer, answer
        return cast("dict[str, Any]", answer["result"])

    async def go(self, url: str) -> None:
        await self.ask("Page.enable")
        self._happened.clear()
        await self.ask("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._happened:
            await self._hear()

    async def screenshot(self) -> Image.Image:
        shot = await self.ask("Page.captureScreenshot", format="png")
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         "--window-size=1200,800", f"--user-data-dir={folder}", "about:blank"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        told = next(line for line in process.stderr if "DevTools listening on" in line)
        port = urlsplit(told.split()[-1]).port
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                [page] = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as line:
                yield Browser(line)
    finally:
        process.kill()
        process.communicate()


def share(picture: Image.Image, colour: str) -> float:
    """How much of it has just this colour."""
    wanted = ImageColor.getrgb(colour)
    counts = {colour: count for count, colour in picture.getcolors(1 << 24) or ()}
    return counts.get(wanted, 0) / (picture.width * picture.height)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
async def test_a_browser_shows_the_dashboard(served: str, tmp_path: Path) -> None:
    """The job that has succeeded is there in the colour for it, on the theme's ground, and letters
    have all the shades between."""
    await answer(served)
    ground = theme.themes()[0].background
    assert ground is not None
    async with browser(tmp_path / "chromium") as page, asyncio.timeout(90):
        await page.go(f"http://{served}/")
        picture = await page.screenshot()
        while not share(picture, theme.style("good")):
            picture = await page.screenshot()
    assert share(picture, ground) > 0.5
    assert len(picture.getcolors(1 << 24) or ()) > 200


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=["host", "origin"]
)
async def test_foreign_pages_are_refused(served: str, headers: dict[str, str]) -> None:
    status, page, _ = await answer(served, **headers)
    assert status == 403
    assert "computer it runs on" in page
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"http://{served}/ws", headers=headers)


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "obstui", "serve", "--port", str(port)],
            env={**os.environ, "OBSTUI_HOME": str(tmp_path)}, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"Port {port}" in done.stderr
    assert "--port" in done.stderr
