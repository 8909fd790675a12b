"""What is known about each model of this store: the figures that prunes, comparisons and benches
measured, one row a model, and which of them nobody would throw away.

The sweep view, the exported tables and the shared page all show these rows.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from obstui.spread import unsure
from obstui.text import one_line

if TYPE_CHECKING:
    from obstui.store.views import JobView

DENSE = "dense"
_HALF = 2  # bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """One model. `base` names the dense model it was made from and `model` the variant, or
    "dense". Sizes are the UNet's weights in bytes as they lie on disk, the dense one's as they
    would in the half precision that variants are saved in; `step_ms` is the median of a bench,
    `image_s` that of a bench or a comparison; None is not measured. `job_id` made the model, with
    `settings` that others of its base were not made with ("damping 0.05"), and `measured_by` are
    the jobs that measured it. `apart` names the figures that were measured under other conditions
    than those of the others of its base, which they must not be held against; `unsure` the times
    that do not differ from the dense model's by more than they scatter. `compared_by` is the
    comparison whose figures these are. `deleted`: nobody can have this variant any more."""

    base: str
    model: str
    method: str
    sparsity: float
    params: int
    job_id: int | None = None
    sweep_id: int | None = None
    dense_params: int | None = None
    size_bytes: int | None = None
    held_out_error: float | None = None
    noise_error: float | None = None
    latent_distance: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    clip: float | None = None
    attributes: float | None = None
    step_ms: float | None = None
    image_s: float | None = None
    measured_by: tuple[int, ...] = ()
    compared_by: int | None = None
    deleted: bool = False
    apart: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    settings: str = ""

    @property
    def dense(self) -> bool:
        return self.model == DENSE

    @property
    def removed(self) -> float | None:
        """The share of the dense UNet's parameters that is gone; None where that is unknown."""
        if self.dense:
            return 0.0
        return 1 - self.params / self.dense_params if self.dense_params else None


@dataclass(frozen=True, slots=True)
class Reseed:
    """How far the dense model's own pictures of one prompt are apart from one seed to another, the
    mean over `pictures` pairs: the scale for what a variant changes."""

    pictures: int
    psnr: float | None
    ssim: float | None
    latent_distance: float | None

    @property
    def words(self) -> str:
        """Its figures in one line, each with the name that charts give it."""
        return ", ".join(
            f"{metric.label} {metric.words(value)}"
            for metric in QUALITIES
            if (value := metric.of_reseed(self)) is not None
        )


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of `Measured`. `better` is +1 where more is better, -1 where less is. `words` are
    its digits without the unit, which the label has. `log`: it spans powers of ten. `most`: none is
    more, in the label's unit."""

    key: str
    label: str
    better: int
    words: Callable[[float], str]
    scale: float = 1.0
    log: bool = False
    most: float = math.inf

    def among(self, rows: Iterable[Measured]) -> list[Measured]:
        """Those of `rows` whose figures can be held against each other, to choose one of them."""
        return [row for row in rows if self.key not in row.apart and not row.deleted]

    def of(self, row: Measured) -> float | None:
        """In the label's unit."""
        value = getattr(row, self.key)
        return None if value is None else float(value) / self.scale

    def of_reseed(self, reseed: Reseed | None) -> float | None:
        """As `of`, for the dense model under another seed."""
        value = getattr(reseed, self.key, None)
        return None if value is None else float(value) / self.scale

    def text(self, row: Measured) -> str:
        """The figure as a table shows it; a dash where it was not measured, a star where it cannot
        be held against the others, a tilde where it may as well be the dense model's."""
        value = self.of(row)
        about, star = "~" * (self.key in row.unsure), "*" * (self.key in row.apart)
        return "–" if value is None else f"{about}{self.words(value)}{star}"


def _digits(form: str) -> Callable[[float], str]:
    return lambda value: format(value, form)


def _distance(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


COSTS = (
    Metric("params", "parameters (M)", -1, _digits(",.1f"), scale=1e6),
    Metric("size_bytes", "weights (MiB)", -1, _digits(",.1f"), scale=2**20),
    Metric("step_ms", "step (ms)", -1, _digits(",.1f")),
    Metric("image_s", "image (s)", -1, _digits(",.2f")),
)
QUALITIES = (
    Metric("psnr", "PSNR (dB)", 1, _digits(".1f")),
    Metric("ssim", "SSIM", 1, _digits(".3f"), most=1.0),
    Metric("clip", "CLIP score", 1, _digits(".2f")),
    Metric("attributes", "attributes (%)", 1, _digits(".1f"), scale=0.01, most=100.0),
    Metric("latent_distance", "latent distance", -1, _distance, log=True),
    Metric("noise_error", "noise error", -1, _distance, log=True),
)
"""What a person wants to see first where it was measured comes first: the front goes by it."""
METRICS = COSTS + QUALITIES

_CHECKED = ("noise_error", "held_out_error")
_COMPARED = ("psnr", "ssim", "latent_distance", "attributes", "clip")
_TIMES = ("step_ms", "image_s")


def axes(rows: Iterable[Measured]) -> tuple[list[Metric], list[Metric]]:
    """The costs and the qualities that a variant of `rows` has."""
    variants = [row for row in rows if not row.dense]
    costs, qualities = (
        [metric for metric in group if any(metric.of(row) is not None for row in variants)]
        for group in (COSTS, QUALITIES)
    )
    return costs, qualities


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a job measured of a model: only figures under the same `conditions` can be held against
    each other."""

    base: str
    model: str
    conditions: str
    job_id: int
    figures: Mapping[str, Any]
    unsure: frozenset[str] = frozenset()


def measured(jobs: Iterable[JobView]) -> tuple[Measured, ...]:
    """A row for each model that succeeded jobs made or measured: by base, dense first, then by
    parameters, most first. Of several measurements those count that most models share, and of them
    the newest."""
    rows: dict[tuple[str, str], Measured] = {}
    done = sorted((job for job in jobs if job.state == "succeeded"), key=lambda job: job.id)
    for job in done:
        for made in (job.result or {}).get("variants") or ():
            row = _made(job, made)
            rows[row.base, row.model] = row
    bases = {row.model: row.base for row in rows.values()}
    makers = {job.id for job in done if job.kind in ("prune", "import")}
    for job in done:
        for found in _measurements(job):
            place = bases.get(found["model"]) or _base(job), str(found["model"])
            row = rows.get(place) or _bare(*place, found, makers)
            if job.id != row.job_id:
                rows[place] = replace(row, measured_by=(*row.measured_by, job.id))
    for keys, conditions in _FAMILIES:
        findings = _findings(done, bases, keys, conditions)
        yardsticks = _yardsticks(findings)
        # What was measured otherwise comes first: the yardstick's own figures then replace it.
        for each in sorted(findings, key=lambda each: yardsticks[each.base] == each.conditions):
            row = rows[each.base, each.model]
            alike = yardsticks[each.base] == each.conditions
            known = {key: getattr(row, key) for key in keys if alike and key not in row.apart}
            figures: dict[str, Any] = dict.fromkeys(keys) | known | dict(each.figures)
            rows[each.base, each.model] = replace(
                row,
                apart=row.apart.difference(keys).union(() if alike else each.figures),
                unsure=row.unsure.difference(keys).union(each.unsure),
                compared_by=each.job_id if keys is _COMPARED else row.compared_by,
                **figures,
            )
    told = _told_apart(rows.values(), {job.id: job.spec for job in done})
    return tuple(sorted(told, key=lambda row: (row.base, not row.dense, -row.params)))


def _measurements(job: JobView) -> Iterator[Mapping[str, Any]]:
    """The rows of a job's result, by the names that `Measured` has."""
    result = job.result or {}
    yield from ({**made, "model": str(made["id"])} for made in result.get("variants") or ())
    yield from ({**row, "image_s": row.get("latency")} for row in result.get("models") or ())
    yield from result.get("latency") or ()


def _findings(
    done: Iterable[JobView],
    bases: Mapping[str, str],
    keys: Sequence[str],
    conditions: Callable[[JobView], str],
) -> list[_Finding]:
    """All that these jobs measured of figures that share their conditions, oldest first; a bench's
    times count as newer than a comparison's, which are taken in passing."""
    found = []
    for job in sorted(done, key=lambda job: (job.kind == "bench", job.id)):
        vague = {key: unsure(job.result or {}, key) for key in keys if key in _TIMES}
        for row in _measurements(job):
            model = str(row["model"])
            figures = {key: row[key] for key in keys if row.get(key) is not None}
            noisy = frozenset(key for key in figures if model in vague.get(key, ()))
            if figures:
                base = bases.get(model) or _base(job)
                found.append(_Finding(base, model, conditions(job), job.id, figures, noisy))
    return found


SETTINGS = {
    "num_prompts": "prompts", "damping": "damping", "packages": "packages",
    "timestep_weights": "weights", "allocate": "allocate", "budget": "budget", "steps": "steps",
    "guidance": "guidance", "size": "size", "seed": "seed", "token_budget": "tokens",
}  # fmt: skip
"""What a sweep goes through beside sparsity and method, and what it is called."""


def _told_apart(
    rows: Iterable[Measured], specs: Mapping[int, Mapping[str, Any]]
) -> Iterator[Measured]:
    """The rows with those settings of the jobs that made them in which they differ."""
    for _, group in groupby(sorted(rows, key=lambda row: row.base), key=lambda row: row.base):
        models = list(group)
        # Magnitude has the same fields and looks at none of them.
        makers = {
            row.job_id: specs[row.job_id]
            for row in models
            if row.job_id is not None and row.method != "magnitude"
        }
        varied = [
            key
            for key in SETTINGS
            if len({json.dumps(spec[key]) for spec in makers.values() if key in spec}) > 1
        ]
        for row in models:
            spec = makers.get(row.job_id or 0) or {}
            told = (f"{SETTINGS[key]} {plain(spec[key])}" for key in varied if key in spec)
            yield replace(row, settings=", ".join(told))


def plain(value: Any) -> str:
    """A setting's value as a person writes it."""
    return (
        "the model's" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _base(job: JobView) -> str:
    return str(job.spec.get("model", ""))


def _conditions(job: JobView) -> str:
    """Under which a comparison painted: equal ones can be held against each other."""
    from obstui.painted import made_with

    told = {k: v for k, v in job.spec.items() if k not in ("name", "variants")}
    return json.dumps({**told, **asdict(made_with(job))})


def _check(job: JobView) -> str:
    """Under which a prune measured on held-out prompts; seeds only draw other noise."""
    from obstui.painted import made_with

    made = made_with(job)
    return json.dumps([job.spec.get("held_out"), made.steps, made.guidance, made.size])


# A machine has better and worse days: only times of one job can be held against each other.
_FAMILIES: tuple[tuple[tuple[str, ...], Callable[[JobView], str]], ...] = (
    (_CHECKED, _check),
    (_COMPARED, _conditions),
    *(((key,), lambda job: str(job.id)) for key in _TIMES),
)
"""The figures that share their conditions, and what those are."""


def _yardsticks(findings: Iterable[_Finding]) -> dict[str, str]:
    """By base, the conditions under which most models were measured, the dense one among them; of
    several the newest."""
    models: dict[str, dict[str, set[str]]] = {}
    for each in findings:
        groups = models.setdefault(each.base, {})
        alike = groups.pop(each.conditions, set())
        groups[each.conditions] = alike | {each.model}  # now the newest
    return {
        base: max(reversed(groups), key=lambda c: (DENSE in groups[c], len(groups[c])))
        for base, groups in models.items()
    }


def reseed_of(result: Mapping[str, Any] | None) -> Reseed | None:
    """What a comparison, by its result, has measured of its dense model under other seeds."""
    found = (result or {}).get("reseed")
    if not found:
        return None
    return Reseed(
        int(found.get("pictures") or 0),
        found.get("psnr"),
        found.get("ssim"),
        found.get("latent_distance"),
    )


def reseeds(jobs: Iterable[JobView]) -> dict[str, Reseed]:
    """By the base model, as the newest of the comparisons has measured it that can be held against
    each other."""
    done = sorted((job for job in jobs if job.state == "succeeded"), key=lambda job: job.id)
    yardsticks = _yardsticks(_findings(done, {}, _COMPARED, _conditions))
    alike = (job for job in done if yardsticks.get(_base(job)) == _conditions(job))
    known = ((_base(job), reseed_of(job.result)) for job in alike)
    return {base: reseed for base, reseed in known if reseed is not None}


def _made(job: JobView, made: Mapping[str, Any]) -> Measured:
    return Measured(
        base=str(made.get("base") or job.spec.get("model") or "unknown"),
        model=str(made["id"]),
        method=str(made.get("method") or job.kind),
        sparsity=float(made.get("sparsity") or 0.0),
        params=int(made["params"]),
        job_id=job.id,
        sweep_id=job.sweep_id,
        dense_params=made.get("dense_params"),
        size_bytes=made.get("size_bytes"),
        held_out_error=made.get("held_out_error"),
        noise_error=made.get("noise_error"),
    )


def _bare(base: str, name: str, found: Mapping[str, Any], makers: Container[int]) -> Measured:
    """A model that no job here has made, the dense one or a variant's folder, or one that its job,
    which is one of `makers`, has no longer."""
    from obstui.specs import parse_variant_id

    params, named = int(found["params"]), parse_variant_id(name)
    deleted = named is not None and named[0] in makers
    return Measured(
        base=base,
        model=name,
        method="deleted" if deleted else str(found.get("method") or ""),
        deleted=deleted,
        sparsity=float(found.get("sparsity") or 0.0),
        params=params,
        size_bytes=_HALF * params if name == DENSE else None,
    )


def front(rows: Sequence[Measured], cost: Metric, quality: Metric) -> frozenset[tuple[str, str]]:
    """(base, model) of the variants that no other variant of the same base beats: none has at most
    their cost and at least their quality and is better in one. Models without both are left out,
    and so is the dense one, which everything is measured against; a time that is not told from the
    dense model's counts as that."""
    usual = {row.base: cost.of(row) for row in rows if row.dense}

    def price_of(row: Measured) -> float | None:
        return usual.get(row.base, cost.of(row)) if cost.key in row.unsure else cost.of(row)

    places = [
        (row, row_cost * -cost.better, row_quality * quality.better)
        for row in cost.among(quality.among(rows))
        if not row.dense
        and (row_cost := price_of(row)) is not None
        and (row_quality := quality.of(row)) is not None
    ]
    return frozenset(
        (row.base, row.model)
        for row, price, worth in places
        if not any(
            other.base == row.base
            and other_price <= price
            and other_worth >= worth
            and (other_price, other_worth) != (price, worth)
            for other, other_price, other_worth in places
        )
    )


def as_csv(rows: Sequence[Measured]) -> str:
    """All figures at full precision, in base units (parameters, bytes, milliseconds, seconds)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("base", "model", "method", "settings", "sparsity", "held_out_error")
    ends = ("measured_by", "apart", "unsure")
    writer.writerow([*names, *(metric.key for metric in METRICS), *ends])
    for row in rows:
        figures = [getattr(row, metric.key) for metric in METRICS]
        named = [_cell(getattr(row, name)) for name in names]
        jobs = " ".join(map(str, row.measured_by))
        known = ["" if value is None else value for value in figures]
        marks = (" ".join(sorted(keys)) for keys in (row.apart, row.unsure))
        writer.writerow([*named, *known, jobs, *marks])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Spreadsheets run a text that begins like a formula; a quote before it stops them."""
    if not isinstance(value, str):
        return "" if value is None else value
    line = one_line(value)
    return f"'{line}" if line[:1] in tuple("=+-@＝＋－＠") else line


def as_markdown(rows: Sequence[Measured]) -> str:
    """A table of the figures that at least one row has, marked as `Metric.text` does."""
    shown = [metric for metric in METRICS if any(metric.of(row) is not None for row in rows)]
    varied = any(row.settings for row in rows)
    words = ["model", "method", *["settings"] * varied]
    head = [*words, "sparsity", *(metric.label for metric in shown)]
    lines = [head, [*["---"] * len(words), *["---:"] * (len(head) - len(words))]]
    for row in rows:
        name = row.base if row.dense else f"{row.base} {row.model}"
        share = f"{row.sparsity * 100:g}%"
        figures = (_escaped(metric.text(row)) for metric in shown)
        told = [name, row.method, *[row.settings] * varied]
        lines.append([*map(_escaped, told), share, *figures])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "\\`*_[]<>#|" else c for c in one_line(text))
