"""The dashboard in a browser: a real server, a real child, a client that speaks its protocol."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.obstui import tui_store


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
