"""A job asked for again: its options, and the command line that queues the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from obstui.errors import Problem
from obstui.options import JobOptions, duration, job_options
from obstui.specs import (
    CompareSpec,
    GenerateSpec,
    PruneSpec,
    Spec,
    named_variants,
    parse,
    parse_variant_id,
)
from obstui.text import one_line

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import JobView

_COMMANDS = {"export": ("models", "export"), "import": ("models", "import")}
_ARGUMENTS = {"export": "variant", "import": "file"}


class CannotSay(Problem):
    """The command line has no words for this job; a job file has."""

    exit_code = 2


def options_of(job: JobView, needs: Iterable[int]) -> JobOptions:
    """When a job may run, as it was said. `needs`: the jobs that it waits for; those that make the
    variants which it names go without saying."""
    named = map(parse_variant_id, named_variants(job.spec))
    makers = {ref[0] for ref in named if ref}
    return job_options(
        {
            "priority": job.priority,
            "held": job.state == "held",
            "window": job.window,
            "max_runtime": duration(job.max_runtime) if job.max_runtime else None,
            "after": [str(parent) for parent in needs if parent not in makers],
        }
    )


def asked_for(paths: Paths, job: JobView) -> tuple[Spec, JobOptions]:
    """What to queue to have this job again. Reads the store. Raises StoreError, BadSpec for a job
    that another version has queued."""
    from obstui.store import Reader

    with Reader.open(paths) as reader:
        return parse(job.spec), options_of(job, reader.needs(job.id))


def command_line(spec: Spec, options: JobOptions) -> str:
    """What to type into a shell to queue this job: every name quoted, prompts of a calibration or a
    comparison as lines of its input. Raises CannotSay."""
    words = ["obstui", *_COMMANDS.get(spec.kind, (spec.kind,))]
    argument = _ARGUMENTS.get(spec.kind)
    if argument is not None:
        words.append(str(getattr(spec, argument)))
    lines = _input_lines(spec) if isinstance(spec, (PruneSpec, CompareSpec)) else []
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if name in ("kind", argument) or (lines and name in ("prompts", "num_prompts")):
            continue
        if name == "model" or value != field.get_default():
            words += _said(name, value, repeated=isinstance(spec, GenerateSpec))
    if lines:
        words += ["--prompts", "/dev/stdin", "--num-prompts", str(len(lines))]
    for name, value in options.model_dump(exclude_defaults=True).items():
        words += _said(name, duration(value) if name == "max_runtime" else value)
    command = shlex.join(words)
    return _with_input(command, lines) if lines else command


def _said(name: str, value: object, *, repeated: bool = False) -> Iterator[str]:
    option = f"--{name.replace('_', '-')}"
    if value is True:
        yield option
    elif name == "prompts" and repeated and isinstance(value, tuple):
        for prompt in value:
            yield from ("--prompt", prompt)
    elif isinstance(value, tuple):
        if split := [part for part in value if "," in str(part)]:
            shown = one_line(split[0], limit=80)
            raise CannotSay(f"{shown} has a comma in it, which parts names on a command line: "
                            "take the job as YAML.")  # fmt: skip
        yield from (option, ",".join(map(str, value)))
    else:
        yield from (option, str(value))


def _input_lines(spec: PruneSpec | CompareSpec) -> Sequence[str]:
    """The prompts that are used, as a file of prompts would give them. Raises CannotSay."""
    lines = spec.prompts[: spec.num_prompts]
    if isinstance(spec, PruneSpec) and spec.method == "magnitude" and lines:
        raise CannotSay("A job without calibration takes no prompts: take them out, or take the "
                        "job as YAML.")  # fmt: skip
    if lines != tuple(dict.fromkeys(map(one_line, lines))):
        raise CannotSay("Of its prompts some are the same or have several lines, which no file of "
                        "prompts can hold: take the job as YAML.")  # fmt: skip
    return lines


def _with_input(command: str, lines: Sequence[str]) -> str:
    end = "END"
    while end in lines:
        end += "_"
    return "\n".join([f"{command} <<'{end}'", *lines, end])
