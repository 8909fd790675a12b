"""What to prune and how, and the rounds of calibration that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from core.calibrate import timestep_weights
from core.errors import BadInput
from core.panels import size_bytes
from core.presets import CALIBRATION_STEPS
from core.targets import Target


@dataclass(frozen=True)
class PruneSettings:
    """What to prune and how.

    `model` is anything `loading.load_pipeline` takes. `sparsities` are shares of heads and neurons
    in (0, 1). Method "obs" calibrates, selects and compensates; "magnitude" removes the units of
    least weight and changes nothing else. Everything below `method` is about "obs" alone.

    Calibration: empty `prompts` mean the built-in ones, `num_prompts` caps both, `size` (pixels)
    None is the model's own, `guidance` up to 1 turns CFG off, `batch_size` None follows from the
    size. `token_budget` tokens a column are drawn at random from what the prompts show, None takes
    all. With `packages` above 1 the targets are calibrated in that many parts, each on a model
    whose earlier parts are pruned already, for every sparsity anew (OBS-Diff, Sec. 3).

    `allocate` "uniform" takes the share from every target; "loss" takes it where the prediction
    suffers least, at the `budget` ("params", "flops", or "ms" measured on this device) that the
    uniform share would leave.
    `held_out` prompts that were not calibrated on measure the result; 0 skips that.
    """

    model: str
    sparsities: tuple[float, ...]
    method: Literal["obs", "magnitude"] = "obs"
    prompts: tuple[str, ...] = ()
    num_prompts: int = 100
    steps: int = CALIBRATION_STEPS
    guidance: float = 7.0
    size: int | None = None
    seed: int = 0
    timestep_weights: str = "log_decrease"
    damping: float = 0.01
    batch_size: int | None = None
    token_budget: int | None = 64
    packages: int = 1
    allocate: Literal["uniform", "loss"] = "uniform"
    budget: Literal["params", "flops", "ms"] = "params"
    held_out: int = 8

    def __post_init__(self) -> None:
        """Raise BadInput for settings that no model could run."""
        if not self.sparsities or not all(0 < sparsity < 1 for sparsity in self.sparsities):
            raise BadInput(
                f"sparsities {self.sparsities} must be shares between 0 and 1: "
                "ask for one or several such as 0.1, 0.3"
            )
        if len({variant_name(sparsity) for sparsity in self.sparsities}) < len(self.sparsities):
            raise BadInput(f"sparsities {self.sparsities} repeat one: name each once")
        for field, known in (
            ("method", ("obs", "magnitude")),
            ("allocate", ("uniform", "loss")),
            ("budget", ("params", "flops", "ms")),
        ):
            if getattr(self, field) not in known:
                raise BadInput(
                    f"{field} {getattr(self, field)!r} is not known: choose {' or '.join(known)}"
                )
        if self.num_prompts < 1 or self.steps < 1 or self.damping < 0 or self.packages < 1:
            raise BadInput(
                "a calibration needs num_prompts, steps and packages of at least 1 and damping of "
                f"at least 0: got {self.num_prompts}, {self.steps}, {self.packages}, {self.damping}"
            )
        if (self.token_budget is not None and self.token_budget < 1) or self.held_out < 0:
            raise BadInput(
                "the token budget is at least 1 a column and held-out prompts at least 0: "
                f"got {self.token_budget}, {self.held_out}"
            )
        if self.allocate == "loss" and (self.method != "obs" or self.packages > 1):
            raise BadInput(
                "allocation by loss needs the loss curves of one calibration: choose method obs "
                "and one package"
            )
        timestep_weights(self.timestep_weights, 1)  # refuses a name it does not know


@dataclass(frozen=True, slots=True)
class Round:
    """Targets calibrated together and solved at `sparsities`, while `before` are pruned to the
    only one of these; nothing is pruned when `before` is empty."""

    targets: tuple[Target, ...]
    sparsities: tuple[float, ...]
    before: tuple[Target, ...] = ()


def variant_name(sparsity: float) -> str:
    """Folder of a variant: s30 for 0.3, s12.5 for 0.125."""
    return f"s{100 * sparsity:g}"


def memory_groups(targets: Sequence[Target], budget: float) -> list[tuple[Target, ...]]:
    """Split targets, in order, into groups whose Hessians take at most `budget` bytes together.

    The grouping costs passes and changes no result.
    """
    groups: list[list[Target]] = []
    used = 0
    for target in targets:
        size = size_bytes(target.columns)
        if not groups or used + size > budget:
            groups.append([])
            used = 0
        groups[-1].append(target)
        used += size
    return [tuple(group) for group in groups]


def rounds(
    targets: Sequence[Target], sparsities: Sequence[float], packages: int, memory: float
) -> list[Round]:
    """The rounds of a run. The first package sees the dense model, so one calibration serves all
    sparsities; each later one follows for every sparsity by itself."""
    blocks = sorted({target.block for target in targets})
    cuts = [round(part * len(blocks) / packages) for part in range(packages + 1)]
    parts = [
        [target for target in targets if target.block in blocks[start:end]]
        for start, end in pairwise(cuts)
    ]
    parts = [part for part in parts if part]
    levels = tuple(sorted(sparsities))
    found = [Round(group, levels) for group in memory_groups(parts[0], memory)]
    for sparsity in levels:
        for number, part in enumerate(parts[1:], start=1):
            before = tuple(target for earlier in parts[:number] for target in earlier)
            found += [Round(group, (sparsity,), before) for group in memory_groups(part, memory)]
    return found
