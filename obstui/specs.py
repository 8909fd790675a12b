"""Job specs: the one validated form behind the command line, the dashboard and job files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from obstui.errors import Problem
from obstui.text import label, one_line, plain, short_model

SPEC_VERSION = 1
MAX_PROMPTS = 10_000
DEFAULT_PROMPTS = {"prune": 100, "compare": 8}
"""How many prompts of a longer list a job takes, by its kind; pictures are made of all."""
CALIBRATION_STEPS: Final = 25
"""Denoising steps of a prune that names none."""
DEFAULT_DAMPING: Final = 0.01
DEFAULT_WEIGHTS: Final = "log_decrease"

TimestepWeights = Literal[
    "uniform", "linear_increase", "linear_decrease", "log_increase", "log_decrease"
]
Method = Literal["obs", "magnitude"]
Allocation = Literal["uniform", "loss"]
Budget = Literal["params", "flops", "ms"]
Scheduler = Literal["ddim", "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_karras", "unipc"]
Format = Literal["diffusers", "pth", "dense"]
"""How a variant leaves: as it is, as one pickle like the published ones, in the dense shapes."""

TIMESTEP_WEIGHTS: tuple[str, ...] = get_args(TimestepWeights)
METHODS: tuple[str, ...] = get_args(Method)
ALLOCATIONS: tuple[str, ...] = get_args(Allocation)
BUDGETS: tuple[str, ...] = get_args(Budget)
SCHEDULERS: tuple[str, ...] = get_args(Scheduler)
FORMATS: tuple[str, ...] = get_args(Format)

_VARIANT = re.compile(r"^(?P<job>[1-9]\d{0,17})@(?P<percent>\d{1,2}(?:\.\d{1,2})?)$")


class BadSpec(Problem):
    """A request that cannot become a job."""

    exit_code = 2


class NoSuchModel(BadSpec):
    """The model or variant named does not exist."""

    exit_code = 3


def _sparsities(value: Any) -> Any:
    """Accept 0.3, "0.1,0.3", [0.1, 0.3] and percentages: "10 %", 10; no share is above 0.9."""
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, (str, int, float)):
        parts = [parts]
    try:
        levels = sorted({round(_share(part), 4) for part in parts})
    except (TypeError, ValueError):
        raise ValueError("give shares, for example 0.1,0.2,0.3 or 10%,20%,30%") from None
    if not levels:
        raise ValueError("give at least one share, for example 0.3")
    for level in levels:
        if not 0.0 < level <= 0.9:
            raise ValueError(f"{level:g} is not above 0 and at most 0.9 (for example 0.3, or 30%)")
    return tuple(levels)


def _share(part: Any) -> float:
    """2 and more can only be meant as a percentage."""
    if isinstance(part, str) and part.strip().endswith("%"):
        return float(part.strip()[:-1]) / 100
    share = float(part)
    return share / 100 if 2 <= share <= 90 else share


def no_switch(value: Any) -> Any:
    """YAML reads yes, no, on and off as true and false, and Python takes those for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("yes and no mean nothing here: write a number, or a word in quotes")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say of a field that there is none of: the one that was probably meant, or all."""
    names = sorted(known)
    like = get_close_matches(name, names, n=1)
    return f"did you mean {like[0]}?" if like else f"there are {', '.join(names)}"


def _prompts(value: Any) -> Any:
    prompts = [value] if isinstance(value, str) else list(value)
    for prompt in prompts:
        no_switch(prompt)
    if any(not isinstance(p, str) or not p.strip() for p in prompts):
        raise ValueError("a prompt is empty: write one, or leave it out")
    return tuple(map(_safe, prompts))


def _safe(prompt: str) -> str:
    return plain(prompt).strip()


def _at_most_those_given(value: int, info: ValidationInfo) -> int:
    prompts = info.data.get("prompts")
    return min(value, len(prompts)) if prompts else value


Whole = Annotated[int, BeforeValidator(no_switch)]
Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(no_switch)]


def _seeds(value: Any) -> Any:
    """Accept 7, "1,2,7" and [1, 2, 7]; a seed twice would be the same picture twice."""
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, int):
        parts = [parts]
    try:
        found = (int(part) if isinstance(part, str) else part for part in parts)
        return tuple(dict.fromkeys(found))
    except (TypeError, ValueError):
        raise ValueError("give whole numbers, for example 1,2,7") from None


Sparsities = Annotated[tuple[float, ...], BeforeValidator(_sparsities)]
Prompts = Annotated[tuple[str, ...], BeforeValidator(_prompts), Field(max_length=MAX_PROMPTS)]
NumPrompts = Annotated[
    Whole,
    Field(ge=1, le=MAX_PROMPTS, validate_default=True),
    AfterValidator(_at_most_those_given),
]
"""Stands behind the prompts, of which it says how many are used."""
Negative = Annotated[str, Field(max_length=10_000), AfterValidator(_safe)]
Packages = Annotated[
    Whole, BeforeValidator(lambda value: 1 if value == "auto" else value), Field(ge=1, le=64)
]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(_seeds), Field(max_length=1000)]
Steps = Annotated[Whole, Field(ge=1, le=1000)]
Guidance = Annotated[Real, Field(ge=0, le=50)]
Size = Annotated[Whole, Field(ge=32, le=4096, multiple_of=8)]
Named = Annotated[str, Field(min_length=1, max_length=1024)]


def _each_once(variants: tuple[str, ...]) -> tuple[str, ...]:
    keys = [parse_variant_id(variant) or variant for variant in variants]
    twice = next((v for n, v in enumerate(variants) if keys[n] in keys[:n]), None)
    if twice is not None:
        raise ValueError(f"{one_line(twice, limit=80)} is named twice: name each variant once")
    return variants


Variants = Annotated[
    tuple[str, ...], Field(min_length=1, max_length=64), AfterValidator(_each_once)
]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(max_length=120, description="a label of your own")] = ""

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


class PipelineSpec(_Spec):
    """A job that runs a model's pipeline: `obstui.plan` can say what it takes."""

    model: Named = "demo"
    seed: Seed = 0
    steps: Annotated[Steps | None, Field(description="denoising steps; None: the model's own")] = (
        None
    )
    guidance: Guidance | None = None
    size: Annotated[Size | None, Field(description="pixels a side; None: the model's own")] = None


class PruneSpec(PipelineSpec):
    """Prune one model to one or several sparsities from one calibration."""

    kind: Literal["prune"] = "prune"
    sparsity: Sparsities = (0.2,)
    method: Method = "obs"
    prompts: Prompts = ()
    num_prompts: NumPrompts = DEFAULT_PROMPTS["prune"]
    timestep_weights: TimestepWeights = DEFAULT_WEIGHTS
    damping: Annotated[Real, Field(gt=0, le=1)] = DEFAULT_DAMPING
    packages: Packages = 1
    token_budget: Annotated[Whole, Field(ge=1, le=100_000)] = 64
    allocate: Allocation = "uniform"
    budget: Budget = "params"
    held_out: Annotated[Whole, Field(ge=0, le=32)] = 8

    @model_validator(mode="after")
    def _every_setting_counts(self) -> PruneSpec:
        if self.allocate == "loss" and (self.method != "obs" or self.packages > 1):
            raise ValueError("allocation by loss needs method obs and one package")
        if self.budget != "params" and self.allocate != "loss":
            raise ValueError("a budget is for allocation by loss: give both, or neither")
        if self.method == "magnitude":
            for name in ("packages", "damping", "timestep_weights"):
                if getattr(self, name) != PruneSpec.model_fields[name].default:
                    raise ValueError(f"{name} is for method obs: magnitude needs no calibration")
        return self

    @property
    def way(self) -> str:
        """The method, and what of its settings is not usual."""
        weights = self.timestep_weights
        ways = [
            self.method,
            f"loss/{self.budget}" if self.allocate == "loss" else "",
            f"{self.packages} packages" if self.packages > 1 else "",
            f"damping {self.damping:g}" if self.damping != DEFAULT_DAMPING else "",
            f"weights {weights}" if weights != DEFAULT_WEIGHTS else "",
        ]
        return ", ".join(filter(None, ways))

    @property
    def title(self) -> str:
        levels = ", ".join(percent(s) for s in self.sparsity)
        by = f" by {self.way}" if self.way != "obs" else ""
        return f"{short_model(self.model)} to {levels} %{by}"


class GenerateSpec(PipelineSpec):
    """Paint prompts with a dense model or one of its variants."""

    kind: Literal["generate"] = "generate"
    variant: str | None = None
    prompts: Annotated[Prompts, Field(min_length=1)]
    negative: Negative = ""
    count: Annotated[Whole, Field(ge=1, le=1000, description="pictures per prompt")] = 1
    seeds: Annotated[Seeds, Field(description="these seeds instead of seed, seed + 1, ...")] = ()
    scheduler: Annotated[Scheduler | None, Field(description="None: the model's own")] = None
    batch: Annotated[Whole, Field(ge=1, le=64, description="pictures made at once")] = 1

    @model_validator(mode="after")
    def _seeds_are_counted(self) -> GenerateSpec:
        if self.seeds and self.count not in (1, len(self.seeds)):
            raise ValueError(
                f"seeds names {len(self.seeds)} and count says {self.count}: give one of them"
            )
        return self

    @property
    def variant_refs(self) -> tuple[str, ...]:
        return (self.variant,) if self.variant else ()

    @property
    def title(self) -> str:
        more = f" and {len(self.prompts) - 1} more" if len(self.prompts) > 1 else ""
        return one_line(self.prompts[0], limit=60) + more


class CompareSpec(PipelineSpec):
    """Paint the same prompts and seeds with the dense model and its variants, and measure."""

    kind: Literal["compare"] = "compare"
    variants: Variants
    prompts: Prompts = ()
    num_prompts: NumPrompts = DEFAULT_PROMPTS["compare"]
    negative: Negative = ""
    count: Annotated[Whole, Field(ge=1, le=1000, description="seeds per prompt")] = 1

    @property
    def variant_refs(self) -> tuple[str, ...]:
        return self.variants

    @property
    def title(self) -> str:
        return (
            f"{short_model(self.model)} against {', '.join(short_model(v) for v in self.variants)}"
        )


class BenchSpec(PipelineSpec):
    """Time the dense model and its variants on this machine, one picture after another."""

    kind: Literal["bench"] = "bench"
    variants: Variants
    repeats: Annotated[Whole, Field(ge=1, le=100, description="pictures that are timed")] = 5
    warm_up: Annotated[Whole, Field(ge=0, le=20, description="pictures before those")] = 1

    @property
    def variant_refs(self) -> tuple[str, ...]:
        return self.variants

    @property
    def title(self) -> str:
        names = ", ".join(short_model(v) for v in self.variants)
        return f"time {short_model(self.model)} against {names}"


class ExportSpec(_Spec):
    """Write a variant for other programs, as the new folder `to` or below the job's own files.

    `base` is what its card tells people to load it into, where the variant does not know or knows
    it by a name that means nothing elsewhere.
    """

    kind: Literal["export"] = "export"
    variant: Named
    format: Format
    to: Named | None = None
    base: Named | None = None

    @property
    def variant_refs(self) -> tuple[str, ...]:
        return (self.variant,)

    @property
    def title(self) -> str:
        return f"{short_model(self.variant)} as {self.format}"


class ImportSpec(_Spec):
    """Make a variant of a published file, a whole pickled UNet, without running any of it.

    With `base`, the dense model it was cut from, the units it kept are found again.
    """

    kind: Literal["import"] = "import"
    file: Named
    base: Named | None = None

    @property
    def title(self) -> str:
        return f"import {short_model(self.file)}"


Spec = PruneSpec | GenerateSpec | CompareSpec | BenchSpec | ExportSpec | ImportSpec
JobSpec = Annotated[Spec, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Spec] = TypeAdapter(JobSpec)
KINDS: Mapping[str, type[BaseModel]] = {
    spec.model_fields["kind"].default: spec for spec in get_args(Spec)
}


def parse(data: dict[str, Any]) -> Spec:
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
        kind = next((part for part in item["loc"] if part in KINDS), None)
        # The place of a value in a list is not told: the value itself is.
        path = [part for part in item["loc"] if isinstance(part, str) and part != kind]
        where = ".".join(path)
        message = item["msg"].removeprefix("Value error, ")
        what = one_line(message.replace("Input should be", "must be"), limit=200)
        given = f" (given: {_shown(item['input'])})" if path else ""
        if item["type"] == "missing":
            what, given = "must be given", ""
        elif item["type"] == "extra_forbidden" and kind:
            known = nearest(path[-1], KINDS[str(kind)].model_fields.keys() - {"kind"})
            what, given = f"a job of kind {kind} has no such field: {known}", ""
        words = f"{where}: {what[:1].lower() + what[1:]}{given}" if where else what
        found.append((path[0] if path else "", words))
    return found


def uses_all(spec: Mapping[str, Any]) -> bool:
    """Whether a stored spec would use all its prompts without a number: one more is used, too."""
    prompts = len(spec.get("prompts") or ())
    usual = DEFAULT_PROMPTS.get(str(spec.get("kind")), 0)
    return 0 < prompts <= usual and spec.get("num_prompts") == prompts


def _shown(value: object) -> str:
    """A value as it was given, those of a list one by one."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return one_line(", ".join(map(repr, values)), limit=60)


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


def named_variants(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The variants that a stored spec names, whatever version wrote it."""
    return tuple(spec.get("variants") or filter(None, [spec.get("variant")]))
