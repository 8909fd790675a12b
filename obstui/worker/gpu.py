"""Which devices there are, and how a GPU is doing. NVML is asked in side processes only: a hung
driver hangs those, never a worker."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from obstui.errors import Problem
from obstui.text import one_line
from obstui.worker import python

ANSWER_WITHIN = 5.0
_READ_EVERY = 2.0
_NO_GPU = ("NVMLError_LibraryNotFound", "NVMLError_DriverNotLoaded", "NVMLError_NoDevice")


class NoSuchDevice(Problem):
    """The device asked for does not exist."""

    exit_code = 3


class DriverFails(Problem):
    """There is an NVIDIA driver, but it does not answer as it should."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Device:
    """`id` is "cpu" or a GPU's UUID; `name` is what a person calls it."""

    id: str
    name: str


def devices() -> list[Device]:
    """The machine's GPUs, else its CPU: never empty. Raises DriverFails: a machine whose GPU is
    out of order must not spend the night computing on its CPU."""
    if not find_spec("pynvml"):
        return [cpu()]
    try:
        answer = subprocess.run(
            python.module(__name__),
            env=python.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_WITHIN,
        )
        said = json.loads(answer.stdout)
        found = [Device(str(uuid), str(name)) for uuid, name in said["gpus"]]
    except subprocess.TimeoutExpired:
        raise DriverFails(_fails(f"no answer within {ANSWER_WITHIN:.0f} s")) from None
    except (OSError, ValueError, TypeError, KeyError):
        raise DriverFails(_fails("its library cannot be asked")) from None
    if error := said.get("error"):
        raise DriverFails(_fails(one_line(error, limit=100)))
    return found or [cpu()]


def _fails(why: str) -> str:
    return (
        f"The NVIDIA driver does not work ({why}): see nvidia-smi, "
        "or compute on the processor with --device cpu."
    )


def choose(wanted: str | None) -> Device:
    """The device `wanted` ("cpu" or a UUID), else the first. Raises NoSuchDevice, DriverFails."""
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


def _list() -> dict[str, Any]:
    """The side process's answer: every GPU's UUID and name; an error unless there is no GPU."""
    import pynvml

    found = []
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = pynvml.nvmlDeviceGetUUID(gpu), pynvml.nvmlDeviceGetName(gpu)
            found.append((_text(uuid), _text(name)))
    except pynvml.NVMLError as err:
        absent = type(err).__name__ in _NO_GPU
        return {"gpus": [], "error": None if absent else str(err) or type(err).__name__}
    return {"gpus": found, "error": None}


def _watch(uuid: str) -> None:
    """The other side process: one line about the GPU every two seconds, until stdin ends."""
    import pynvml

    def await_end() -> None:
        sys.stdin.read()
        os._exit(0)  # the other thread may be held by the driver

    threading.Thread(target=await_end, daemon=True).start()
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())
    while True:
        print(json.dumps({"at": time.time(), **_read(pynvml, gpu)}), flush=True)
        time.sleep(_READ_EVERY)


def _read(nvml: Any, gpu: Any) -> dict[str, Any]:
    memory = nvml.nvmlDeviceGetMemoryInfo(gpu)

    def told(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except nvml.NVMLError:
            return None

    users = told(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(gpu)) or []
    power = told(lambda: nvml.nvmlDeviceGetPowerUsage(gpu))  # milliwatts
    return {
        "free": memory.free,
        "total": memory.total,
        "temperature": told(lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
        "utilisation": told(lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
        "power": None if power is None else power / 1000,
        "users": [[user.pid, user.usedGpuMemory or 0] for user in users],
    }


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _watch(sys.argv[1])
    else:
        print(json.dumps(_list()))
