"""Which devices there are. NVML is asked in a side process: a hung driver hangs only that."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from obstui.errors import Problem
from obstui.worker import python

ANSWER_WITHIN = 5.0


class NoSuchDevice(Problem):
    """The device asked for does not exist."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Device:
    """`id` is "cpu" or a GPU's UUID; `name` is what a person calls it."""

    id: str
    name: str


def devices() -> list[Device]:
    """The machine's GPUs, else its CPU: never empty."""
    found: list[Device] = []
    if find_spec("pynvml"):
        try:
            answer = subprocess.run(
                python.module(__name__),
                env=python.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ANSWER_WITHIN,
                check=True,
            )
            found = [Device(str(uuid), str(name)) for uuid, name in json.loads(answer.stdout)]
        except (OSError, ValueError, TypeError, subprocess.SubprocessError):
            pass
    return found or [cpu()]


def choose(wanted: str | None) -> Device:
    """The device `wanted` ("cpu" or a UUID), else the first. Raises NoSuchDevice."""
    if wanted == "cpu":
        return cpu()
    there = devices()
    if wanted is None:
        return there[0]
    for device in there:
        if device.id == wanted:
            return device
    names = ", ".join(["cpu", *(device.id for device in there if device.id != "cpu")])
    raise NoSuchDevice(f"No device {wanted}: this machine has {names}.")


def cpu() -> Device:
    """The processor itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return Device("cpu", line.split(":", 1)[1].strip())
    except OSError:
        pass
    return Device("cpu", platform.processor() or platform.machine())


def _ask_nvml() -> list[tuple[str, str]]:
    import pynvml

    pynvml.nvmlInit()
    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        found.append((_text(pynvml.nvmlDeviceGetUUID(gpu)), _text(pynvml.nvmlDeviceGetName(gpu))))
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    print(json.dumps(_ask_nvml()))
