"""Starting our own modules in another interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import obstui

_ALLOWED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("VIRTUAL_ENV", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "TORCH_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    )
)
_ALLOWED_PREFIXES = ("LC_", "HF_", "MODELSCOPE_", "OBSTUI_", "OMP_", "GOMP_", "MKL_", "PYTHON")


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module. -P: a `torch.py` in the working folder is not ours."""
    return [sys.executable, "-P", "-m", name, *arguments]


def environment(device: str | None = None) -> dict[str, str]:
    """An environment for one of our processes: an allow-list, so that no secret of the shell that
    started the worker reaches a child or a log. With a device, CUDA sees that one alone."""
    env = {k: v for k, v in os.environ.items() if k in _ALLOWED or k.startswith(_ALLOWED_PREFIXES)}
    root = Path(obstui.__file__).parents[1]
    if "site-packages" not in root.parts:
        # Running from a source tree: the other interpreter must find the same one.
        env["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [env.get("PYTHONPATH")])])
    if device is not None:
        env["CUDA_VISIBLE_DEVICES"] = "" if device == "cpu" else device
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        # Threads that wait for each other spin, by default so long that beside anything else that
        # computes a child is ten times slower; not at all is three times slower on an idle machine.
        env.setdefault("GOMP_SPINCOUNT", "10000")
        # Hints that concern no one who reads a job's log, printed before they can be turned off.
        env.setdefault("TRANSFORMERS_VERBOSITY", "error")
    return env
