"""What is known about each model of this store: the figures that prunes, comparisons and benches
measured, one row a model, and which of them nobody would throw away.

The sweep view, the exported tables and the shared page all show these rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from obstui.text import one_line

if TYPE_CHECKING:
    from obstui.store.views import JobView

DENSE = "dense"
_HALF = 2  # bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """One model. `base` names the dense model it was made from and `model` the variant, or
    "dense". Sizes are the UNet's weights in bytes as they lie on disk, the dense one's as they
    would in the half precision that variants are saved in; `step_ms` and `image_s` are medians
    of a bench, or a comparison's seconds an image; None is not measured. `job_id` made the model,
    with `settings` that others of its base were not made with ("damping 0.05"), and `measured_by`
    are the jobs that measured it. `apart`: its pictures were compared with other prompts, seeds or
    settings than those of the others of its base, which their figures must not be held against."""

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
    apart: bool = False
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
    its digits without the unit, which the label has. `log`: it spans powers of ten."""

    key: str
    label: str
    better: int
    words: Callable[[float], str]
    scale: float = 1.0
    log: bool = False

    def among(self, rows: Iterable[Measured]) -> list[Measured]:
        """Those of `rows` whose figures can be held against each other."""
        return [row for row in rows if not (row.apart and self.key in _COMPARED)]

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
        be held against the others."""
        value = self.of(row)
        star = "*" if row.apart and self.key in _COMPARED else ""
        return "–" if value is None else f"{self.words(value)}{star}"


def _digits(form: str) -> Callable[[float], str]:
    return lambda value: format(value, form)


def _distance(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


COSTS = (
    Metric("params", "parameters (M)", -1, _digits(",.1f"), scale=1e6),
    Metric("size_bytes", "on disk (MiB)", -1, _digits(",.1f"), scale=2**20),
    Metric("step_ms", "step (ms)", -1, _digits(",.1f")),
    Metric("image_s", "image (s)", -1, _digits(",.2f")),
)
QUALITIES = (
    Metric("noise_error", "noise error", -1, _distance, log=True),
    Metric("latent_distance", "latent distance", -1, _distance, log=True),
    Metric("psnr", "PSNR (dB)", 1, _digits(".1f")),
    Metric("ssim", "SSIM", 1, _digits(".3f")),
    Metric("clip", "CLIP score", 1, _digits(".2f")),
    Metric("attributes", "attributes (%)", 1, _digits(".1f"), scale=0.01),
)
METRICS = COSTS + QUALITIES

_COMPARED = ("psnr", "ssim", "latent_distance", "attributes", "clip")
"""What only comparisons measure, under conditions of their own."""


def measured(jobs: Iterable[JobView]) -> tuple[Measured, ...]:
    """A row for each model that succeeded jobs made or measured: by base, dense first, then by
    parameters, most first. Of several measurements the newest job's count, and a bench's times
    before a comparison's."""
    rows: dict[tuple[str, str], Measured] = {}
    done = sorted((job for job in jobs if job.state == "succeeded"), key=lambda job: job.id)
    for job in done:
        for made in (job.result or {}).get("variants") or ():
            row = _made(job, made)
            rows[row.base, row.model] = row
    bases = {row.model: row.base for row in rows.values()}
    yardsticks = _yardsticks(done)
    # What was compared otherwise comes first: the yardstick's own figures then replace it.
    compared = sorted(done, key=lambda job: yardsticks.get(_base(job)) == _conditions(job))
    for key, read, jobs_ in (("models", _compared, compared), ("latency", _timed, done)):
        for job in jobs_:
            for found in (job.result or {}).get(key) or ():
                name = str(found.get("model"))
                base = bases.get(name) or _base(job)
                row = rows.get((base, name)) or _bare(base, name, found)
                known = tuple(dict.fromkeys((*row.measured_by, job.id)))
                apart = row.apart
                if key == "models":
                    apart = yardsticks.get(_base(job)) != _conditions(job)
                    forgotten: dict[str, Any] = dict.fromkeys(_COMPARED)
                    row = row if apart == row.apart else replace(row, **forgotten)
                    if apart:
                        found = {**found, "latency": None}  # of pictures of another size, perhaps
                rows[base, name] = replace(row, measured_by=known, apart=apart, **read(found))
    told = _told_apart(rows.values(), {job.id: job.spec for job in done})
    return tuple(sorted(told, key=lambda row: (row.base, not row.dense, -row.params)))


_SETTINGS = {
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
        makers = {row.job_id: specs[row.job_id] for row in models if row.job_id is not None}
        varied = [
            key
            for key in _SETTINGS
            if len({json.dumps(spec[key]) for spec in makers.values() if key in spec}) > 1
        ]
        for row in models:
            spec = makers.get(row.job_id or 0) or {}
            told = (f"{_SETTINGS[key]} {_plain(spec[key])}" for key in varied if key in spec)
            yield replace(row, settings=", ".join(told))


def _plain(value: Any) -> str:
    return "own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _base(job: JobView) -> str:
    return str(job.spec.get("model", ""))


def _conditions(job: JobView) -> str:
    """Under which a comparison painted: equal ones can be held against each other."""
    return json.dumps({k: v for k, v in job.spec.items() if k not in ("name", "variants")})


def _yardsticks(done: Iterable[JobView]) -> dict[str, str]:
    """By base, the conditions under which most models were compared; of several the newest."""
    models: dict[str, dict[str, set[str]]] = {}
    for job in done:
        for found in (job.result or {}).get("models") or ():
            groups, conditions = models.setdefault(_base(job), {}), _conditions(job)
            alike = groups.pop(conditions, set())
            groups[conditions] = alike | {str(found.get("model"))}  # now the newest
    return {
        base: max(reversed(groups), key=lambda conditions: len(groups[conditions]))
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
    yardsticks = _yardsticks(done)
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


def _bare(base: str, name: str, found: Mapping[str, Any]) -> Measured:
    """A model that no job here made: the dense one, or a variant's folder."""
    params = int(found["params"])
    return Measured(
        base=base,
        model=name,
        method=str(found.get("method") or ""),
        sparsity=float(found.get("sparsity") or 0.0),
        params=params,
        size_bytes=_HALF * params if name == DENSE else None,
    )


def _compared(found: Mapping[str, Any]) -> dict[str, Any]:
    figures = {key: found[key] for key in _COMPARED if found.get(key) is not None}
    if found.get("latency") is not None:
        figures["image_s"] = found["latency"]
    return figures


def _timed(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("step_ms", "image_s") if found.get(key) is not None}


def front(rows: Sequence[Measured], cost: Metric, quality: Metric) -> frozenset[tuple[str, str]]:
    """(base, model) of the variants that no other variant of the same base beats: none has at most
    their cost and at least their quality and is better in one. Models without both are left out,
    and so is the dense one, which everything is measured against."""
    places = [
        (row, row_cost * -cost.better, row_quality * quality.better)
        for row in cost.among(quality.among(rows))
        if not row.dense
        and (row_cost := cost.of(row)) is not None
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
    writer.writerow([*names, *(metric.key for metric in METRICS), "measured_by", "apart"])
    for row in rows:
        figures = [getattr(row, metric.key) for metric in METRICS]
        named = [_cell(getattr(row, name)) for name in names]
        jobs = " ".join(map(str, row.measured_by))
        known = ["" if value is None else value for value in figures]
        writer.writerow([*named, *known, jobs, int(row.apart)])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Spreadsheets run a text that begins like a formula; a quote before it stops them."""
    if not isinstance(value, str):
        return "" if value is None else value
    line = one_line(value)
    return f"'{line}" if line[:1] in tuple("=+-@＝＋－＠") else line


def as_markdown(rows: Sequence[Measured]) -> str:
    """A table of the figures that at least one row has; a star marks those of rows apart."""
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
