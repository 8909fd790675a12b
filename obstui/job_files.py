"""Job files: one job or a sweep as YAML, read with limits, checked whole, errors with their line.

`EXAMPLE` is one, with notes. Files and folders are looked for next to the job file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import TypeAdapter, ValidationError

from obstui import matrix as matrices
from obstui.lookup import LOOKUPS
from obstui.matrix import MAX_JOBS
from obstui.options import JobOptions, NewJob, duration
from obstui.prompt_files import read_prompts
from obstui.specs import (
    KINDS,
    BadSpec,
    ImportSpec,
    JobSpec,
    PruneSpec,
    faults,
    nearest,
    parse_variant_id,
    percent,
)
from obstui.text import one_line

EXAMPLE = Path(__file__).with_name("example.yaml")

MAX_BYTES = 1 << 20
MAX_DEPTH = 12
MAX_NODES = 100_000

_NAME = re.compile(r"^[A-Za-z][\w-]{0,63}$")
_REF = re.compile(r"^(?P<name>[A-Za-z][\w-]{0,63})(?:\.(?P<nth>[1-9]\d{0,4}))?(?P<level>@.+)?$")
_OPTIONS = frozenset(JobOptions.model_fields)
_OWN = frozenset({"id", "matrix", "prompts_file"})
_ADAPTER: TypeAdapter[Any] = TypeAdapter(JobSpec)

Value = Any
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a file asks for; `sweep` is its name when it is more than one job."""

    sweep: str | None
    jobs: tuple[NewJob, ...]


@dataclass(frozen=True, slots=True)
class _Above:
    """The jobs read so far, and which of them an id of the file means."""

    jobs: list[NewJob] = dataclasses.field(default_factory=list)
    named: dict[str, list[int]] = dataclasses.field(default_factory=dict)


def read_job_file(path: Path) -> JobFile:
    """Read and check a job file whole. Raises BadSpec, NoSuchModel: one sentence that names file,
    line and mend."""
    source = _Source(path)
    top = source.value
    if not isinstance(top, dict):
        source.refuse(
            (), "write the fields of a job, such as kind: prune, or jobs with a list of them"
        )
    if "jobs" not in top:
        new = list(_expand(source, (), top, {}, _Above()))
        return JobFile(_label(top, path) if len(new) > 1 else None, tuple(new))
    for key in top.keys() - {"name", "defaults", "jobs"}:
        source.refuse((key,), f"{_shown(key)} belongs into defaults or into one of the jobs")
    entries, defaults = top["jobs"], top.get("defaults") or {}
    if not isinstance(entries, list) or not entries:
        source.refuse(("jobs",), "list at least one job below jobs, each beginning with a dash")
    if not isinstance(defaults, dict):
        source.refuse(("defaults",), "defaults are fields and values, such as model: demo")
    known = _OPTIONS.union(*(cls.model_fields for cls in KINDS.values()))
    for key in defaults.keys() - known:
        words = f"no kind of job has a field {_shown(key)}: {nearest(key, known)}"
        source.refuse(("defaults", key), words)
    above = _Above()
    jobs, named = above.jobs, above.named
    for number, entry in enumerate(entries):
        where: Key = ("jobs", number)
        if not isinstance(entry, dict):
            source.refuse(where, "a job is fields and values, such as kind: prune")
        first = len(jobs)
        for new_job in _expand(source, where, entry, defaults, above):
            jobs.append(new_job)
            if len(jobs) > MAX_JOBS:
                source.refuse(where, f"more than {MAX_JOBS:,} jobs: split the file")
        if (own := entry.get("id")) is not None:
            if not isinstance(own, str) or not _NAME.match(own):
                source.refuse((*where, "id"), "an id is letters, digits, - and _, a letter first")
            if own in named:
                source.refuse((*where, "id"), f"two jobs are called {own}: rename one")
            named[own] = list(range(first, len(jobs)))
    return JobFile(_label(top, path) if len(jobs) > 1 else None, tuple(jobs))


def _label(top: Mapping[str, Any], path: Path) -> str:
    return one_line(top.get("name") or path.stem, limit=120)


def _shown(value: object) -> str:
    return one_line(value, limit=60)


class _Loader(yaml.SafeLoader):
    """YAML without aliases (a few of them unfold into gigabytes), of bounded depth and size."""

    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _limit(event, "aliases (*name) are not read: write the value out")
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _limit(event, "the file is nested too deep, or too long")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _limit(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


class _Source:
    """A file's value, and the line on which each part of it begins."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.absolute().parent
        self._lines: dict[Key, int] = {}
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as err:
            raise BadSpec(f"Cannot read {one_line(path, limit=200)}: {err.strerror}.") from None
        if len(raw) > MAX_BYTES:
            raise BadSpec(
                f"{one_line(path, limit=200)} is larger than {MAX_BYTES >> 20} MiB: split it."
            )
        try:
            loader = _Loader(raw)
            try:
                node = loader.get_single_node()
                if node is None:
                    raise BadSpec(
                        f"{one_line(path, limit=200)} is empty: write kind: prune, for example."
                    )
                self.value = self._plain(loader, node, ())
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as err:
            mark = err.problem_mark or err.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            words = _shown(err.problem or err)
            if "another document" in words:
                words = "one document a file: take the --- away, or make it a list of jobs"
            raise BadSpec(f"{one_line(path, limit=200)}{line}: {words}.") from None
        except (yaml.YAMLError, UnicodeError) as err:
            raise BadSpec(f"{one_line(path, limit=200)} is no YAML text: {_shown(err)}.") from None
        except (ValueError, OverflowError) as err:
            # A date or a number that looks like one and is none (2026-99-99).
            raise BadSpec(
                f"{one_line(path, limit=200)}: {_shown(err)}: put it in quotes."
            ) from None

    def _plain(self, loader: Any, node: Any, key: Key) -> Value:
        self._lines[key] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item, (*key, n)) for n, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        found: dict[str, Value] = {}
        for name_node, value_node in node.value:
            name = str(name_node.value) if isinstance(name_node, yaml.ScalarNode) else "?"
            self._lines[(*key, name)] = name_node.start_mark.line + 1
            if name in found:
                self.refuse((*key, name), f"{_shown(name)} is given twice: keep one")
            found[name] = self._plain(loader, value_node, (*key, name))
            self._lines[(*key, name)] = name_node.start_mark.line + 1
        return found

    def refuse(self, key: Key, words: str, kind: type[BadSpec] = BadSpec) -> NoReturn:
        """Raise with the line of the part named, or of the nearest one around it."""
        raise kind(f"{self.place(key)}: {words.rstrip('.')}.".replace("?.", "?"))

    def place(self, key: Key) -> str:
        """ "night.yaml, line 3"."""
        while key not in self._lines:
            key = key[:-1]
        return f"{one_line(self.path, limit=200)}, line {self._lines[key]}"

    def has(self, key: Key) -> bool:
        return key in self._lines


def _expand(
    source: _Source,
    where: Key,
    entry: dict[str, Value],
    defaults: Mapping[str, Value],
    above: _Above,
) -> Iterator[NewJob]:
    """The jobs of one entry: one, or one for each combination of its matrix."""
    matrix = entry.get("matrix") or {}
    if not isinstance(matrix, dict):
        source.refuse((*where, "matrix"), "a matrix is fields with lists, such as seed: [0, 1]")
    for field, values in matrix.items():
        if not isinstance(values, list) or not values:
            source.refuse((*where, "matrix", field), f"{_shown(field)}: list the values to try")
        if field in _OWN | {"after", "kind"}:
            source.refuse((*where, "matrix", field), f"{_shown(field)} cannot vary in a matrix")
    if (size := matrices.size(matrix)) > MAX_JOBS:
        source.refuse((*where, "matrix"), f"{size:,} combinations: {MAX_JOBS:,} are the most")
    kind = entry.get("kind", defaults.get("kind", "prune"))
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        source.refuse((*where, "kind"), f"{_shown(kind)} is no kind of job: write one of {known}")
    fields = _OPTIONS.union(KINDS[kind].model_fields)
    own = {key: value for key, value in defaults.items() if key in fields}
    own |= {key: value for key, value in entry.items() if key not in _OWN}
    own["kind"] = kind
    _read_prompts_file(source, where, entry, own)
    for at, given in ((where, own), ((*where, "matrix"), matrix)):
        for key in given.keys() - fields:
            words = f"a job of kind {kind} has no {_shown(key)}: {nearest(key, fields | _OWN)}"
            source.refuse((*at, key), words)
    for data in matrices.combinations(own, matrix):
        yield _job(source, where, data, above)


def _read_prompts_file(
    source: _Source, where: Key, entry: Mapping[str, Value], own: dict[str, Value]
) -> None:
    name = entry.get("prompts_file")
    if name is None:
        return
    if not isinstance(name, str) or "prompts" in own:
        source.refuse((*where, "prompts_file"), "name one file of prompts, or list prompts: ...")
    first = own.get("num_prompts") if own["kind"] != "generate" else own.pop("num_prompts", None)
    if first is not None and (not isinstance(first, int) or first < 1):
        source.refuse((*where, "num_prompts"), "num_prompts is a number, at least 1")
    try:
        own["prompts"] = list(read_prompts(source.folder / name, first).prompts)
    except BadSpec as err:
        source.refuse((*where, "prompts_file"), str(err), type(err))
    if own["kind"] != "generate":
        own["num_prompts"] = len(own["prompts"])


def _job(source: _Source, where: Key, data: dict[str, Value], above: _Above) -> NewJob:
    """One job of plain fields. Whatever is wrong with it is refused at its line."""

    def at(field: str) -> Key:
        places: tuple[Key, ...] = (
            (*where, "matrix", field),
            (*where, field),
            ("defaults", field),
        )
        return next((key for key in places if source.has(key)), where)

    for field in ("variants", "after"):
        if isinstance(data.get(field), (str, int)):
            data[field] = [data[field]]
        if isinstance(data.get(field), list):
            data[field] = [
                ref for text in data[field] for ref in _refs(source, at(field), text, above)
            ]
    if isinstance(data.get("variant"), str):
        refs = _refs(source, at("variant"), data["variant"], above)
        if len(refs) > 1:
            name = _shown(data["variant"].partition("@")[0])
            source.refuse(at("variant"), f"{name} is {len(refs)} jobs: name one, such as {name}.1")
        data["variant"] = refs[0]
    try:
        spec = _ADAPTER.validate_python({k: v for k, v in data.items() if k not in _OPTIONS})
        options = JobOptions(**{k: v for k, v in data.items() if k in _OPTIONS})
    except ValidationError as err:
        field, words = faults(err)[0]
        # Of a fault between two fields the first word is one of them, where it can be.
        source.refuse(at(field or words.partition(" ")[0]), words)
    for field, value in _looked_up(spec, source.folder).items():
        if isinstance(value, BadSpec):
            source.refuse(at(field), str(value), type(value))
        spec = spec.model_copy(update={field: value})
    return NewJob(spec, options, source.place(where))


def _refs(source: _Source, key: Key, text: Value, above: _Above) -> list[Value]:
    """A reference to a job of this file as "#0@30", one for each job that it means; others stay."""
    match = _REF.match(text) if isinstance(text, str) else None
    if isinstance(text, str) and text.startswith("#"):
        source.refuse(key, f"{_shown(text)} is no job: give it an id and name that")
    if match is None or (match["level"] and parse_variant_id(f"1{match['level']}") is None):
        return [text]
    if match["name"] not in above.named:
        if match["level"] or key[-1] == "after":
            source.refuse(key, f"no job above is called {_shown(match['name'])}: give it an id")
        return [text]  # a folder, perhaps
    indexes = above.named[match["name"]]
    if match["nth"]:
        if int(match["nth"]) > len(indexes):
            source.refuse(key, f"{_shown(match['name'])} is {len(indexes)} jobs, not so many")
        indexes = [indexes[int(match["nth"]) - 1]]
    if match["level"]:
        for index in indexes:
            _must_make(source, key, match["name"], match["level"], above.jobs[index])
    return [f"#{index}{match['level'] or ''}" for index in indexes]


def _must_make(source: _Source, key: Key, name: str, level: str, job: NewJob) -> None:
    """Refuse a variant that an earlier job of the file will not make."""
    named, spec = parse_variant_id(f"1{level}"), job.spec
    if isinstance(spec, PruneSpec) and named and named[1] not in spec.sparsity:
        made = ", ".join(f"{name}@{percent(sparsity)}" for sparsity in spec.sparsity)
        source.refuse(key, f"there will be no {name}{level}: the job makes {made}")
    if not isinstance(spec, (PruneSpec, ImportSpec)):
        words = f"{name} is of kind {spec.kind}, and only prune and import jobs make variants"
        source.refuse(key, words)


def _looked_up(spec: Any, folder: Path) -> dict[str, Any]:
    """What the spec names on this machine as the worker will find it, or why it will not."""

    def beside(field: str, name: str) -> str:
        there = folder / Path(name).expanduser()
        return str(there) if field == "to" or (name != "demo" and there.exists()) else name

    def look(field: str, name: str) -> Any:
        return name if name.startswith("#") else LOOKUPS[field](beside(field, name))

    found: dict[str, Any] = {}
    for field in LOOKUPS:
        value = getattr(spec, field, None)
        try:
            if isinstance(value, str):
                found[field] = look(field, value)
            elif value is not None:
                found[field] = tuple(look(field, name) for name in value)
        except BadSpec as err:
            found[field] = err
    return found


def as_yaml(
    spec: Mapping[str, Any],
    options: JobOptions,
    matrix: Mapping[str, Sequence[Value]] | None = None,
) -> str:
    """A job, or one for each combination of `matrix`, as a file that `read_job_file` reads back as
    the same."""
    data = {"kind": spec["kind"], **{k: v for k, v in spec.items() if k != "kind"}}
    if matrix:
        data = {k: v for k, v in data.items() if k not in matrix}
        data["matrix"] = {name: list(values) for name, values in matrix.items()}
    said = options.model_dump(exclude_defaults=True)
    if "max_runtime" in said:
        said["max_runtime"] = duration(said["max_runtime"])
    if "after" in said:
        said["after"] = [int(job_id) for job_id in said["after"]]
    return yaml.safe_dump(data | said, sort_keys=False, allow_unicode=True, width=100)
