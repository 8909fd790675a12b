"""Finding jobs among many: the filter that people type, and the orders that they ask for, in SQL.

    state:failed kind:prune model:demo sweep:3 sparsity>0.2 priority>=2 age<1d "a red fox" -harbour

Every word must hold; `-` before a word turns it round; `,` between values means any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, exists, func, literal, not_, or_, select

from obstui.store.errors import BadFilter
from obstui.store.tables import attempts, jobs
from obstui.store.views import LIVE, STATES, TERMINAL, WAITING, JobView

LONGEST = 1000
"""Characters of a filter."""
MOST_WORDS = 40

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "live": LIVE, "waiting": WAITING, "finished": TERMINAL, "done": ("succeeded",),
}  # fmt: skip
_KINDS = ("prune", "generate", "compare", "bench", "export", "import")
_WORD = re.compile(
    r"\s*(?P<no>-?)(?:(?P<field>[A-Za-z]+)(?P<op>:|<=|>=|=|<|>))?"
    r'(?:"(?P<quoted>[^"]*)"(?=\s|$)|(?P<bare>\S*))\s*'
)
_NUMBER = re.compile(r"^(\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})$")
_SPAN = re.compile(r"^(\d{1,9}(?:\.\d{1,3})?)(s|m|min|h|d|w)$")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class Term:
    """One word: `field` is "" for text that may stand anywhere; `values` are alternatives."""

    field: str
    compare: str
    values: tuple[str, ...] | tuple[float, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Which jobs, in which order, and which stretch of them: `limit` from `offset`, or, where it is
    given and among them, those around the job `around`."""

    terms: tuple[Term, ...] = ()
    sort: str = "queue"
    reverse: bool = False
    offset: int = 0
    limit: int = 500
    around: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Those jobs; `total` counts all that fit, `listing.offset` is where these begin."""

    listing: Listing
    jobs: tuple[JobView, ...]
    total: int


# -- reading what was typed ------------------------------------------------------------------------


def parse(text: str) -> tuple[Term, ...]:
    """The words of a filter. Raises BadFilter with the sentence that says what is wrong."""
    if len(text) > LONGEST:
        raise BadFilter(f"A filter has at most {LONGEST:,} characters.")
    terms: list[Term] = []
    place = len(text) - len(text.lstrip())
    while place < len(text):
        match = _WORD.match(text, place)
        assert match is not None  # every part of it may be empty
        terms.append(_term(match))
        place = match.end()
        if len(terms) > MOST_WORDS:
            raise BadFilter(f"A filter has at most {MOST_WORDS} words.")
    return tuple(terms)


def _term(word: re.Match[str]) -> Term:
    field, negated = (word["field"] or "").lower(), bool(word["no"])
    bare = word["bare"] or ""
    if bare.startswith('"'):
        if bare.count('"') > 1:
            raise BadFilter("Leave a space after a closing quote.")
        raise BadFilter('A quote is not closed: add a " at its end.')
    value = word["quoted"] if word["quoted"] is not None else bare
    if field and (field := _ALIASES.get(field, field)) not in _FIELDS:
        raise BadFilter(
            f"There is no field {field[:20]}: use {', '.join(_FIELDS)}, or put the words in quotes."
        )
    if not value:
        example = _FIELDS[field].example if field else "-harbour"
        raise BadFilter(f"{field or '-'} wants a value, such as {example}.")
    if not field:
        return Term("", "=", (value,), negated)
    compare = "=" if word["op"] == ":" else word["op"]
    kind = _FIELDS[field]
    if compare != "=" and not kind.ordered:
        raise BadFilter(f"{field} is not a number: write {kind.example}.")
    parts = [value] if word["quoted"] is not None else [p for p in value.split(",") if p]
    if not parts or (compare != "=" and len(parts) > 1):
        raise BadFilter(f"{field} wants one value, such as {kind.example}.")
    return Term(field, compare, tuple(kind.read(field, part) for part in parts), negated)


def _text(field: str, value: str) -> str:
    return value


def _number(field: str, value: str) -> float:
    sign, digits = (-1, value[1:]) if value.startswith("-") else (1, value)
    if not _NUMBER.match(digits):
        raise BadFilter(f"{value[:20]} is no number: write {_FIELDS[field].example}.")
    return sign * float(digits)


def _share(field: str, value: str) -> float:
    number = _number(field, value.removesuffix("%"))
    return number / 100 if value.endswith("%") else number


def _span(field: str, value: str) -> float:
    match = _SPAN.match(value)
    if not match:
        raise BadFilter(f"{value[:20]} is no length of time: write {_FIELDS[field].example}.")
    return float(match[1]) * _SECONDS[match[2]]


def _one_of(names: Sequence[str]) -> Callable[[str, str], str]:
    def read(field: str, value: str) -> str:
        if any(name.startswith(value.lower()) for name in names):
            return value.lower()
        raise BadFilter(f"There is no {field} {value[:20]}: use {', '.join(names)}.")

    return read


@dataclass(frozen=True, slots=True)
class _Field:
    """How the value of a field is read, and what of it may be asked."""

    example: str
    read: Callable[[str, str], Any]
    ordered: bool = False


_FIELDS: Mapping[str, _Field] = {
    "state": _Field("state:failed", _one_of((*STATES, *_GROUPS))),
    "kind": _Field("kind:prune", _one_of(_KINDS)),
    "name": _Field("name:night", _text),
    "model": _Field("model:demo", _text),
    "gpu": _Field("gpu:0", _text),
    "id": _Field("id>100", _number, ordered=True),
    "sweep": _Field("sweep:3", _number, ordered=True),
    "priority": _Field("priority>=2", _number, ordered=True),
    "sparsity": _Field("sparsity>0.2", _share, ordered=True),
    "damping": _Field("damping:0.01", _number, ordered=True),
    "seed": _Field("seed:7", _number, ordered=True),
    "steps": _Field("steps<20", _number, ordered=True),
    "age": _Field("age<1d", _span, ordered=True),
    "took": _Field("took>30m", _span, ordered=True),
}
_ALIASES = {"status": "state", "device": "gpu", "prio": "priority", "job": "id"}


# -- the same in SQL -------------------------------------------------------------------------------

_Condition = ColumnElement[bool]


def condition(terms: Sequence[Term], now: float) -> _Condition:
    """What the terms ask of a row of `jobs`. All values travel as parameters."""
    return and_(literal(1) == 1, *(_clause(term, now) for term in terms))


def _clause(term: Term, now: float) -> _Condition:
    found = or_(*(_holds(term, value, now) for value in term.values))
    # What is not known (a sweep that a job is not in) holds for "-": NULL must not hide the row.
    return not_(func.coalesce(found, 0)) if term.negated else found


def _holds(term: Term, value: Any, now: float) -> _Condition:
    match term.field:
        case "":
            return or_(
                _contains(jobs.c.name, value),
                _contains(jobs.c.kind, value),
                _contains(jobs.c.error, value),
                _in_spec(value),
            )
        case "name":
            return _contains(jobs.c.name, value)
        case "gpu":
            return _contains(jobs.c.device, value)
        case "model":
            return or_(_contains(_spec("$.model"), value), _contains(_spec("$.file"), value))
        case "state":
            names = [*STATES, *_GROUPS]
            meant = {s for name in names if name.startswith(value) for s in _states(name)}
            return jobs.c.state.in_(sorted(meant))
        case "kind":
            return jobs.c.kind.in_([kind for kind in _KINDS if kind.startswith(value)])
        case "sparsity":
            return _sparsity(term.compare, value)
        case "age":
            return _compare(now - jobs.c.created_at, term.compare, value)
        case "took":
            return _compare(_took(now), term.compare, value)
        case "damping" | "seed" | "steps":
            return _compare(_spec(f"$.{term.field}"), term.compare, value)
    column = {"id": jobs.c.id, "sweep": jobs.c.sweep_id, "priority": jobs.c.priority}[term.field]
    return _compare(column, term.compare, value)


def _states(name: str) -> tuple[str, ...]:
    return _GROUPS.get(name, (name,))


def _spec(path: str) -> ColumnElement[Any]:
    # The column's own type would take the path for a key.
    return func.json_extract(jobs.c.spec, path)


def _contains(column: ColumnElement[Any], words: str) -> _Condition:
    # Not LIKE: it has wild cards and a longest pattern. SQLite's lower() knows ASCII only.
    folded = "".join(char.lower() if char.isascii() else char for char in words)
    valid = folded.encode("utf-8", "replace").decode()  # a lone surrogate is no text for SQLite
    return func.instr(func.lower(column), valid, type_=Text) > 0


def _in_spec(words: str) -> _Condition:
    """Whether any text of the spec has the words: prompts, model, variants, files."""
    part = func.json_tree(jobs.c.spec).table_valued("value", "type", name="part")
    query = select(1).select_from(part).where(part.c.type == "text", _contains(part.c.value, words))
    return exists(query.correlate(jobs))


def _sparsity(compare: str, value: float) -> _Condition:
    """Whether one of the levels that a prune makes, or of the variants that a job names, fits."""
    level = func.json_each(jobs.c.spec, "$.sparsity").table_valued("value", name="level")
    made = select(1).select_from(level).where(_compare(level.c.value, compare, value))
    named = func.json_tree(jobs.c.spec).table_valued("value", "type", "fullkey", name="named")
    percent = func.substr(named.c.value, func.instr(named.c.value, "@") + 1) / 100.0
    uses = select(1).select_from(named).where(
        named.c.type == "text",
        func.substr(named.c.fullkey, 1, 9) == "$.variant",
        func.instr(named.c.value, "@") > 0,
        _compare(percent, compare, value),
    )  # fmt: skip
    return or_(exists(made.correlate(jobs)), exists(uses.correlate(jobs)))


def _compare(left: ColumnElement[Any], compare: str, value: float) -> _Condition:
    match compare:
        case "<":
            return left < value
        case "<=":
            return left <= value
        case ">":
            return left > value
        case ">=":
            return left >= value
    return func.abs(left - value) < 1e-9


# -- orders ----------------------------------------------------------------------------------------

SORTS = ("queue", "id", "name", "state", "finished", "time")
"""`queue`: what runs, what waits as the workers will take it, what is over, newest first."""

_GROUP = case(
    (jobs.c.state.in_(LIVE), 0),
    (jobs.c.state == "queued", 1),
    (jobs.c.state.in_(WAITING), 2),
    else_=3,
)
_FIRST_OF_GROUP = case(
    (jobs.c.state.in_(LIVE), func.coalesce(jobs.c.started_at, jobs.c.created_at)),
    (jobs.c.state.in_(WAITING), -jobs.c.priority),
    else_=-jobs.c.finished_at,
)
_NEXT_OF_GROUP = case(
    (jobs.c.state.in_(LIVE), jobs.c.id),
    (jobs.c.state.in_(WAITING), func.coalesce(jobs.c.rank, jobs.c.id)),
    else_=-jobs.c.id,
)


def _took(now: float) -> ColumnElement[Any]:
    """Seconds that a job's attempts have run, as `JobView.seconds`."""
    spans = func.sum(func.coalesce(attempts.c.finished_at, now) - attempts.c.started_at)
    return select(spans).where(attempts.c.job_id == jobs.c.id).scalar_subquery()


def order(sort: str, *, reverse: bool, now: float) -> list[ColumnElement[Any]]:
    """The keys of an order, each in its own direction; the last makes it total."""
    took = _took(now)
    keys: dict[str, list[tuple[ColumnElement[Any], bool]]] = {
        "queue": [(_GROUP, False), (_FIRST_OF_GROUP, False), (_NEXT_OF_GROUP, False)],
        "id": [],
        "name": [(func.lower(func.coalesce(func.nullif(jobs.c.name, ""), jobs.c.kind)), False)],
        "state": [(jobs.c.state, False)],
        "finished": [(func.coalesce(jobs.c.finished_at, 1e12), True)],
        "time": [(func.coalesce(took, -1.0), True)],
    }
    chosen = [*keys[sort], (jobs.c.id, sort in ("finished", "time"))]
    return [key.desc() if down != reverse else key.asc() for key, down in chosen]
