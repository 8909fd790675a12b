"""Notices in words, and the side process that sends them.

`python -m obstui.worker.notify` reads {"urls", "title", "body"} from its standard input, so that no
address stands in a process list, and says by its exit code alone whether all were told: what the
services answer may quote addresses and tokens.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from obstui.text import one_line
from obstui.worker import python

SENT_WITHIN = 15.0


def words(kind: str, payload: dict[str, Any]) -> tuple[str, str]:
    """Title and body of a notice, safe to show wherever it ends up."""

    def of(key: str) -> str:
        return one_line(payload.get(key) or "", limit=300)

    if kind == "stop":
        return f"obstui: {of('device')} is stopped", of("reason")
    if kind in ("failed", "quarantined"):
        return f"obstui: job {of('job_id')} {kind}", f"{of('name')}: {of('error') or of('reason')}"
    return f"obstui: {of('title') or one_line(kind, limit=40)}", of("text")


def start(urls: Sequence[str], title: str, body: str) -> subprocess.Popen[bytes]:
    """Send in a process of its own. Raises OSError."""
    process = subprocess.Popen(
        python.module(__name__),
        env=python.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(json.dumps({"urls": list(urls), "title": title, "body": body}).encode())
    return process


def allowed(url: str) -> bool:
    """Whether an address may be told: none that only the machine's own network knows to answer
    (169.254.x.x, where clouds keep credentials)."""
    try:
        host = urlsplit(url).hostname or ""
        return not ipaddress.ip_address(host).is_link_local
    except ValueError:
        return True


def main() -> int:
    import apprise

    logging.disable(logging.CRITICAL)
    order = json.load(sys.stdin)
    # Tags and quotes in a notice are text; a redirect could lead anywhere.
    asset = apprise.AppriseAsset(http_redirects=False, async_mode=False)
    told = apprise.Apprise(asset=asset)
    added = [allowed(url) and told.add(url) for url in order["urls"]]
    sent = told.notify(title=order["title"], body=order["body"], body_format="text")
    return 0 if sent and all(added) else 1


if __name__ == "__main__":
    sys.exit(main())
