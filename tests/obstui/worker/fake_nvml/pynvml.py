"""A driver that says what the file named by OBSTUI_FAKE_NVML says; asked for "hang", it does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801 - NVML's own name
    pass


def _state() -> dict[str, Any]:
    state: dict[str, Any] = json.loads(Path(os.environ["OBSTUI_FAKE_NVML"]).read_text())
    if state.get("hang"):
        time.sleep(3600)
    if error := state.get("error"):
        raise {"absent": NVMLError_LibraryNotFound}.get(error, NVMLError)(error)
    return state


def nvmlInit() -> None:
    _state()


def nvmlDeviceGetCount() -> int:
    return len(_state()["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> str:
    return str(_state()["gpus"][index])


def nvmlDeviceGetHandleByUUID(uuid: bytes) -> str:
    return uuid.decode()


def nvmlDeviceGetUUID(gpu: str) -> str:
    return gpu


def nvmlDeviceGetName(gpu: str) -> str:
    return f"Fake {gpu}"


def nvmlDeviceGetMemoryInfo(gpu: str) -> Any:
    state = _state()
    return SimpleNamespace(free=state.get("free", 24 << 30), total=state.get("total", 24 << 30))


def nvmlDeviceGetTemperature(gpu: str, sensor: int) -> int:
    return int(_state().get("temperature", 40))


def nvmlDeviceGetComputeRunningProcesses(gpu: str) -> list[Any]:
    users = _state().get("users", {}).get(gpu, [])
    return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in users]


def nvmlDeviceGetUtilizationRates(gpu: str) -> Any:
    return SimpleNamespace(gpu=_state().get("utilisation", 0), memory=0)


def nvmlDeviceGetPowerUsage(gpu: str) -> int:
    watts = _state().get("power")
    if watts is None:
        raise NVMLError("Not Supported")
    return int(watts * 1000)
