"""A job asked for again: what its command line queues is the job itself."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from obstui import cli
from obstui.again import CannotSay, command_line, options_of
from obstui.cli import models, queueing
from obstui.config import Paths
from obstui.options import JobOptions, job_options
from obstui.specs import Spec, parse
from obstui.store import Reader, Store

SPEC_OF = {
    "prune": queueing.prune_spec,
    "generate": queueing.generate_spec,
    "compare": queueing.compare_spec,
    "bench": queueing.bench_spec,
    "import": models._import_spec,
    "export": models._export_spec,
}


def understood(line: str) -> tuple[Spec, JobOptions]:
    """The job that the command line describes, not queued."""
    command: click.Command = cli.cli
    _, *words = shlex.split(line)
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    with command.make_context(name, words) as context:
        given = context.params
        assert (given.pop("wait"), given.pop("as_json")) == (False, False)
        options = {key: given.pop(key) for key in JobOptions.model_fields}
        spec = SPEC_OF[name](**given)
    return spec, job_options({key: value for key, value in options.items() if value is not None})


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "prune"},
        {"kind": "prune", "sparsity": [0.05, 0.125], "seed": 7, "steps": 12, "guidance": 7.5,
         "size": 512, "damping": 0.003, "packages": 4, "timestep_weights": "uniform",
         "token_budget": 32, "held_out": 0, "num_prompts": 16, "name": "night; rm -rf 'x'"},
        {"kind": "prune", "allocate": "loss", "budget": "flops", "model": "owner/name"},
        {"kind": "prune", "method": "magnitude", "sparsity": [0.3]},
        {"kind": "generate", "prompts": ["a fox, 35 mm", "--help", "two\nlines $HOME"],
         "negative": "-blur", "seeds": [3, 1], "scheduler": "euler", "batch": 2, "count": 2},
        {"kind": "generate", "prompts": ["a hen"], "variant": "12@30", "seed": 4},
        {"kind": "compare", "variants": ["1@10", "1@30"], "num_prompts": 3, "negative": "dark"},
        {"kind": "bench", "variants": ["1@10"], "repeats": 3, "warm_up": 0},
        {"kind": "export", "variant": "1@10", "format": "pth", "name": "small"},
    ],
    ids=lambda data: f"{data['kind']}-{len(data)}",
)  # fmt: skip
def test_the_command_line_asks_for_the_same_job(data: dict[str, Any]) -> None:
    spec = parse(data)
    options = job_options({"priority": -2, "held": True, "window": "23:00-07:00", "after": "3, 4",
                           "max_runtime": "1h30m"})  # fmt: skip
    assert understood(command_line(spec, options)) == (spec, options)
    assert understood(command_line(spec, JobOptions())) == (spec, JobOptions())


def test_every_option_of_every_kind_is_known_to_its_command() -> None:
    """Fields added to a spec are options of its command, or are told here."""
    for kind, name in (("prune", "prune"), ("compare", "compare"), ("bench", "bench")):
        data = {"kind": kind} | ({} if kind == "prune" else {"variants": ["1@10"]})
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None
        told = {param.name for param in command.params}
        assert set(type(parse(data)).model_fields) - {"kind"} <= told


def shell(line: str, paths: Paths, folder: Path) -> subprocess.CompletedProcess[str]:
    """The line, typed into a shell that knows obstui."""
    program = folder / "obstui"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m obstui "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "OBSTUI_HOME": str(paths.home), "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "prune", "prompts": ['a cat\'s "tail"', "END", "$(date) `id`"], "num_prompts": 3},
        {"kind": "compare", "variants": ["1@20"], "prompts": ["a red, red fox", "a hen"]},
    ],
    ids=lambda data: data["kind"],
)
def test_prompts_go_through_a_real_shell(
    data: dict[str, Any], paths: Paths, tmp_path: Path
) -> None:
    with Store.open(paths.ensure()) as store, Reader.open(paths) as reader:
        store.enqueue(parse({"kind": "prune"}))
        first = store.enqueue(parse(data))
        line = command_line(parse(first.spec), options_of(first, reader.needs(first.id)))
        done = shell(line, paths, tmp_path)
        assert done.returncode == 0, done.stderr
        again = reader.job(first.id + 1)
        assert again is not None
        prompts = {key: first.spec.pop(key) for key in ("prompts", "num_prompts")}
        assert again.spec.pop("prompts") == prompts["prompts"]
        assert again.spec.pop("num_prompts") == len(prompts["prompts"])
        assert again.spec == first.spec


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "prune", "prompts": ["a cat", "a cat"]}, "the same"),
        ({"kind": "compare", "variants": ["1@10"], "prompts": ["two\nlines"]}, "several lines"),
        ({"kind": "prune", "method": "magnitude", "prompts": ["a"]}, "takes no prompts"),
        ({"kind": "bench", "variants": ["/a,b"]}, "comma"),
    ],
)
def test_what_has_no_words_is_refused_with_the_way_out(data: dict[str, Any], words: str) -> None:
    with pytest.raises(CannotSay, match=words) as caught:
        command_line(parse(data), JobOptions())
    assert "YAML" in str(caught.value)
