"""Job files: what they may say, and the one sentence for what they may not."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from obstui.job_files import JobFile, read_job_file
from obstui.matrix import MAX_JOBS
from obstui.options import NewJob
from obstui.specs import BadSpec, CompareSpec, GenerateSpec, NoSuchModel, PruneSpec
from obstui.store import NotFound, Reader, Refused, Store


def read(tmp_path: Path, text: str) -> JobFile:
    file = tmp_path / "night.yaml"
    file.write_text(text)
    return read_job_file(file)


def only(asked: JobFile) -> NewJob:
    [job] = asked.jobs
    return job


def test_one_job(tmp_path: Path) -> None:
    asked = read(
        tmp_path, "kind: prune\nsparsity: [0.3, 0.1]\nwindow: 23:00-7:00\nmax_runtime: 8h\n"
    )
    assert asked.sweep is None
    job = only(asked)
    assert job.spec == PruneSpec(sparsity=(0.1, 0.3))
    assert (job.options.window, job.options.max_runtime) == ("23:00-07:00", 28800.0)


def test_the_door_for_checkpoints(tmp_path: Path, store: Store) -> None:
    with zipfile.ZipFile(tmp_path / "pruned.pth", "w") as file:
        file.writestr("data.pkl", b"")
    text = """
jobs:
  - {id: bought, kind: import, file: pruned.pth, base: demo}
  - {kind: bench, variants: [bought@30], repeats: 3}
  - {kind: export, variant: bought@30, format: dense, to: out/dense}
"""
    asked = read(tmp_path, text)
    with Reader.open(store.paths) as reader:
        jobs = store.enqueue_all(asked.jobs, sweep=asked.sweep)
        assert [reader.needs(job.id) for job in jobs] == [[], [1], [1]]
    assert jobs[0].spec["file"] == str(tmp_path / "pruned.pth")
    assert jobs[1].spec["variants"] == ["1@30"]
    assert (jobs[2].spec["variant"], jobs[2].spec["to"]) == ("1@30", str(tmp_path / "out/dense"))
    for line, words in (
        ("{kind: import, file: absent.pth}", "line 1: There is no file"),
        ("{kind: export, variant: 1@30, format: pth, to: pruned.pth}", "exists already"),
        ("{kind: export, variant: 1@30, format: zip}", "format"),
        ("{kind: bench, variants: [1@30], prompts: [x]}", "prompts"),
    ):
        with pytest.raises(BadSpec, match=words):
            read(tmp_path, line)


SWEEP = """
name: damping
defaults: {seed: 7, damping: 0.02, priority: 3}
jobs:
  - id: base
    kind: prune
    sparsity: 0.3
    matrix: {damping: [0.01, 0.05], prompts: [[a cup], [a house, a tree]]}
  - {kind: compare, variants: [base@30], held: true}
  - {kind: generate, prompts: [a cup], variant: base.4@30, after: [base.1]}
"""


def test_a_sweep_with_a_matrix_defaults_and_names(tmp_path: Path, store: Store) -> None:
    asked = read(tmp_path, SWEEP)
    assert asked.sweep == "damping"
    prunes = [job.spec for job in asked.jobs[:4]]
    assert all(isinstance(spec, PruneSpec) and spec.seed == 7 for spec in prunes)
    assert [(s.damping, len(s.prompts)) for s in prunes if isinstance(s, PruneSpec)] == [
        (0.01, 1), (0.01, 2), (0.05, 1), (0.05, 2),
    ]  # fmt: skip
    assert len({spec.name for spec in prunes}) == 4
    jobs = store.enqueue_all(asked.jobs, sweep=asked.sweep)
    with Reader.open(store.paths) as reader:
        [sweep] = reader.sweeps()
        assert (sweep.name, sweep.counts) == ("damping", {"held": 1, "queued": 5})
        assert [job.id for job in reader.jobs(sweep=sweep.id)] == [6, 5, 4, 3, 2, 1]
        assert reader.needs(5) == [1, 2, 3, 4]
        assert reader.needs(6) == [1, 4]
    assert jobs[4].spec["variants"] == ["1@30", "2@30", "3@30", "4@30"]
    assert jobs[5].spec["variant"] == "4@30"
    assert {job.priority for job in jobs} == {3}


def test_prompts_of_a_file_next_to_it(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a cup\na house\na tree\n")
    text = "kind: generate\nprompts_file: captions.txt\nnum_prompts: 2\n"
    spec = only(read(tmp_path, text)).spec
    assert isinstance(spec, GenerateSpec)
    assert spec.prompts == ("a cup", "a house")


BAD = {
    "field": ("kind: prune\ndampng: 1\n", 2, "has no dampng: did you mean damping?"),
    "field like none": ("kind: export\nqqq: 1\n", 2, "there are after, base, format"),
    "field of a matrix": ("kind: prune\nmatrix:\n  sede: [1]\n", 3, "did you mean seed?"),
    "yes for a number": ("kind: prune\ndamping: yes\n", 2, "damping: yes and no mean nothing"),
    "on for a whole number": ("kind: prune\nheld_out: on\n", 2, "held_out: yes and no"),
    "yes for a priority": ("kind: prune\npriority: yes\n", 2, "priority: yes and no"),
    "no for a prompt": ("kind: generate\nprompts: [a, no]\n", 2, "in quotes"),
    "a bare number of time": ("kind: prune\nmax_runtime: 8\n", 2, "8 of what? Write 8h, 8m or 8s"),
    "sexagesimal": ("kind: prune\nmax_runtime: 1:30\n", 2, "90 of what?"),
    "no such level": (
        "jobs:\n  - {id: a, sparsity: [0.1, 0.3]}\n"
        "  - kind: compare\n    variants: [a@77]\n", 4, "no a@77: the job makes a@10, a@30"),
    "of a comparison": (
        "jobs:\n  - {id: a}\n  - {id: b, kind: compare, variants: [a@20]}\n"
        "  - {kind: compare, variants: [b@20]}\n", 4, "b is of kind compare"),
    "value": ("kind: prune\nseed: 1\ndamping: 5\n", 3, "less than or equal to 1"),
    "of another method": (
        "kind: prune\nmethod: magnitude\ndamping: 0.05\n", 3, "damping is for method obs"),
    "in a matrix": ("kind: prune\nmatrix:\n  seed: [1, -1]\n", 3, "seed"),
    "in defaults": ("defaults: {damping: 9}\njobs:\n  - kind: prune\n", 1, "damping"),
    "no default": ("defaults: {x: 9}\njobs:\n  - kind: prune\n", 1, "no kind of job"),
    "window": ("kind: prune\nwindow: always\n", 2, "23:00-07:00"),
    "kind": ("jobs:\n  - kind: dance\n", 2, "prune, generate, compare"),
    "twice": ("kind: prune\nseed: 1\nseed: 2\n", 3, "given twice"),
    "alias": ("a: &a [1]\nb: *a\n", 2, "aliases"),
    "merge": ("a: &a {kind: prune}\n<<: *a\n", 2, "aliases"),
    "documents": ("kind: prune\n---\nkind: prune\n", 2, "one document"),
    "syntax": ("kind: prune\nprompts: [a\n", 3, "expected"),
    "unknown name": ("jobs:\n  - {kind: compare, variants: [base@30]}\n", 2, "called base"),
    "name below": ("jobs:\n  - {kind: prune, after: b}\n  - {id: b, kind: prune}\n", 2, "called b"),
    "same name": ("jobs:\n  - {id: b}\n  - {id: b}\n", 3, "two jobs"),
    "bad name": ("jobs:\n  - {id: ../b}\n", 2, "an id is"),
    "several for one": (
        "jobs:\n  - {id: b, matrix: {seed: [1, 2]}}\n"
        "  - {kind: generate, prompts: [x], variant: b@20}\n", 3, "b.1"),
    "index": ("jobs:\n  - {kind: compare, variants: ['#0@30']}\n", 2, "give it an id"),
    "empty matrix": ("kind: prune\nmatrix: {seed: []}\n", 2, "list the values"),
    "matrix of ids": ("kind: prune\nmatrix: {id: [a, b]}\n", 2, "cannot vary"),
    "huge matrix": (f"kind: prune\nmatrix:\n  seed: {[*range(60)]}\n  steps: {[*range(1, 60)]}\n",
                    2, f"{MAX_JOBS:,} are the most"),
    "no prompts file": ("kind: generate\nprompts_file: none.txt\n", 2, "none.txt"),
    "tag": ("kind: !!python/object/apply:os.system [ls]\n", 1, "kind"),
    "scalar tag": ("kind: !!python/name:os.system x\n", 1, "constructor"),
    "jobs and fields": ("jobs: [{kind: prune}]\nseed: 1\n", 2, "defaults"),
    "escapes": ('kind: prune\nname: "a\\e[31m"\nmethod: "\\e]0;x\\a"\n', 3, "method"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_an_error_names_file_line_and_mend(tmp_path: Path, what: str) -> None:
    text, line, words = BAD[what]
    with pytest.raises(BadSpec) as refusal:
        read(tmp_path, text)
    said = str(refusal.value)
    assert f"night.yaml, line {line}: " in said
    assert words in said
    assert said.endswith((".", "?"))
    assert "\n" not in said
    assert "\x1b" not in said


def test_no_such_model_and_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(NoSuchModel, match="line 2: No model nothing/here/at"):
        read(tmp_path, "kind: prune\nmodel: nothing/here/at\n")
    with pytest.raises(BadSpec, match="Cannot read"):
        read_job_file(tmp_path / "missing.yaml")


BOMBS = {
    "large": "kind: prune\n" + "# x\n" * 300_000,
    "deep": "[" * 50_000,
    "long": "- 1\n" * 150_000,
    "aliases": "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\n",
    "binary": "\x00\x01\x02",
    "bidi": "kind: '\u202eenurp'\n",
    "number": "seed: " + "9" * 100_000 + "\n",
    "date": "name: 2026-99-99\n",
    "empty": "",
    "comment": "# nothing\n",
    "list": "- kind: prune\n",
    "one line": "name: " + "x" * 900_000 + "\n",
}


@pytest.mark.parametrize("what", BOMBS)
def test_bombs_are_refused_soon(tmp_path: Path, what: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadSpec) as refusal:
        read(tmp_path, BOMBS[what])
    assert time.monotonic() - began < 20
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("jobs:\n  - kind: prune\n  - kind: prune\n    after: [999]\n", 3, "There is no job 999."),
        ("jobs:\n  - {kind: prune}\n  - {kind: compare, variants: [1@30]}\n", 3, "no variant 1@30"),
        ("kind: compare\nvariants: [9@20]\n", 1, "no job 9 exists"),
    ],
)
def test_a_refusal_of_the_store_names_the_line(
    tmp_path: Path, store: Store, reader: Reader, text: str, line: int, words: str
) -> None:
    first = store.enqueue(PruneSpec(sparsity=(0.1,)))
    asked = read(tmp_path, text)
    for keep in (False, True):
        with pytest.raises((NotFound, Refused)) as refusal:
            store.enqueue_all(asked.jobs, sweep=asked.sweep, keep=keep)
        assert f"night.yaml, line {line}: " in str(refusal.value)
        assert words in str(refusal.value)
    assert [job.id for job in reader.jobs()] == [first.id]


def test_a_trial_leaves_nothing(tmp_path: Path, store: Store, reader: Reader) -> None:
    asked = read(tmp_path, SWEEP)
    tried = store.enqueue_all(asked.jobs, sweep=asked.sweep, keep=False)
    assert len(tried) == 6
    assert (reader.jobs(), reader.sweeps()) == ([], [])
    assert store.enqueue_all(asked.jobs, sweep=asked.sweep)[0].id == 1


def test_all_or_nothing(store: Store, reader: Reader) -> None:
    good = NewJob(PruneSpec())
    with pytest.raises(Exception, match="no job 99"):
        store.enqueue_all([good, NewJob(CompareSpec(variants=("99@20",)))], sweep="half")
    with pytest.raises(Exception, match="jobs before it"):
        store.enqueue_all([NewJob(CompareSpec(variants=("#1@20",))), good])
    assert reader.jobs() == []
    assert reader.sweeps() == []
