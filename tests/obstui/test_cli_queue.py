"""The queue's commands: job files, bulk, changes, windows, stops, the way back from a backup."""

from __future__ import annotations

import fcntl
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from obstui.config import Paths
from obstui.store import Store, backup
from tests.obstui.test_cli import Run, obstui

__all__ = ["obstui"]


def test_a_job_comes_back_as_a_file_that_makes_it_again(obstui: Run, tmp_path: Path) -> None:
    obstui("prune", "--sparsity", "0.1,0.3", "--damping", "1e-5", "--name", "no: 1.5 #x")
    obstui("generate", "--prompt", "- \U0001f431: [x] 'q' \"d\"", "--prompt", "yes", "--variant",
           "1@30", "--window", "23:00-07:00", "--max-runtime", "90m", "--after", "1", "--held",
           "--priority", "-3")  # fmt: skip
    obstui("compare", "--variants", "1@10,1@30", "--num-prompts", "3", "--after", "2")
    for job_id in (1, 2, 3):
        file = tmp_path / "again.yaml"
        file.write_text(obstui("show", str(job_id), "--yaml").out)
        done = obstui("submit", str(file), "--json")
        assert done.code == 0, done.err
        [again] = done.data
        first = obstui("show", str(job_id), "--json").data
        for key in ("kind", "name", "spec", "window", "max_runtime", "priority", "state"):
            assert again[key] == first[key], key
        assert (again["id"] != first["id"]) is True
    assert "job 1" in obstui("show", "5").out


def test_a_dry_run_queues_nothing(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("kind: prune\nmatrix: {seed: [0, 1, 2]}\nwindow: 1:00-2:00\n")
    done = obstui("submit", str(file), "--dry-run")
    assert done.out.count("01:00-02:00") == 3
    assert "3 jobs of the sweep sweep would be queued; nothing was." in done.err
    assert len(obstui("submit", str(file), "--dry-run", "--json").data) == 3
    assert obstui("ls", "--json").data == []


def test_in_bulk(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("kind: prune\nmatrix: {seed: [0, 1, 2, 3, 4, 5]}\n")
    obstui("submit", str(file))
    done = obstui("cancel", "2-4", "6")
    assert done.code == 0
    assert [job["id"] for job in obstui("ls", "--state", "cancelled", "--json").data] == [
        6,
        4,
        3,
        2,
    ]
    done = obstui("cancel", "1", "2")
    assert done.code == 2
    assert "Job 1 is cancelled." in done.err
    assert "Job 2 is cancelled already" in done.err
    assert obstui("retry", "--state", "cancelled").code == 0
    assert {job["state"] for job in obstui("ls", "--json").data} == {"queued"}
    [sweep] = obstui("ls", "--sweeps", "--json").data
    assert (sweep["id"], sweep["counts"]) == (1, {"queued": 6})
    assert obstui("pause", "--sweep", "1").code == 0
    assert {job["state"] for job in obstui("ls", "--sweep", "1", "--json").data} == {"held"}
    assert obstui("cancel", "70-80").code == 3
    assert obstui("cancel", "9-3").code == 2
    assert obstui("cancel", "x").code == 2
    assert obstui("cancel").code == 2
    assert obstui("rm", "--sweep", "1", "--yes").code == 0
    assert obstui("ls", "--sweeps", "--json").data == []
    assert obstui("ls", "--json").data == []


def test_retry_with_changes(obstui: Run) -> None:
    obstui("prune", "--sparsity", "0.1,0.3")
    obstui("compare", "--variants", "1@30")
    obstui("cancel", "1")
    assert obstui("show", "2", "--json").data["state"] == "skipped"
    done = obstui("retry", "1", "--set", "sparsity=0.1")
    assert (done.code, "Job 2 needs 1@30" in done.err) == (2, True)
    done = obstui("retry", "1", "--set", "damping=7")
    assert (done.code, "damping" in done.err) == (2, True)
    assert obstui("retry", "1", "--set", "kind=compare").code == 2
    assert obstui("retry", "1", "--set", "damping").code == 2
    done = obstui("retry", "1", "--set", "num_prompts=1", "--set", "steps=1")
    assert (done.code, "too few to solve for" in done.err) == (2, True)
    assert obstui("retry", "1", "--set", "model=nowhere").code == 3
    assert obstui("show", "1", "--json").data["state"] == "cancelled"
    done = obstui("retry", "1", "--set", "damping=0.05", "--set", "sparsity=[0.2, 0.3]",
                  "--set", "max_runtime=2h", "--json")  # fmt: skip
    [job] = done.data
    assert (job["spec"]["damping"], job["spec"]["sparsity"]) == (0.05, [0.2, 0.3])
    assert (job["max_runtime"], job["state"]) == (7200.0, "queued")
    assert obstui("show", "2", "--json").data["state"] == "queued"  # revived with it


def test_a_retry_keeps_a_persons_name_and_renews_the_programs(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text("""
jobs:
  - {matrix: {damping: [0.2]}}
  - {name: mine, matrix: {guidance: [5], damping: [0.2]}}
  - {name: at damping=high, damping: 0.2}
""")
    assert obstui("submit", str(file)).code == 0
    obstui("cancel", "1-3")
    assert obstui("retry", "1-3", "--set", "damping=0.5").code == 0
    names = [job["name"] for job in sorted(obstui("ls", "--json").data, key=lambda job: job["id"])]
    assert names == ["prune damping=0.5", "mine guidance=5.0, damping=0.5", "at damping=high"]


def test_a_job_says_how_many_prompts_it_has(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\na dog\na fox\n")
    obstui("prune", "--prompts", str(file), "--num-prompts", "24", "--sparsity", "0.1")
    obstui("compare", "--variants", "1@10", "--prompts", str(file), "--num-prompts", "24")
    assert [obstui("show", job, "--json").data["spec"]["num_prompts"] for job in "12"] == [3, 3]
    obstui("cancel", "1")
    assert obstui("retry", "1", "--set", "prompts=[a, b, c, d]").code == 0
    assert obstui("show", "1", "--json").data["spec"]["num_prompts"] == 4


def test_the_whole_queue_stops_and_goes_on(obstui: Run) -> None:
    obstui("prune")
    assert obstui("pause", "--queue").code == 0
    assert "queue is paused" in obstui("show", "1").out
    assert obstui("resume", "--queue").code == 0
    assert "queue is paused" not in obstui("show", "1").out
    again = obstui("resume", "--queue")
    assert (again.code, again.err.strip()) == (0, "The queue was not paused.")
    assert obstui("resume", "--device", "cpu").code == 3
    assert obstui("pause", "1", "--now").code == 2
    assert obstui("pause", "1", "--queue").code == 2


def test_a_place_in_the_queue(obstui: Run) -> None:
    for _ in range(3):
        obstui("prune")
    assert obstui("move", "3", "--before", "2").code == 0
    assert obstui("move", "2", "--first").code == 0
    assert obstui("move", "2").code == 2
    assert obstui("move", "2", "--before", "9").code == 3


def test_back_from_a_backup(obstui: Run, tmp_path: Path) -> None:
    obstui("prune")
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")
    assert obstui("restore").code == 3
    copy = backup.back_up(paths)
    obstui("prune")
    paths.db.write_bytes(b"garbage" * 5000)
    done = obstui("ls")
    assert done.code == 4
    assert f"obstui restore {copy}" in done.err
    assert obstui("restore").code == 0
    assert [job["id"] for job in obstui("ls", "--json").data] == [1]
    aside = [p for p in paths.db.parent.glob("jobs.db.set-aside-*") if p.stat().st_size]
    assert len(aside) == 1


@pytest.mark.parametrize("text", ["\x1b[31mred\x1b[0m", "[bold]x[/]", "\u202egnp", "x" * 200_000,
                                  "\x9b31m", "a\x00b", "../../etc/passwd"])  # fmt: skip
def test_hostile_words_stay_words(obstui: Run, tmp_path: Path, text: str) -> None:
    import yaml

    sweep = {"name": text, "jobs": [{"kind": "prune", "name": text[:100]}, {"kind": "prune"}]}
    file = tmp_path / "hostile.yaml"
    file.write_text(yaml.safe_dump(sweep))
    done = obstui("submit", str(file))
    assert done.code == 0, done.err
    with Store.open(Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")) as store:
        store.stop("cpu", text)
        store.stop("*", text)
    outputs = [done, obstui("ls", "--sweeps"), obstui("ls"), obstui("show", "1"),
               obstui("retry", "1", "--set", f"name={text[:3000]}"), obstui("resume", text),
               obstui("resume", "--device", text), obstui("prune", "--window", text),
               obstui("prune", "--max-runtime", text), obstui("prune", "--after", text),
               obstui("submit", text[:50].replace("\x00", "")),
               obstui("restore", text[:50].replace("\x00", ""))]  # fmt: skip
    for result in outputs:
        for bad in ("\x1b", "\x9b", "\u202e", "\x00", "x" * 5000):
            assert bad not in result.out + result.err


def test_a_priority_may_be_below_zero(obstui: Run) -> None:
    obstui("prune")
    assert obstui("priority", "1", "-3").code == 0
    assert obstui("show", "1", "--json").data["priority"] == -3
    assert obstui("priority", "1", "--high").code == 2


def test_removal_with_nobody_to_ask_names_the_option(obstui: Run) -> None:
    obstui("prune", "--held")
    done = obstui("rm", "1")
    assert (done.code, "--yes" in done.err) == (2, True)
    assert len(obstui("ls", "--json").data) == 1


def test_what_show_says_of_a_job_whose_worker_is_gone(obstui: Run, tmp_path: Path) -> None:
    obstui("prune")
    with Store.open(Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")) as store:
        claim = store.claim("nobody", "cpu")
        assert claim is not None
        store.started(claim, 1, 2)
        store.progress(claim, {"phase": "solve", "done": 1, "total": 2})
        assert "its worker is gone: obstui worker start" in obstui("show", "1").out
        assert obstui("show", "1", "--json").data["progress"]["done"] == 1
        store.finish(claim, "failed")
    assert "its worker is gone" not in obstui("show", "1").out
    assert obstui("show", "1", "--json").data["progress"] is None


def test_the_queue_in_the_order_in_which_it_runs(obstui: Run, tmp_path: Path) -> None:
    assert "Nothing runs" in obstui("ls", "--queue").err
    hour = (time.localtime().tm_hour + 12) % 24
    window = f"{hour:02d}:00-{hour:02d}:01"
    for options in ((), (), ("--window", window), ("--held",), ("--priority", "7"), ()):
        obstui("prune", *options)
    obstui("compare", "--variants", "2@20")
    obstui("move", "6", "--before", "2")
    with Store.open(Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")) as store:
        claim = store.claim("nobody", "cpu")
    assert claim is not None
    assert claim.job_id == 5  # of the highest priority
    jobs = obstui("ls", "--queue", "--json").data
    assert [job["id"] for job in jobs] == [5, 1, 6, 2, 3, 7, 4]
    assert [job["place"] for job in jobs] == [None, 1, 2, 3, 4, 5, None]
    lines = obstui("ls", "--queue").out.splitlines()
    assert lines[0].split() == ["PLACE", "ID", "KIND", "STATE", "PRIORITY", "WINDOW", "NAME", "NOW"]
    assert "its worker is gone" in lines[1]
    assert window in lines[5]
    assert "outside its time window" in lines[5]
    assert "waits for job 2 (queued)" in lines[6]
    assert lines[7].endswith("until obstui resume 4")
    assert "And 5 more: --limit 7" in obstui("ls", "--queue", "--limit", "2").err
    assert obstui("ls", "--queue", "--sweeps").code == 2


def test_the_order_told_is_the_order_taken(obstui: Run, tmp_path: Path) -> None:
    for priority in (0, 3, 0, -2, 3):
        obstui("prune", "--priority", str(priority))
    obstui("move", "3", "--first")
    told = [job["id"] for job in obstui("ls", "--queue", "--json").data]
    taken = []
    with Store.open(Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")) as store:
        while claim := store.claim("nobody", "cpu"):
            taken.append(claim.job_id)
    assert told == taken


def test_what_ls_says_of_a_job_whose_worker_is_gone(obstui: Run, tmp_path: Path) -> None:
    obstui("prune")
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")
    with Store.open(paths) as store:
        assert store.claim("nobody", "cpu") is not None
    words = "Job 1 stands still: its worker is gone: obstui worker start lets it go on."
    assert words in obstui("ls").err
    with paths.lock("cpu").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a worker that lives does
        assert obstui("ls").err == ""


def test_waiting_says_why_a_job_stands_still(
    obstui: Run, tmp_path: Path, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    obstui("prune", "--held")
    obstui("prune")
    home = tmp_path / "home"
    told = {}
    with Store.open(Paths(home, home / "jobs.db")) as store:
        assert store.claim("nobody", "cpu") is not None
        for job_id, options in ((1, ()), (1, ("--json",)), (2, ())):
            script = "import sys; from obstui.cli import main; main(sys.argv[1:])"
            wait = spawn(script, "--db", home / "jobs.db", "wait", str(job_id), *options)
            assert wait.stderr is not None
            assert select.select([wait.stderr], [], [], 20)[0], "not a word"
            told[job_id, options] = wait.stderr.readline()
    assert "obstui resume 1 lets it go on" in told[1, ()]
    assert "obstui resume 1 lets it go on" in told[1, ("--json",)]
    assert "its worker is gone: obstui worker start" in told[2, ()]


def test_to_wait_for_all_leaves_out_what_waits_for_the_person(obstui: Run) -> None:
    obstui("prune", "--held")
    done = obstui("wait", "--all")
    assert (done.code, done.err) == (0, "Not waited for, held or paused: 1.\n")


def test_nobody_can_wait_for_a_job_that_is_held(
    obstui: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text("volume = 11\n")  # no worker would start, were it to come to that
    monkeypatch.setenv("OBSTUI_CONFIG", str(settings))
    done = obstui("prune", "--held", "--wait")
    assert (done.code, "leave out --held or --wait" in done.err) == (2, True)
    assert obstui("ls", "--json").data == []


def test_a_sound_store_is_not_put_back_unasked(obstui: Run, tmp_path: Path) -> None:
    obstui("prune")
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db")
    copy = backup.back_up(paths)
    assert obstui("restore").code == 0  # the same: nothing is undone
    obstui("cancel", "1")
    done = obstui("restore")
    assert (done.code, "going back undoes what has become of 1 since" in done.err) == (2, True)
    obstui("prune")
    obstui("prune")
    done = obstui("restore", str(copy))
    assert done.code == 2
    assert "is older: going back loses 2 jobs and undoes what has become of 1" in done.err
    assert "--yes" in done.err
    assert [job["state"] for job in obstui("ls", "--json").data] == ["queued"] * 2 + ["cancelled"]
    assert obstui("restore", str(copy), "--yes").code == 0
    assert [job["state"] for job in obstui("ls", "--json").data] == ["queued"]


def test_the_example_can_be_submitted(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text(obstui("submit", "--example").out)
    done = obstui("submit", str(file), "--dry-run")
    assert done.code == 0
    assert done.err == "4 jobs of the sweep damping would be queued; nothing was.\n"
    assert not (tmp_path / "home").exists()  # trying makes nothing
    assert len(obstui("submit", str(file), "--json").data) == 4
    assert "sparsity: [0.1, 0.3]" in obstui("submit", "--help").out


def test_a_dry_run_refuses_what_the_queue_would(obstui: Run, tmp_path: Path) -> None:
    file = tmp_path / "night.yaml"
    file.write_text("kind: prune\nafter: [1]\n")
    for _ in range(2):  # without a store, and with one
        done = obstui("submit", str(file), "--dry-run")
        assert done.code == 3
        assert "night.yaml, line 1: There is no job 1." in done.err
        obstui("prune", "--held")
        obstui("rm", "1", "--yes")


def test_a_length_of_time_has_a_unit(obstui: Run) -> None:
    assert "Write 8h, 8m or 8s" in obstui("prune", "--max-runtime", "8").err
    obstui("prune")
    obstui("cancel", "1")
    done = obstui("retry", "1", "--set", "max_runtime=8")
    assert (done.code, "Write 8h, 8m or 8s" in done.err) == (2, True)
    done = obstui("retry", "1", "--set", "damping=yes")
    assert (done.code, "yes and no mean nothing here" in done.err) == (2, True)


def test_help_tells_which_seeds_are_painted(obstui: Run) -> None:
    """The two commands count differently."""
    said = {name: " ".join(obstui(name, "--help").out.split()) for name in ("generate", "compare")}
    assert "every prompt gets the same seeds" in said["generate"]
    assert "0 and 1 for the first, 2 and 3 for the second" in said["compare"]
