"""Job specs: the one validated form behind the command line, the dashboard and job files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from obstui.errors import Problem
from obstui.text import label, one_line, plain

SPEC_VERSION = 1
MAX_PROMPTS = 10_000
DEFAULT_PROMPTS = {"prune": 100, "compare": 8}
"""How many prompts of a longer list a job takes, by its kind; pictures are made of all."""

TIMESTEP_WEIGHTS = ("uniform", "linear_increase", "linear_decrease", "log_increase", "log_decrease")
METHODS = ("obs", "magnitude")
ALLOCATIONS = ("uniform", "loss")
BUDGETS = ("params", "flops", "ms")

_VARIANT = re.compile(r"^(?P<job>[1-9]\d{0,17})@(?P<percent>\d{1,2}(?:\.\d{1,2})?)$")
_HUB_ID = re.compile(r"^(?:modelscope:)?[\w.-]+/[\w.-]+$")


class BadSpec(Problem):
    """A request that cannot become a job."""

    exit_code = 2


class NoSuchModel(BadSpec):
    """The model or variant named does not exist."""

    exit_code = 3


def _sparsities(value: Any) -> Any:
    """Accept 0.3, "0.1,0.3" and [0.1, 0.3]; percentages are a mistake worth naming."""
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, (int, float)):
        parts = [parts]
    try:
        levels = sorted({round(float(part), 4) for part in parts})
    except (TypeError, ValueError):
        raise ValueError("give fractions, for example 0.1,0.2,0.3") from None
    if not levels:
        raise ValueError("give at least one fraction, for example 0.3")
    for level in levels:
        if not 0.0 < level <= 0.9:
            mend = (
                f"for {level:g} % write {level / 100:g}" if 2 <= level <= 90 else "for example 0.3"
            )
            raise ValueError(f"{level:g} is not between 0 and 0.9 ({mend})")
    return tuple(levels)


def _prompts(value: Any) -> Any:
    prompts = [value] if isinstance(value, str) else list(value)
    if any(not isinstance(p, str) or not p.strip() for p in prompts):
        raise ValueError("a prompt is empty")
    return tuple(plain(p).strip() for p in prompts)


Sparsities = Annotated[tuple[float, ...], BeforeValidator(_sparsities)]
Prompts = Annotated[tuple[str, ...], BeforeValidator(_prompts), Field(max_length=MAX_PROMPTS)]
Packages = Annotated[
    int, BeforeValidator(lambda value: 1 if value == "auto" else value), Field(ge=1, le=64)
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Guidance = Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=32, le=4096, multiple_of=8)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(max_length=120, description="a label of your own")] = ""
    model: Annotated[str, Field(min_length=1, max_length=1024)] = "demo"
    seed: Seed = 0
    steps: Annotated[Steps | None, Field(description="denoising steps; None: the model's own")] = (
        None
    )
    guidance: Guidance | None = None
    size: Annotated[Size | None, Field(description="pixels a side; None: the model's own")] = None

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        return label(value)

    @property
    def variant_refs(self) -> tuple[str, ...]:
        """The variants that the job reads: ids ("12@30") or folders."""
        return ()

    @property
    def title(self) -> str:
        """What a list shows when the job has no name of its own."""
        raise NotImplementedError


class PruneSpec(_Spec):
    """Prune one model to one or several sparsities from one calibration."""

    kind: Literal["prune"] = "prune"
    sparsity: Sparsities = (0.2,)
    method: Literal["obs", "magnitude"] = "obs"
    prompts: Prompts = ()
    num_prompts: Annotated[int, Field(ge=1, le=MAX_PROMPTS)] = DEFAULT_PROMPTS["prune"]
    timestep_weights: Literal[
        "uniform", "linear_increase", "linear_decrease", "log_increase", "log_decrease"
    ] = "log_decrease"
    damping: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.01
    packages: Packages = 1
    token_budget: Annotated[int, Field(ge=1, le=100_000)] = 64
    allocate: Literal["uniform", "loss"] = "uniform"
    budget: Literal["params", "flops", "ms"] = "params"
    held_out: Annotated[int, Field(ge=0, le=32)] = 8

    @model_validator(mode="after")
    def _one_dense_calibration(self) -> PruneSpec:
        if self.allocate == "loss" and (self.method != "obs" or self.packages > 1):
            raise ValueError("allocation by loss needs method obs and one package")
        return self

    @property
    def title(self) -> str:
        levels = ", ".join(percent(s) for s in self.sparsity)
        return f"{short_model(self.model)} to {levels} % by {self.method}"


class GenerateSpec(_Spec):
    """Paint prompts with a dense model or one of its variants."""

    kind: Literal["generate"] = "generate"
    variant: str | None = None
    prompts: Annotated[Prompts, Field(min_length=1)]
    negative: Annotated[str, Field(max_length=10_000)] = ""
    count: Annotated[int, Field(ge=1, le=1000, description="pictures per prompt")] = 1

    @property
    def variant_refs(self) -> tuple[str, ...]:
        return (self.variant,) if self.variant else ()

    @property
    def title(self) -> str:
        more = f" and {len(self.prompts) - 1} more" if len(self.prompts) > 1 else ""
        return one_line(self.prompts[0], limit=60) + more


class CompareSpec(_Spec):
    """Paint the same prompts and seeds with the dense model and its variants, and measure."""

    kind: Literal["compare"] = "compare"
    variants: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    prompts: Prompts = ()
    num_prompts: Annotated[int, Field(ge=1, le=MAX_PROMPTS)] = DEFAULT_PROMPTS["compare"]
    negative: Annotated[str, Field(max_length=10_000)] = ""
    count: Annotated[int, Field(ge=1, le=1000, description="seeds per prompt")] = 1

    @property
    def variant_refs(self) -> tuple[str, ...]:
        return self.variants

    @property
    def title(self) -> str:
        return (
            f"{short_model(self.model)} against {', '.join(short_model(v) for v in self.variants)}"
        )


JobSpec = Annotated[PruneSpec | GenerateSpec | CompareSpec, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[PruneSpec | GenerateSpec | CompareSpec] = TypeAdapter(JobSpec)


def parse(data: dict[str, Any]) -> PruneSpec | GenerateSpec | CompareSpec:
    """A spec from plain data. Raises BadSpec with one sentence that names every field at fault."""
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as err:
        raise BadSpec(explain(err)) from None


def explain(err: ValidationError) -> str:
    """pydantic's findings as one sentence."""
    return "; ".join(text for _, text in faults(err)) + "."


def faults(err: ValidationError) -> list[tuple[str, str]]:
    """pydantic's findings, each as the field at fault ("" for the job as a whole) and words."""
    found = []
    for item in err.errors(include_url=False):
        path = [str(part) for part in item["loc"] if part not in ("prune", "generate", "compare")]
        where = ".".join(path)
        what = one_line(item["msg"].removeprefix("Value error, "), limit=200)
        given = (
            ""
            if item["type"] == "missing" or not path
            else f" (given: {one_line(repr(item['input']), limit=60)})"
        )
        words = f"{where}: {what[:1].lower() + what[1:]}{given}" if where else what
        found.append((path[0] if path else "", words))
    return found


def percent(sparsity: float) -> str:
    """0.3 -> "30", 0.125 -> "12.5"."""
    return f"{round(sparsity * 100, 2):g}"


def variant_id(job_id: int, sparsity: float) -> str:
    """The name of a variant, known as soon as its job is queued: "12@30" is job 12's 30 %."""
    return f"{job_id}@{percent(sparsity)}"


def parse_variant_id(text: str) -> tuple[int, float] | None:
    """(job, sparsity) of "12@30"; None if `text` is not a variant's id."""
    match = _VARIANT.match(text)
    return (int(match["job"]), round(float(match["percent"]) / 100, 4)) if match else None


def short_model(model: str) -> str:
    """The last part of a path or hub id, safe on one line."""
    return one_line(model.rstrip("/").rsplit("/", 1)[-1], limit=40)


def check_model(model: str) -> str:
    """`model` as the child will find it. Raises NoSuchModel.

    "demo", "owner/name" (a hub id) and "modelscope:owner/name" are taken as they are; a folder
    needs `model_index.json`, a file must be `.safetensors`; paths become absolute.
    """
    if model == "demo":
        return model
    path = Path(model).expanduser()
    shown = one_line(model, limit=120)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise NoSuchModel(
                f"The folder {shown} holds no diffusers pipeline (no model_index.json): "
                "name the pipeline's own folder."
            )
        return str(path.absolute())
    if path.is_file():
        if path.suffix != ".safetensors":
            raise NoSuchModel(f"{shown} is not a .safetensors file: convert it first.")
        return str(path.absolute())
    if _HUB_ID.match(model) and not model.startswith((".", "/", "~")):
        return model
    raise NoSuchModel(
        f"No model {shown}: give demo, a hub id (owner/name), modelscope:owner/name, "
        "a pipeline folder or a .safetensors file."
    )


def check_variant(variant: str) -> str:
    """A variant's id as it is, or the absolute path of a variant's folder. Raises NoSuchModel,
    BadSpec.

    Only what can be seen without reading the weights is checked: the files are there, and the
    weights file is as long as its own header says, so that a truncated download is refused now and
    not in the middle of the night.
    """
    if parse_variant_id(variant):
        return variant
    path = Path(variant).expanduser()
    shown = one_line(variant, limit=120)
    unet = path if (path / "pruning.json").is_file() else path / "unet"
    weights = unet / "diffusion_pytorch_model.safetensors"
    if not (unet / "pruning.json").is_file():
        raise NoSuchModel(
            f'No variant {shown}: give an id such as "12@30" or the folder of a variant '
            "(it holds unet/pruning.json)."
        )
    if not weights.is_file():
        raise NoSuchModel(f"The variant {shown} has no {weights.name}: prune or copy it again.")
    expected = _safetensors_bytes(weights)
    if weights.stat().st_size != expected:
        raise BadSpec(
            f"The variant {shown} is damaged: {weights.name} has {weights.stat().st_size} bytes, "
            f"its header says {expected or 'nothing readable'}; copy or prune it again."
        )
    return str(path.absolute())


def _safetensors_bytes(path: Path) -> int | None:
    """The length that a safetensors file's own header promises; None if it is unreadable."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= 100 << 20:
                return None
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
