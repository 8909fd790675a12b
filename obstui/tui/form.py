"""What the form for a new job asks, and how its answers become a spec."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstui import matrix as matrices
from obstui import specs
from obstui.lookup import LOOKUPS
from obstui.options import JobOptions, duration, job_options
from obstui.prompt_files import read_prompts
from obstui.text import counted, one_line, short_model
from obstui.tui.pickable import Sort

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import JobView

KINDS = (
    ("prune: make smaller variants of a model", "prune"),
    ("generate: paint prompts", "generate"),
    ("compare: dense against variants", "compare"),
    ("bench: time dense and variants", "bench"),
    ("export: a variant for other programs", "export"),
    ("import: a published pruned UNet", "import"),
)
"""Words and kind, as a Select takes them."""

_ALL = tuple(kind for _, kind in KINDS)


@dataclass(frozen=True, slots=True)
class Field:
    """One question. `kinds` are the job kinds that ask it; `hint` stands in the empty field and
    names the default, `help` is a sentence for who stops there. `more`: asked only on request.
    The first of `choices` is the default, "" leaves it to the model. A job has one value of what
    `varies`: several, with commas, are a job each. `pick`: what its answer is, where there is a
    list to pick it from."""

    key: str
    label: str
    hint: str = ""
    kinds: tuple[str, ...] = ("prune", "generate", "compare")
    choices: tuple[str, ...] = ()
    wide: bool = False
    start: str = ""
    help: str = ""
    more: bool = False
    varies: bool = False
    pick: Sort | None = None

    @property
    def usual(self) -> tuple[str, str]:
        """The answers that leave a job as it would be without them."""
        return (self.choices[0] if self.choices else self.start), self.hint

    @property
    def advice(self) -> str:
        """All that there is to say to who stops here."""
        parts = [self.help]
        parts += ["Commas: one job each."] if self.varies else []
        parts += ["ctrl+n lists them."] if self.pick else []
        return " ".join(parts)


_PRUNE, _PAINT, _SAMPLED = ("prune",), ("generate", "compare"), ("prune", "compare")
_RUNS = ("prune", "generate", "compare", "bench")
_PICTURES = ("generate",)

FIELDS = (
    Field("name", "name", "a label of your own", _ALL, wide=True,
          help="What the queue calls the job; without one it says what the job does."),
    Field("model", "model", "demo, owner/name, a folder or a .safetensors file", _RUNS, wide=True,
          start="demo", varies=True, pick="model", help="The dense model."),
    Field("file", "file", "a .pth file of a whole UNet", ("import",), wide=True, pick="file",
          help="Read without running any of its code."),
    Field("base", "base", "the dense model it was cut from", ("import", "export"), wide=True,
          pick="model", help="The dense model it was cut from, where known."),
    Field("sparsity", "sparsity", "0.1,0.2,0.3", _PRUNE, start="0.1,0.2,0.3",
          help="Shares to remove; all of them come from one calibration."),
    Field("method", "method", kinds=_PRUNE, choices=specs.METHODS,
          help="obs corrects what is left by calibration; magnitude only looks at the weights."),
    Field("prompts", "prompts", wide=True, help="One a line."),
    Field("prompt_file", "prompt file", "a text file, one prompt a line", wide=True, pick="file",
          help="Used where no prompts are written above."),
    Field("variant", "variant", kinds=("generate", "export"), wide=True,
          help="A pruned variant, also one that a waiting job will make."),
    Field("variants", "variants", kinds=("compare", "bench"), wide=True,
          help="Space marks; also those that a waiting job will make."),
    Field("format", "format", kinds=("export",), choices=specs.FORMATS,
          help="diffusers: as it is; pth: one pickle like the published; dense: full shapes."),
    Field("to", "to", "below the job's own files", ("export",), wide=True, pick="new",
          help="A new folder to write to."),
    Field("negative", "negative", "what must not be in the picture", _PAINT, wide=True,
          help="What the pictures must not show."),
    Field("num_prompts", "prompts used", "", _SAMPLED, varies=True,
          help="How many of the prompts are used, from the first."),
    Field("repeats", "repeats", "5", ("bench",), varies=True, help="Pictures that are timed."),
    Field("warm_up", "warm-up", "1", ("bench",), varies=True,
          help="Pictures before those that are timed."),
    Field("timestep_weights", "weights", kinds=_PRUNE,
          choices=("log_decrease", *(w for w in specs.TIMESTEP_WEIGHTS if w != "log_decrease")),
          help="How much each denoising step counts; log decrease trusts the early ones most."),
    Field("damping", "damping", "0.01", _PRUNE, varies=True,
          help="Share of the Hessian's mean diagonal added to it."),
    Field("count", "pictures", "1 a prompt", _PAINT, varies=True,
          help="Pictures of each prompt."),
    Field("seed", "seed", "0", _RUNS, varies=True,
          help="The same seed gives the same job again."),
    Field("steps", "steps", "the model's own", _RUNS, varies=True, help="Denoising steps."),
    Field("guidance", "guidance", "the model's own", _RUNS, varies=True,
          help="How strongly the prompt pulls; above 1: twice the work."),
    Field("size", "size", "pixels a side", _RUNS, varies=True,
          help="Pixels a side, a multiple of 8."),
    Field("packages", "packages", "1", _PRUNE, more=True, varies=True,
          help="Parts calibrated in turn, each on the model so far."),
    Field("token_budget", "tokens", "64", _PRUNE, more=True, varies=True,
          help="Tokens a column drawn from the calibration."),
    Field("allocate", "allocate", kinds=_PRUNE, choices=specs.ALLOCATIONS, more=True,
          help="The same share of every module, or more where it costs least."),
    Field("budget", "budget", kinds=_PRUNE, choices=specs.BUDGETS, more=True,
          help="What allocation by loss keeps equal to the uniform share."),
    Field("held_out", "held out", "8", _PRUNE, more=True, varies=True,
          help="Other prompts to measure the result on; 0: none."),
    Field("seeds", "seeds", "e.g. 1,2,7", _PICTURES, more=True,
          help="These seeds instead of seed, seed + 1, ..."),
    Field("scheduler", "scheduler", kinds=_PICTURES, choices=("", *specs.SCHEDULERS), more=True,
          help="The way from noise to picture."),
    Field("batch", "batch", "1", _PICTURES, more=True, varies=True,
          help="Pictures made at once."),
    Field("priority", "priority", "0", _ALL, more=True, help="Higher runs first."),
    Field("held", "start", kinds=_ALL, choices=("no", "yes"), more=True,
          help="Queue it to run, or hold it until you resume it."),
    Field("window", "window", "e.g. 23:00-07:00", _ALL, more=True, help="Run only in these hours."),
    Field("after", "after jobs", "e.g. 12, 13", _ALL, more=True,
          help="Start only after these jobs have succeeded."),
    Field("max_runtime", "at most", "e.g. 8h", _ALL, more=True,
          help="Fail an attempt that runs longer."),
)  # fmt: skip

NAMED = "named"
"""Beside the answers: the fields whose values the program tells in the job's name."""

CHOICE_WORDS = {("scheduler", ""): "the model's own", ("held", "no"): "as soon as it can",
                ("held", "yes"): "held until resumed"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preset:
    """Answers to fill in for a prune, the same fields in each: nothing of another is left."""

    name: str
    says: str
    answers: Mapping[str, str]


_ITS_OWN = {
    "method": "obs",
    "num_prompts": "100",
    "steps": "25",
    "guidance": "7",
    "damping": "0.01",
    "timestep_weights": "log_decrease",
    "packages": "",
    "token_budget": "",
    "allocate": "uniform",
    "budget": "params",
    "held_out": "",
}
PRESETS = (
    Preset("paper settings",
           "OBS-Diff's own: 100 prompts, 25 steps, guidance 7, damping 0.01, 4 packages.",
           {**_ITS_OWN, "sparsity": "0.1,0.2,0.3", "packages": "4"}),
    Preset("quick look", "One size from few prompts and steps: to see that it runs, not how well.",
           {**_ITS_OWN, "sparsity": "0.2", "num_prompts": "16", "steps": "10", "guidance": "",
            "held_out": "0"}),
    Preset("five sizes", "10 to 50 % from one calibration, else with the paper's settings.",
           {**_ITS_OWN, "sparsity": "0.1,0.2,0.3,0.4,0.5"}),
)  # fmt: skip


def hint(field: Field, kind: str) -> str:
    """What stands in a field as long as it is empty."""
    if field.key == "num_prompts":
        return str(specs.DEFAULT_PROMPTS.get(kind, ""))
    if field.key == "steps" and kind == "prune":
        return str(specs.CALIBRATION_STEPS)
    if field.key == "prompts":
        otherwise = "the file below" if kind == "generate" else "the bundled prompts"
        return f"one prompt a line; empty: {otherwise}"
    return field.hint


_OPTIONS = ("priority", "held", "window", "after", "max_runtime")
_NUMBERS = {"num_prompts": int, "count": int, "seed": int, "steps": int, "size": int,
            "guidance": float, "damping": float, "packages": int, "token_budget": int,
            "held_out": int, "batch": int, "repeats": int, "warm_up": int,
            "priority": int}  # fmt: skip
_LEAST: dict[str, dict[str, Any]] = {
    "prune": {"kind": "prune"},
    "generate": {"kind": "generate", "prompts": ["a prompt"]},
    "compare": {"kind": "compare", "variants": ["1@10"]},
    "bench": {"kind": "bench", "variants": ["1@10"]},
    "export": {"kind": "export", "variant": "1@10", "format": "diffusers"},
    "import": {"kind": "import", "file": "unet.pth"},
}
_NEEDED = {
    ("compare", "variants"): "Choose at least one variant (Space marks it).",
    ("bench", "variants"): "Choose at least one variant (Space marks it).",
    ("export", "variant"): "Choose the variant to export.",
    ("import", "file"): "Name the file to import.",
}
_CONTRADICTIONS = (("a budget is for", "budget"), ("allocation by loss", "allocate"),
                   *((f"{key} is for method", key)
                     for key in ("packages", "damping", "timestep_weights")))  # fmt: skip
"""How sentences about two fields begin, and the field under which they stand."""


def parts(answer: str) -> list[str]:
    """ "0.1, 0.2" -> ["0.1", "0.2"]; what holds a comma itself stands in double quotes."""
    lines = csv.reader([answer.replace("\n", " ")], skipinitialspace=True)
    return [text for text in (part.strip() for part in next(lines, [])) if text]


def joined(values: Sequence[str]) -> str:
    """What `parts` takes apart again."""
    return ", ".join(
        '"' + value.replace('"', '""') + '"' if set(value) & set(',"') else value
        for value in values
    )


def picked(answer: str, pick: str) -> str:
    """An answer of several values with the one that is being written replaced."""
    given = parts(answer)
    return joined([*(given if answer.rstrip().endswith(",") else given[:-1]), pick])


def several(kind: str, answers: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The fields for which more than one value was given, each value for jobs of its own."""
    found = {}
    for field in FIELDS:
        if field.varies and kind in field.kinds:
            given = parts(answers.get(field.key) or "")
            values = list(dict.fromkeys(_typed(field.key, text) for text in given))
            if len(values) > 1:
                found[field.key] = values
    return found


def jobs_data(kind: str, answers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answers as `specs.parse` takes them, for each job that they ask for. Raises BadSpec when
    these are too many or the prompt file cannot be read."""
    matrix = several(kind, answers)
    if (size := matrices.size(matrix)) > matrices.MAX_JOBS:
        names = " and ".join(key.replace("_", " ") for key in matrix)
        raise specs.BadSpec(
            f"The values of {names} make {size:,} jobs: {matrices.MAX_JOBS:,} are the most at once."
        )
    # The prompt file is read once, as far as the job that wants the most of it.
    prompts = [value for value in matrix.get("num_prompts", ()) if isinstance(value, int)]
    most = {"num_prompts": str(max(prompts))} if prompts else {}
    fields = spec_data(kind, {**answers, **dict.fromkeys(matrix, ""), **most})
    if prompts and (there := len(fields.get("prompts", ()))):  # more is no other job
        numbers = (min(there, n) if isinstance(n, int) else n for n in matrix["num_prompts"])
        matrix["num_prompts"] = list(dict.fromkeys(numbers))
    return list(matrices.combinations(fields, matrix, answers.get(NAMED, ())))


class WrongAnswers(specs.BadSpec):
    """Answers that make no job: what is wrong with each, by field, "" for all of them together."""

    def __init__(self, faults: Mapping[str, specs.BadSpec]) -> None:
        super().__init__(str(next(iter(faults.values()))))
        self.faults = {key: str(err) for key, err in faults.items()}


def made(
    kind: str, answers: Mapping[str, Any], make: Callable[[dict[str, Any]], specs.Spec]
) -> list[specs.Spec]:
    """The jobs that the answers ask for, `make` having made each of plain data. Looks at files.
    Raises WrongAnswers with every field at fault: who mends one must not meet the next only then.
    """
    faults = _not_there(kind, answers)
    jobs: list[specs.Spec] = []
    try:
        jobs = [make(data) for data in jobs_data(kind, answers)]
    except specs.BadSpec as err:
        field = field_of(err)
        faults.setdefault(field.key if field else "", err)
    if faults:
        raise WrongAnswers(faults)
    return jobs


def _not_there(kind: str, answers: Mapping[str, Any]) -> dict[str, specs.BadSpec]:
    """The answers that name something which this machine does not have."""
    found: dict[str, specs.BadSpec] = {}
    for field in FIELDS:
        check, answer = LOOKUPS.get(field.key), answers.get(field.key)
        if check is None or not answer or kind not in field.kinds:
            continue
        names = answer if isinstance(answer, list) else parts(answer) if field.varies else [answer]
        try:
            for name in names:
                check(name)
        except specs.BadSpec as err:
            found[field.key] = err
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """Jobs that are to be planned, how many seconds each may run, and what whoever asks for them
    should know first."""

    jobs: list[specs.Spec]
    max_runtime: float | None = None
    remark: str = ""


def asked(kind: str, answers: Mapping[str, Any]) -> Asked:
    """The jobs that the answers ask for. Looks at files: never on the UI thread. Raises BadSpec."""
    said = options(answers)
    jobs = made(kind, answers, specs.parse)
    return Asked(jobs, said.max_runtime, _too_few(jobs, answers))


def _too_few(jobs: Iterable[specs.Spec], answers: Mapping[str, Any]) -> str:
    """That there are fewer prompts than are to be used, if so."""
    wanted = [int(number) for number in parts(answers.get("num_prompts") or "")]
    there = max((len(getattr(job, "prompts", ())) for job in jobs), default=0)
    if not there or not wanted or max(wanted) <= there:
        return ""
    prompts = counted(there, "prompt")
    if answers.get("prompts"):
        return f"You wrote only {prompts}, not {max(wanted)}."
    return f"The prompt file holds only {prompts}, not {max(wanted)}."


def sweep_name(kind: str, answers: Mapping[str, Any]) -> str | None:
    """What the jobs are called together; None where there is one."""
    matrix = several(kind, answers)
    over = ", ".join(key.replace("_", " ") for key in matrix)
    return (str(answers.get("name") or "") or f"{kind}: {over}") if matrix else None


def spec_data(kind: str, answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers as `specs.parse` takes them for one job; empty ones are left out. Raises BadSpec
    when the prompt file cannot be read or there is nothing to paint."""
    data: dict[str, Any] = {"kind": kind}
    for field in FIELDS:
        value = answers.get(field.key)
        if field.varies and isinstance(value, str):
            value = one[0] if len(one := parts(value)) == 1 else value.strip(", ")
        asked = kind in field.kinds and field.key not in ("prompt_file", *_OPTIONS)
        if asked and value not in ("", None, [], ()):
            data[field.key] = _typed(field.key, value)
    if "prompts" not in data and (path := answers.get("prompt_file")):
        first = data.get("num_prompts", specs.DEFAULT_PROMPTS.get(kind))
        wanted = first if isinstance(first, int) and first > 0 else None
        data["prompts"] = read_prompts(Path(path).expanduser(), wanted).prompts
    if kind == "generate" and "prompts" not in data:
        raise specs.BadSpec("prompts: Write at least one, or name a file of them below.")
    return data


def options(answers: Mapping[str, Any]) -> JobOptions:
    """When the job may run. Raises BadSpec."""
    data = {key: answers[key] for key in _OPTIONS if answers.get(key) not in ("", None)}
    if "held" in data:
        data["held"] = data["held"] == "yes"
    return job_options(data)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a form begins with. `edits`: the job that it is to change instead of queueing one;
    `remark`: a sentence that the person should read first."""

    heading: str
    kind: str
    answers: Mapping[str, Any]
    edits: int | None = None
    remark: str = ""


def opening(paths: Paths, job: JobView, *, edit: bool = False) -> Opening:
    """The form for a job like this one, which starts as soon as it can, or for the job itself.
    Reads the store: never on the UI thread. Raises StoreError."""
    from obstui.again import options_of
    from obstui.store import Reader

    with Reader.open(paths) as reader:
        said = options_of(job, reader.needs(job.id))
    answers = answers_of(job.spec, said if edit else said.model_copy(update={"held": False}))
    return Opening(f"{'Edit' if edit else 'Like'} job {job.id}", job.kind, answers,
                   job.id if edit else None)  # fmt: skip


def answers_of(spec: Mapping[str, Any], said: JobOptions | None = None) -> dict[str, Any]:
    """What to answer to have this job again: text, or the marked variants; and what is `NAMED`."""
    said = said or JobOptions()
    own, named = matrices.own_name(spec)
    found: dict[str, Any] = {
        NAMED: named,
        "priority": str(said.priority or ""),
        "held": "yes" if said.held else "no",
        "window": said.window or "",
        "after": ", ".join(said.after),
        "max_runtime": duration(said.max_runtime) if said.max_runtime else "",
    }
    for field in FIELDS:
        value = own if field.key == "name" else spec.get(field.key)
        if field.key in _OPTIONS or value is None or spec["kind"] not in field.kinds:
            continue
        if field.key == "num_prompts" and specs.uses_all(spec):
            continue
        if field.key == "prompts":
            found[field.key] = "\n".join(one_line(prompt, limit=10_000) for prompt in value)
        elif field.key == "variants":
            found[field.key] = list(value)
        elif isinstance(value, (list, tuple)):
            found[field.key] = ",".join(f"{part}" for part in value)
        elif field.varies:
            found[field.key] = joined([str(value)])
        else:
            found[field.key] = str(value)
    return found


def _typed(key: str, value: Any) -> Any:
    """Numbers as numbers; what is none goes on as text for the spec to refuse in its own words."""
    if key == "prompts":
        return [line.strip() for line in value.splitlines() if line.strip()] or [""]
    if key in _NUMBERS:
        try:
            return _NUMBERS[key](value)
        except ValueError:
            return value
    return value


def fault(kind: str, key: str, value: Any) -> str:
    """The sentence under a field, "" when its answer is good. Each field is judged alone, so that a
    sentence stands under the field it is about."""
    field = next(field for field in FIELDS if field.key == key)
    given = parts(value) if field.varies else []
    for text in given or [value]:
        if words := _fault(kind, key, text):
            return f"{one_line(text, limit=20)}: {words}" if len(given) > 1 else words
    return ""


def _fault(kind: str, key: str, value: Any) -> str:
    if value in ("", None, [], ()):
        return _NEEDED.get((kind, key), "")
    if key == "prompt_file":
        return ""  # read in a thread when the job is queued
    if key == "model":
        return ""  # its files are looked at then too
    if key in _NUMBERS and isinstance(_typed(key, value), str):
        return "Write a whole number." if _NUMBERS[key] is int else "Write a number."
    try:
        if key in _OPTIONS:
            options({key: value})
        elif key != "budget":  # which needs another field beside it
            specs.parse({**_LEAST[kind], key: _typed(key, value)})
    except specs.BadSpec as err:
        return _about_field(str(err), key)
    return ""


def _about_field(words: str, key: str) -> str:
    """The spec's sentence without the field's name: it stands under the field already."""
    words = re.sub(rf"(?:^|; ){re.escape(key)}: ", " ", words, count=1).strip()
    words = re.sub(r" \(given: .*\)(?=\.?$)", "", words)
    return words[:1].upper() + words[1:]


def field_of(err: Exception) -> Field | None:
    """The question that a refusal is about, if it is one of ours."""
    words = str(err)
    begins = (key for begin, key in _CONTRADICTIONS if words.startswith(begin))
    name = next(begins, words.partition(":")[0].partition(".")[0])
    if isinstance(err, specs.NoSuchModel):
        name = "model"
    elif "prompt file" in words:
        name = "prompt_file"
    return next((field for field in FIELDS if field.key == name), None)


def faults_of(err: Exception) -> dict[str, str]:
    """What a refusal says, by field; under "" what is about none."""
    if isinstance(err, WrongAnswers):
        return err.faults
    field = field_of(err)
    return {field.key if field else "": str(err)}


@dataclass(frozen=True, slots=True)
class Offer:
    """A variant that can be chosen: its id, and what is known about it. `model` is what it was cut
    from, "" where nobody has said."""

    id: str
    words: str
    model: str


def _way(job: JobView) -> str:
    try:
        spec = specs.parse(job.spec)
    except specs.BadSpec:  # of another version
        return str(job.spec.get("method") or job.kind)
    return spec.way if isinstance(spec, specs.PruneSpec) else job.kind


def offers(jobs: Any, named: Iterable[str] = ()) -> list[Offer]:
    """Variants that jobs have made and that are still there, and those that prune jobs are going to
    make, newest job first. What an import makes is known once it has read its file. Those `named`
    are among them in any case: what somebody has chosen stays chosen, until it is refused."""
    found = []
    for job in sorted(jobs, key=lambda job: -job.id):
        if job.kind not in ("prune", "import") or job.state in (
            "failed", "cancelled", "skipped", "quarantined"
        ):  # fmt: skip
            continue
        model = str(job.spec.get("model") or job.spec.get("base") or "")
        ready = job.state == "succeeded"
        made = (job.result or {}).get("variants") if ready else None
        levels = job.spec.get("sparsity") or () if made is None else [v["sparsity"] for v in made]
        for level in levels:
            of = short_model(model) or "an unknown model"
            words = f"{specs.percent(level)} % of {of} by {_way(job)}"
            words += f" · {one_line(job.name, limit=60)}" if job.name else ""
            if not ready:
                words += f", once job {job.id} is done"
            found.append(Offer(specs.variant_id(job.id, level), words, model))
    known = {offer.id for offer in found}
    others = dict.fromkeys(name for name in named if name and name not in known)
    return [*found, *(Offer(name, "not listed", "") for name in others)]
