"""The command line as a person or a script meets it: real store, real exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from core.presets import CALIBRATION_STEPS
from obstui.cli import cli, main
from obstui.cli.jobs import variant_table
from obstui.config import Paths, own_command
from obstui.specs import PruneSpec
from obstui.store import JobView, Reader, Store
from tests.obstui import tui_store


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def obstui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setenv("OBSTUI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OBSTUI_DB", raising=False)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        out, err = capsys.readouterr()
        return Done(int(caught.value.code or 0), out, err)

    return run


def test_queueing_prints_the_job(obstui: Run) -> None:
    done = obstui("prune", "--sparsity", "0.3,0.1", "--name", "tonight", "--json")
    assert done.code == 0
    assert done.err == ""
    job = done.data
    assert (job["id"], job["kind"], job["state"], job["name"]) == (1, "prune", "queued", "tonight")
    assert job["spec"]["sparsity"] == [0.1, 0.3]
    assert {"reason", "progress", "created_at", "result"} <= job.keys()


def test_words_go_to_stderr_and_name_what_comes_next(obstui: Run) -> None:
    done = obstui("prune", "--sparsity", "0.1,0.125")
    assert done.out == ""
    assert "Queued as job 1" in done.err
    assert "1@10" in done.err
    assert "1@12.5" in done.err
    assert "obstui worker start" in done.err


def test_prompt_files_are_frozen_into_the_spec(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("a\nb\nc\n")
    spec = obstui("prune", "--prompts", str(file), "--json").data["spec"]
    assert (spec["prompts"], spec["num_prompts"]) == (["a", "b", "c"], 3)
    spec = obstui("generate", "--prompts", str(file), "--prompt", "d", "--json").data["spec"]
    assert spec["prompts"] == ["d", "a", "b", "c"]
    file = tmp_path / "captions.tsv"
    file.write_text("\thttp://0\n" + "".join(f"c{n // 2}\thttp://{n}\n" for n in range(900)))
    done = obstui("prune", "--prompts", str(file), "--num-prompts", "3", "--json")
    assert done.data["spec"]["prompts"] == ["c0", "c1", "c2"]
    assert "captions.tsv: 1 blank and 2 repeated" in done.err
    assert obstui("prune", "--prompts", str(file), "--json").data["spec"]["num_prompts"] == 100
    spec = obstui("generate", "--prompts", str(file), "--num-prompts", "2", "--json").data["spec"]
    assert spec["prompts"] == ["c0", "c1"]
    assert obstui("prune", "--prompts", str(file), "--num-prompts", "0").code == 2


def test_ls_and_show(obstui: Run) -> None:
    assert obstui("ls").err.startswith("No jobs yet")
    assert obstui("ls", "--json").data == []
    obstui("prune")
    obstui("generate", "--prompt", "a [red]cat[/] \x1b[31m", "--name", "cats")
    listed = obstui("ls")
    assert listed.out.splitlines()[0].split() == ["ID", "KIND", "STATE", "NOW", "TIME", "NAME"]
    assert "\x1b" not in listed.out
    assert [job["id"] for job in obstui("ls", "--json").data] == [2, 1]
    assert [job["id"] for job in obstui("ls", "--state", "failed", "--json").data] == []
    shown = obstui("show", "1")
    assert "queued" in shown.out
    assert obstui("show", "2", "--json").data["name"] == "cats"


def test_attempts_that_did_not_end_well_are_told(obstui: Run, tmp_path: Path) -> None:
    scene = tui_store.Scene(tmp_path / "home")
    job = scene.queue("prune")
    for state, facts in (
        ("queued", {"reason": "child_lost", "error": "It was killed \x1b[31m(SIGKILL)."}),
        ("queued", {"reason": "drain"}),
        ("queued", {"reason": "worker_lost"}),
        ("failed", {"reason": "exit_code", "error": "It broke."}),
    ):
        claim = scene.start()
        scene.log(claim, "so far\n" if state == "failed" else "")
        scene.now += 75
        scene.finish(claim, state, **facts)
        scene.now += 600
    scene.close()
    shown = [" ".join(line.split()) for line in obstui("show", str(job.id)).out.splitlines()]
    assert shown[shown.index("attempt 4 on cpu") + 1 :][:4] == [
        "lost attempt 1 on cpu after 1m 15s: It was killed (SIGKILL).",
        "stopped attempt 2 on cpu after 1m 15s: its worker was stopped",
        "lost attempt 3 on cpu after 1m 15s: a lost worker",
        "failed attempt 4 on cpu after 1m 15s",
    ]
    assert "error It broke." in shown
    told = obstui("show", str(job.id), "--json").data["attempts"]
    assert [(each["number"], each["reason"]) for each in told] == [
        (1, "child_lost"), (2, "drain"), (3, "worker_lost"), (4, "exit_code"),
    ]  # fmt: skip
    first, last = (obstui("logs", "1", *more) for more in (("--attempt", "1"), ()))
    assert first.err.splitlines() == [
        "The log of job 1 is empty: its process had nothing to say.",
        "Lost: attempt 1 on cpu after 1m 15s: It was killed (SIGKILL).",
    ]
    assert (last.out, last.err.strip()) == (
        "so far\n", "Failed: attempt 4 on cpu after 1m 15s: It broke."
    )  # fmt: skip


def test_following_a_log_goes_on_with_the_next_attempt(obstui: Run, tmp_path: Path) -> None:
    scene = tui_store.Scene(tmp_path / "home")
    scene.queue("prune")
    following = subprocess.Popen(
        [sys.executable, "-m", "obstui", "--db", str(scene.paths.db), "logs", "1", "-f"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    first = scene.start()
    scene.log(first, "one\n")
    told = [following.stdout.readline()]
    scene.now += 75
    scene.finish(first, "queued", reason="child_lost")
    second = scene.start()
    scene.log(second, "two\n")
    told += [following.stdout.readline() for _ in range(2)]
    scene.finish(second, "succeeded", result={})
    told.append(following.communicate(timeout=30)[0])
    scene.close()
    assert told == ["one\n", "Lost: attempt 1 on cpu after 1m 15s: a lost process\n", "two\n", ""]
    assert following.returncode == 0


def test_a_comparison_waits_for_its_variants(obstui: Run) -> None:
    obstui("prune", "--sparsity", "0.3")
    job = obstui("compare", "--variants", "1@30", "--json").data
    assert "job 1" in job["blocked"]
    obstui("cancel", "1")
    assert obstui("show", "2", "--json").data["state"] == "skipped"
    obstui("retry", "1")
    assert obstui("show", "2", "--json").data["state"] == "queued"


def test_pause_resume_cancel_priority_rm(obstui: Run) -> None:
    obstui("prune")
    assert obstui("pause", "1", "--json").data[0]["state"] == "held"
    assert obstui("resume", "1", "--json").data[0]["state"] == "queued"
    assert obstui("priority", "1", "5").code == 0
    assert obstui("show", "1", "--json").data["priority"] == 5
    assert "cancelled" in obstui("cancel", "1").err
    assert obstui("cancel", "1").code == 2
    assert obstui("rm", "1", "--yes").code == 0
    assert obstui("show", "1").code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("prune", "--model", "nope"), 3, "No model nope: give demo, a hub id"),
        (("prune", "--sparsity", "1.2"), 2, "sparsity: 1.2 is not above 0 and at most 0.9"),
        (("prune", "--sparsity", "95%"), 2, "0.95 is not above 0"),
        (("prune", "--prompts", "/no/such"), 2, "Cannot read the prompt file /no/such"),
        (("prune", "--steps", "0"), 2, "steps"),
        (("generate",), 2, "Nothing to paint"),
        (("generate", "--prompt", " "), 2, "a prompt is empty"),
        (("compare",), 2, "--variants"),
        (("compare", "--variants", "7@30"), 3, "7"),
        (("compare", "--variants", "/no/variant"), 3, "No variant /no/variant"),
        (("generate", "--prompt", "x", "--seeds", ""), 2, "seeds: give whole numbers, for example"),
        (("prune", "--sparsity", "0"), 2, "0 is not above 0 and at most 0.9 (for example 0.3"),
        (("models", "export", "1@20"), 2, "'--format'. Choose from: diffusers, pth, dense"),
        (
            ("report", "--html", "/nonexist/x.html"),
            2,
            "Cannot write /nonexist/x.html (No such file or directory): name a file in a folder",
        ),
        (("report", "--html", "/tmp"), 2, "Cannot write /tmp ("),
        (("models", "export", "1@20", "--format", "pth", "--to", "n" * 300), 2, "name too long"),
        (
            ("models", "export", "1@20", "--format", "pth", "--to", "/proc/xx"),
            2,
            "/proc/xx cannot be made: ",
        ),
        (("show", "99"), 3, "no job 99"),
        (("cancel", "99"), 3, "99"),
        (("wait", "99"), 3, "99"),
        (("wait",), 2, "obstui wait --all"),
        (("logs", "99"), 3, "99"),
        (("frobnicate",), 2, "No such command 'frobnicate'. obstui --help lists"),
        (("sho",), 2, "Did you mean show?"),
        (("ls", "--limit", "x"), 2, "--limit"),
        ((), 2, "needs a terminal"),
    ],
)
def test_wrong_input_is_one_sentence(
    obstui: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    obstui("prune", "--sparsity", "0.2")
    done = obstui(*arguments)
    assert done.code == code
    assert words in done.err
    assert done.err.startswith("obstui: ")
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert [job["id"] for job in obstui("ls", "--json").data] == [1]


_NUMBERS = (click.types.IntParamType, click.types.FloatParamType)
_NEEDED = {
    "generate": ("--prompt", "a fox"),
    "compare": ("--variants", "1@30"),
    "bench": ("--variants", "1@30"),
    "export": ("1@30", "--format", "pth"),
    "import": ("1@30.pth",),
    "move": ("1",),
    "logs": ("1",),
    "snapshot": ("queue", "--svg", "/dev/null"),
    "rm": ("--yes",),
}
"""What a command cannot do without, by its last word."""


def _commands(path: tuple[str, ...], command: click.Command) -> Iterator[Any]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _commands((*path, name), found)


@pytest.mark.parametrize(
    ("path", "command"),
    [pytest.param(path, command, id=" ".join(path)) for path, command in _commands((), cli)],
)
def test_a_number_out_of_range_is_one_sentence(
    obstui: Run, path: tuple[str, ...], command: click.Command
) -> None:
    numbers = [p for p in command.params if isinstance(p.type, _NUMBERS)]
    obstui("prune", "--sparsity", "0.3")
    for parameter, value in product(numbers, ["0", "-1", "9" * 400, "nan"]):
        if isinstance(parameter, click.Argument):
            both = ["1", value] if parameter.name == "number" else [value, "1"]
            given = ["--", *(both if path == ("priority",) else [value])]
        else:
            given = [*_NEEDED.get(path[-1], ()), f"{parameter.opts[0]}={value}"]
        done = obstui(*path, *given)
        if done.code:
            assert done.code in (2, 3)
            assert done.err.startswith("obstui: ")
            assert len(done.err.strip().splitlines()) == 1


def test_help_has_words_for_everything(obstui: Run) -> None:
    for path, command in _commands((), cli):
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, (path, option.name)
        assert "(default" not in obstui(*path, "--help").out
    told = " ".join(obstui("prune", "--help").out.split())
    assert f"Denoising steps [default: {CALIBRATION_STEPS}]" in told
    assert "(obstui models add) [default: demo]" in told
    for group in ("models", "plan", "worker"):
        listed = obstui(group, "--help").out.partition("Commands:")[2]
        assert "..." not in listed, "no summary is cut short"


@pytest.mark.parametrize("value", ["0", "-3"])
@pytest.mark.parametrize("before", [(), ("plan",)])
def test_no_prompts_are_refused_alike(obstui: Run, before: tuple[str, ...], value: str) -> None:
    for command in (("compare", "--variants", "1@30"), ("prune",), ("generate", "--prompt", "x")):
        done = obstui(*before, *command, "--num-prompts", value)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"obstui: --num-prompts {value}: take at least 1.\n"


def test_a_folder_that_cannot_be_written(obstui: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSTUI_HOME", "/proc/obstui")
    done = obstui("prune")
    assert done.code == 4
    assert "Cannot make the folder /proc/obstui" in done.err
    assert "OBSTUI_HOME" in done.err


def test_a_bad_store_is_refused_and_left_alone(obstui: Run, tmp_path: Path) -> None:
    bad = tmp_path / "notes.db"
    bad.write_bytes(b"my precious notes, no database" * 50)
    for arguments in (("ls",), ("prune",), ("show", "1")):
        done = obstui("--db", str(bad), *arguments)
        assert done.code == 4
        assert len(done.err.strip().splitlines()) == 1
    assert bad.read_bytes() == b"my precious notes, no database" * 50


def test_debug_shows_the_traceback(obstui: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from obstui.specs import NoSuchModel

    with pytest.raises(NoSuchModel):
        main(["--debug", "prune", "--model", "nope"])
    assert "No model nope" in capsys.readouterr().err


def test_version_and_help_in_a_real_process() -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "obstui", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run("--version").startswith("obstui 0.")
    listing = run("--help")
    assert all(f"  {name} " in listing for name in ("demo", "prune", "compare", "worker", "wait"))
    assert "--sparsity" in run("prune", "--help")


def test_a_csv_without_a_known_column_is_spoken_of(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("id,title\n1,a cup\n")
    done = obstui("prune", "--prompts", str(file))
    assert "names no column caption, text or prompt" in done.err
    assert "beginning with 'id'" in done.err
    file.write_text("id,caption\n1,a cup\n")
    assert "column" not in obstui("prune", "--prompts", str(file)).err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--budget", "ms"), "a budget is for allocation by loss"),
        (("--method", "magnitude", "--packages", "4"), "packages is for method obs"),
        (("--method", "magnitude", "--damping", "0.05"), "damping is for method obs"),
        (("--method", "magnitude", "--timestep-weights", "uniform"), "timestep_weights is for"),
        (("--method", "magnitude", "--num-prompts", "8"), "magnitude needs no calibration"),
    ],
)
def test_an_option_without_effect_is_refused(
    obstui: Run, options: tuple[str, ...], words: str
) -> None:
    for command in (("prune",), ("plan", "prune")):
        done = obstui(*command, *options)
        assert (done.code, done.out) == (2, "")
        assert words in done.err
    assert obstui("prune", "--budget", "ms", "--allocate", "loss").code == 0
    done = obstui("generate", "--prompt", "x", "--num-prompts", "4")
    assert (done.code, "--num-prompts is for --prompts FILE" in done.err) == (2, True)


def test_show_tells_what_was_asked(obstui: Run) -> None:
    def rows(job_id: int) -> dict[str, str]:
        lines = (line.split(None, 1) for line in obstui("show", str(job_id)).out.splitlines())
        return {name: words for name, words in lines if name in ("asks", "prompts")}

    obstui("prune", "--damping", "0.05", "--packages", "4", "--num-prompts", "7", "--steps", "9")
    asked = "steps 9; damping 0.05; packages 4"
    assert rows(1) == {"asks": asked, "prompts": "7"}
    obstui("prune", "--method", "magnitude")
    assert rows(2) == {"asks": "method magnitude"}
    obstui("generate", "--variant", "1@20", "--prompt", "a fox", "--prompt", "a hen", "--seeds",
           "1,7", "--size", "64", "--scheduler", "euler", "--negative", "fog")  # fmt: skip
    asked = "size 64; variant 1@20; negative fog; seeds 1, 7; scheduler euler"
    assert rows(3) == {"asks": asked, "prompts": "2: a fox, ..."}
    obstui("compare", "--variants", "1@20", "--count", "2")
    assert rows(4) == {"asks": "variants 1@20; count 2", "prompts": "8"}
    obstui("bench", "--variants", "1@20", "--repeats", "3")
    assert rows(5) == {"asks": "variants 1@20; repeats 3"}


def test_without_model_a_variants_own_base_is_taken(obstui: Run) -> None:
    obstui("prune", "--model", "owner/sdxl")
    obstui("prune")
    for arguments in (
        ("compare", "--variants", "1@20"),
        ("bench", "--variants", "1@20"),
        ("generate", "--variant", "1@20", "--prompt", "x"),
    ):
        assert obstui(*arguments, "--json").data["spec"]["model"] == "owner/sdxl"
    assert obstui("compare", "--variants", "2@20", "--json").data["spec"]["model"] == "demo"
    assert obstui("generate", "--prompt", "x", "--json").data["spec"]["model"] == "demo"
    planned = obstui("plan", "compare", "--variants", "1@20", "--json").data
    assert planned["model"] == "owner/sdxl"
    assert "give the same --model" in obstui("bench", "--variants", "1@20,2@20").err


def test_a_refused_list_of_variants_is_said_in_words(obstui: Run) -> None:
    done = obstui("bench", "--variants", ",")
    assert (done.code, "--variants names none" in done.err) == (2, True)


def test_a_variant_of_the_demo_model_is_of_no_other(obstui: Run) -> None:
    obstui("prune", "--model", "owner/sdxl")
    obstui("prune")
    for arguments in (
        ("compare", "--variants", "1@20", "--model", "demo"),
        ("generate", "--variant", "2@20", "--prompt", "x", "--model", "owner/sdxl"),
    ):
        done = obstui(*arguments)
        assert done.code != 0
        assert "give the same --model" in done.err
    assert obstui("compare", "--variants", "1@20", "--model", "owner/sdxl").code == 0
    assert obstui("compare", "--variants", "1@20", "--model", "owner/sdxl-copy").code == 0
    assert len(obstui("ls", "--json").data) == 4


def test_a_small_error_is_not_shown_as_none() -> None:
    variant = {"id": "1@30", "sparsity": 0.3, "params": 7, "dense_params": 8, "size_bytes": 1,
               "path": "/v", "mean_error": 3.14e-5, "held_out_error": 0.0958,
               "noise_error": None}  # fmt: skip
    shown = variant_table([variant])
    assert "3.1e-05" in shown
    assert "0.096" in shown
    assert "0.000" in variant_table([{**variant, "mean_error": 0.0}])


def test_a_no_changes_nothing_and_says_so(obstui: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    obstui("generate", "--prompt", "a cup")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", lambda question, **_: False)
    done = obstui("rm", "1")
    assert (done.code, done.err) == (1, "Nothing was removed.\n")
    assert obstui("show", "1").code == 0


def test_a_variant_whose_files_went_is_said_to_be_gone(obstui: Run, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db").ensure()
    with Store.open(paths) as store:
        job = store.enqueue(PruneSpec(sparsity=(0.2,)))
        claim = store.claim("w", "cpu")
        assert claim is not None
        store.started(claim, 1, 2)
        folder = str(paths.output(job.ulid) / "s20")
        variant = {"id": "1@20", "sparsity": 0.2, "params": 7, "dense_params": 8, "size_bytes": 1,
                   "path": folder}  # fmt: skip
        store.finish(claim, "succeeded", result={"variants": [variant]})
    done = obstui("models", "verify", "1@20")
    assert done.code == 3
    assert "1@20 were deleted or moved: obstui show 1 --yaml" in done.err
    assert f"not on this disk: {folder}" in obstui("show", "1").out
    assert "not here" in obstui("models", "ls").out, "as the dashboard says"
    assert obstui("models", "rm", "1@20", "--yes").code == 0
    assert "1@20" not in obstui("show", "1").out.replace("prune to 20 %", "")


def test_a_pipe_gets_the_jobs_of_a_model_whole(
    obstui: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        assert obstui("prune").code == 0
    whole = ", ".join(map(str, range(1, 21)))
    assert whole in obstui("models", "ls").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = obstui("models", "ls").out
    assert whole not in shown
    assert "1, 2, 3" in shown


def test_a_store_that_was_misnamed_is_not_an_empty_one(
    obstui: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "nonexist" / "x.db"
    reading = ("ls",), ("ls", "--queue"), ("ls", "--sweeps"), ("report",), ("models", "ls")
    for named in (nowhere, tmp_path / "typo.db"):
        said = obstui("--db", str(named), "show", "1").err
        assert f"There is no store {named} yet" in said
        for command in (*reading, ("worker", "status"), ("models", "verify", "1@30")):
            done = obstui("--db", str(named), *command)
            assert (done.code, done.out, done.err) == (4, "", said)
        assert not named.exists()
    for command in reading:
        assert obstui(*command).code == 0, "before the first job there is no store"
    monkeypatch.setenv("OBSTUI_DB", str(nowhere))
    assert obstui("ls").code == 4
    assert obstui("prune").code == 0, "a command that queues makes it"
    assert obstui("ls").code == 0


def test_the_program_is_called_as_the_shell_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [".venv/bin/obstui", "demo"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_command() == ".venv/bin/obstui"
    monkeypatch.setattr("sys.argv", ["/src/obstui/__main__.py", "demo"])
    assert own_command() == f"{sys.executable} -m obstui"
    (tmp_path / "obstui").touch(mode=0o755)
    assert own_command() == "obstui"


def test_the_demo_ends_with_commands_that_work(
    obstui: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are not run here."""

    def follow(paths: Paths, ids: list[int], *, quiet: bool) -> list[JobView]:
        with Reader.open(paths) as reader:
            job = reader.job(ids[0])
        assert job is not None
        picture = {"path": str(tmp_path / "output" / "dense" / "0.png")}
        return [replace(job, state="succeeded", result={"models": [], "images": [picture]})]

    monkeypatch.setattr("obstui.cli.watch.follow", follow)
    for what in ("start", "stop"):
        monkeypatch.setattr(f"obstui.worker.launch.{what}", lambda paths: None)
    monkeypatch.setattr("obstui.cli.demo.model_table", lambda result: "")
    monkeypatch.setattr("sys.argv", [".venv/bin/obstui", "demo"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "with .venv/bin/obstui, .venv/bin/obstui ls and" in obstui("demo").err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("serve", "--port", "abc"), "'--port': 'abc' is not a whole number."),
        (("prune", "--steps", "abc"), "'--steps': 'abc' is not a whole number."),
        (("models", "rm", "demo"), "The model demo is bundled with obstui: it stays."),
        (("retry", "1", "--set", "stepz=1"), "did you mean steps?"),
    ],
)
def test_refusals_are_in_plain_words(obstui: Run, command: tuple[str, ...], words: str) -> None:
    obstui("prune")
    obstui("cancel", "1")
    done = obstui(*command)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


@pytest.mark.parametrize("home", ["a-file", "/proc/x"])
def test_a_state_folder_that_cannot_be_is_not_an_empty_one(
    home: str, obstui: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").write_text("mine")
    monkeypatch.setenv("OBSTUI_HOME", str(tmp_path / home))
    for command in ("ls", "report"):
        done = obstui(command)
        assert (done.code, done.out) == (4, "")
        assert f"The state folder {tmp_path / home} cannot be used" in done.err
        assert "set OBSTUI_HOME" in done.err


def test_a_wish_is_no_promise(obstui: Run, tmp_path: Path) -> None:
    """The job may end before its next boundary."""
    obstui("generate", "--prompt", "a cup")
    with Store.open(Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")) as store:
        claim = store.claim("w", "cpu")
        assert claim is not None
        store.started(claim, 1, 2)
    assert "will be cancelled, unless it is done before" in obstui("cancel", "1").err
