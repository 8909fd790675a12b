"""serve: the dashboard in a browser of this computer, or of one that tunnels to it."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from typing import TYPE_CHECKING, Any

import click

from obstui.cli.output import say
from obstui.config import Paths

if TYPE_CHECKING:
    from aiohttp import web

LOOPBACK = "127.0.0.1"
_OURS = ("127.0.0.1", "localhost", "[::1]")
# Nobody outside is told of this page, whatever it comes to ask for.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'"
)


@click.command()
@click.option("--port", type=click.IntRange(1024, 65535), default=8484, show_default=True,
              help="Where the browser finds it.")  # fmt: skip
@click.option("--readonly", is_flag=True, help="A dashboard that can change nothing.")
@click.pass_obj
def serve(paths: Paths, port: int, readonly: bool) -> None:
    """The dashboard in a browser, on this computer only.

    From another computer: ssh -L 8484:127.0.0.1:8484 HOST, then http://127.0.0.1:8484 there.
    Whoever can log in to this computer can open the page too: --readonly shows without buttons.
    """
    try:
        import textual_serve  # noqa: F401
    except ImportError:
        raise click.ClickException(
            "obstui serve needs textual-serve: pip install 'obstui[serve]' brings it."
        ) from None
    _check_free(port)
    command = [sys.executable, "-m", "obstui", "--db", str(paths.db)]
    say(f"Serving on http://{LOOPBACK}:{port} (this computer only). Ctrl+C ends it.")
    _run(shlex.join([*command, "--readonly"] if readonly else command), port)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as err:
            raise click.UsageError(
                f"Port {port} cannot be used ({err.strerror}): give another with --port."
            ) from None


def _run(command: str, port: int) -> None:
    from aiohttp import web
    from textual_serve.server import Server

    class LoopbackServer(Server):
        """A textual-serve that only pages of its own may talk to, under any name of loopback."""

        async def _make_app(self) -> web.Application:
            app = await super()._make_app()
            app.middlewares.append(web.middleware(_only_ours))
            return app

        def initialize_logging(self) -> None:
            """Nobody asked for a line a request."""

        async def on_startup(self, app: web.Application) -> None:
            """The command has said where."""

        async def handle_index(self, request: web.Request) -> Any:
            self.public_url = f"http://{request.host}"  # a tunnel may give it another port
            page = await super().handle_index(request)
            assert isinstance(page, web.Response)
            page.text = _without_foreign_links(page.text or "", request.host)
            return page

    LoopbackServer(command, host=LOOPBACK, port=port, title="obstui").serve()


def _without_foreign_links(page: str, host: str) -> str:
    """The page of textual-serve links to a font server, which no policy should have to stop."""
    return re.sub(rf'<link\s[^>]*href="https?://(?!{re.escape(host)}/)[^>]*>', "", page)


async def _only_ours(request: web.Request, handler: object) -> web.StreamResponse:
    """Refuse what a foreign page in the same browser sends: it could press keys here.

    A foreign name that resolves to loopback shows in Host, a foreign page's request in Origin.
    """
    from aiohttp import web

    origin = request.headers.get("Origin")
    host = request.host.rpartition(":")[0] if ":" in request.host else request.host
    if host not in _OURS or origin not in (None, f"http://{request.host}"):
        raise web.HTTPForbidden(text="This page is for the computer it runs on.")
    response: web.StreamResponse = await handler(request)  # type: ignore[operator]
    if not response.prepared:
        response.headers["Content-Security-Policy"] = _POLICY
    return response
