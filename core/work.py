"""What a run has finished, on disk, each piece under a key of everything that decides its bytes.

work/calibration.safetensors    sums in the making, see `calibrate.save_sums`
work/trajectories/NNNNN         recorded denoising, see `core.trajectory`
work/order/TARGET               its greedy order, loss curve, and the level that is probed
work/probe, work/allocation     sensitivities, and what every target keeps
work/solved/TARGET[@s30]        kept units and weights of a solved target
work/check-s30                  its errors on held-out prompts
cache/KEY/TARGET                finished Hessians, shared by all runs of one calibration
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.checkpoint import read_tensors, write_tensors
from core.errors import EngineError
from core.hessian import Hessian
from core.manifest import fingerprint
from core.solver import Level
from core.targets import Target


class Sums:
    """Finished Hessians of one calibration: `folder`/`key`/TARGET."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder / key[:32], key

    def has(self, target: Target) -> bool:
        return self._file(target).is_file()

    def write(self, target: Target, hessian: Hessian) -> None:
        facts = {"key": self._key(target), "counts": hessian.counts()}
        write_tensors(self._file(target), hessian.to_tensors("H"), facts)

    def read(self, target: Target, device: torch.device) -> Hessian:
        """The Hessian of a target. Raises EngineError when its file is not what was written."""
        found = read_tensors(self._file(target), self._key(target))
        if found is None:
            self._file(target).unlink(missing_ok=True)
            raise EngineError(
                f"the stored Hessian of {target.name} is damaged and was deleted: start the run "
                "again, it will calibrate that target anew"
            )
        hessian = Hessian(target.columns, device)
        hessian.restore("H", found[0], found[1]["counts"])
        return hessian

    def touch(self) -> None:
        """Mark the calibration as used now: the oldest go first when space is made."""
        if self.folder.is_dir():
            os.utime(self.folder)

    def _file(self, target: Target) -> Path:
        return self.folder / f"{target.name}.safetensors"

    def _key(self, target: Target) -> str:
        return fingerprint([self.key, target.name])


class Solved:
    """A solved target's levels by units kept, in one file."""

    def __init__(self, file: Path, key: str, name: str) -> None:
        self.file, self.key, self.name = file, key, name

    def facts(self) -> dict[str, Any] | None:
        """Facts of an earlier run of the same key; None if there are none."""
        found = read_tensors(self.file, self.key)
        return found[1] if found is not None else None

    def write(
        self,
        levels: Iterable[Level],
        facts: Mapping[str, Any],
        dtype: torch.dtype,
        extra: Mapping[str, Tensor],
    ) -> dict[str, Any]:
        """Store levels with their weights in `dtype`. Raises EngineError where it cannot hold one
        of them."""
        tensors: dict[str, Tensor] = dict(extra)
        errors: dict[str, float] = {}
        for level in levels:
            kept = len(level.keep)
            tensors[f"keep.{kept}"] = level.keep
            tensors[f"W.{kept}"] = level.W.to(dtype)
            if level.shift is not None:
                tensors[f"shift.{kept}"] = level.shift
            if not math.isnan(level.error):
                errors[str(kept)] = level.error
            if not bool(torch.isfinite(tensors[f"W.{kept}"]).all()):
                raise EngineError(
                    f"the new weights of {self.name} are too large for {dtype}: raise the "
                    "damping or calibrate with more prompts"
                )
        facts = {**facts, "error": errors}
        write_tensors(self.file, tensors, {**facts, "key": self.key})
        return facts

    def tensors(self) -> dict[str, Tensor]:
        """Everything stored. Raises EngineError when the file was changed since it was written."""
        found = read_tensors(self.file, self.key)
        if found is None:
            raise EngineError(
                f"{self.file} was changed during the run: start it again, it will go on"
            )
        return found[0]

    def level(self, kept: int) -> Level:
        """One level. Raises EngineError as `tensors` does."""
        tensors = self.tensors()
        return Level(
            tensors[f"keep.{kept}"], tensors[f"W.{kept}"], math.nan, tensors.get(f"shift.{kept}")
        )
