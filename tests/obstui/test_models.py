"""The door for checkpoints, with the real engine, demo model and files, and with the real worker
and child where a job fails, paints or is timed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from core.demo import MODEL_DIR
from core.errors import BadInput
from core.export import PICKLE
from core.lora import main as carry_over
from core.manifest import WEIGHTS
from obstui.config import Paths
from obstui.options import JobOptions
from obstui.specs import (
    BenchSpec,
    ExportSpec,
    GenerateSpec,
    ImportSpec,
    NoSuchModel,
    PruneSpec,
)
from obstui.store import Reader, Store
from obstui.worker import runs
from obstui.worker.protocol import Order
from tests.obstui.test_cli import Run, obstui

__all__ = ["obstui"]

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
DENSE_ROWS = 64


@dataclass(frozen=True)
class Night:
    """What one night left behind: job 1 prunes, 2 exports a pickle, 3 imports it with
    its base, 4 imports a hostile one, 5 paints with what 3 made, 6 times what 1 made."""

    paths: Paths
    pickle: Path
    trace: Path

    def job(self, number: int) -> Any:
        with Reader.open(self.paths) as reader:
            job = reader.job(number)
        assert job is not None
        return job


class Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return os.system, (self.command,)


def here(store: Store) -> None:
    """The next job, carried out in this process: each child of a worker imports for eight seconds
    first, and these three cannot share one."""
    claim = store.claim("w-1", "cpu")
    assert claim is not None
    assert store.started(claim, os.getpid(), 1)
    folders = [store.paths.output(claim.ulid), store.paths.work(claim.ulid)]
    for folder in folders:
        folder.mkdir(parents=True)
    order = Order(
        job=claim.job_id, ulid=claim.ulid, attempt=1, spec=claim.spec, variants=claim.variants,
        output=str(folders[0]), work=str(folders[1]), hessians=str(store.paths.hessians), log="",
    )  # fmt: skip
    result = runs.Runner().run(order, lambda: False, lambda event: None)
    assert store.finish(claim, "succeeded", result=result)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    home, out = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("out")
    night = Night(Paths(home, home / "jobs.db").ensure(), out / "pth" / PICKLE, out / "trace")
    hostile = out / "hostile.pth"
    torch.save({"unet": Payload(f"touch {night.trace}")}, hostile)
    specs = (
        PruneSpec(sparsity=(0.3,), method="magnitude", held_out=0),
        ExportSpec(variant="1@30", format="pth", to=str(night.pickle.parent)),
        ImportSpec(file=str(night.pickle), base="demo"),
        ImportSpec(file=str(hostile)),
        GenerateSpec(variant="3@30", prompts=("a large red circle",), steps=2),
        BenchSpec(variants=("1@30",), repeats=2, steps=2),
    )
    with Store.open(night.paths) as store:
        for number, spec in enumerate(specs, 1):
            after = ("2",) if number == 3 else ()
            store.enqueue(spec, options=JobOptions(after=after))
        for _ in range(3):
            here(store)
    subprocess.run(
        [sys.executable, "-m", "obstui", "worker", "run", "--exit-when-idle"],
        env={**os.environ, "OBSTUI_HOME": str(home)},
        check=True,
        capture_output=True,
        timeout=240,
    )
    return night


@pytest.fixture
def at_home(night: Night, obstui: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line on what the night left behind."""
    monkeypatch.setenv("OBSTUI_HOME", str(night.paths.home))
    return obstui


def test_an_export_says_what_it_wrote(night: Night) -> None:
    export = night.job(2).result["export"]
    assert (export["variant"], export["format"]) == ("1@30", "pth")
    assert Path(export["folder"]) == night.pickle.parent
    assert export["params"] == night.job(1).result["variants"][0]["params"]
    files = {file["name"]: file for file in export["files"]}
    assert sorted(files) == ["README.md", PICKLE]
    assert files[PICKLE]["size_bytes"] == night.pickle.stat().st_size
    digest = hashlib.sha256(night.pickle.read_bytes()).hexdigest()
    assert files[PICKLE]["sha256"] == digest


def test_a_pickle_comes_back_as_the_variant_that_it_was(night: Night) -> None:
    [first] = night.job(1).result["variants"]
    job = night.job(3)
    [again] = job.result["variants"]
    assert (again["id"], again["method"], again["base"]) == ("3@30", "imported", "demo")
    assert again["kept_known"]
    assert (again["params"], again["dense_params"]) == (first["params"], first["dense_params"])
    tensors = [load_file(Path(v["path"]) / "unet" / WEIGHTS)
               for v in (first, again)]  # fmt: skip
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    painted = night.job(5)
    assert painted.state == "succeeded"
    assert [image["model"] for image in painted.result["images"]] == ["3@30"]


def test_an_export_that_was_cut_off_after_its_folder_appeared(night: Night, tmp_path: Path) -> None:
    """The next attempt takes the folder as its own; one that others made is refused."""
    out = tmp_path / "out"
    spec = ExportSpec(variant="1@30", format="diffusers", to=str(out))
    [variant] = night.job(1).result["variants"]

    def order(work: Path) -> Order:
        return Order(
            job=9, ulid="9", attempt=1, spec=spec.model_dump(), variants={"1@30": variant["path"]},
            output=str(tmp_path), work=str(work), hessians="", log="",
        )  # fmt: skip

    def export(work: Path) -> Any:
        work.mkdir(exist_ok=True)
        return runs._export(spec, order(work), tmp_path, lambda: False, lambda _: None)["export"]

    first = export(tmp_path / "work")
    before = out.stat().st_mtime_ns
    assert export(tmp_path / "work") == first
    assert out.stat().st_mtime_ns == before
    with pytest.raises(BadInput, match="exists already"):
        export(tmp_path / "another")


def test_a_variants_base_need_not_be_named(night: Night, at_home: Run, tmp_path: Path) -> None:
    folder = Path(night.job(1).result["variants"][0]["path"])
    for variant in ("3@30", str(folder)):
        assert at_home("plan", "bench", "--json", "--variants", variant).data["model"] == "demo"
    other = shutil.copytree(folder, tmp_path / "other")
    file = other / "unet" / "pruning.json"
    manifest = json.loads(file.read_text())
    plan = ("plan", "bench", "--json", "--variants", str(other))
    file.write_text(json.dumps(manifest | {"base": "owner/sdxl"}))
    assert at_home(*plan).data["model"] == "owner/sdxl"
    file.write_text(json.dumps(manifest | {"base": "unknown"}))
    refused = at_home(*plan)
    assert (refused.code, "give --model" in refused.err) == (2, True)
    assert at_home(*plan, "--model", "demo").code == 0


def test_a_card_shows_the_pictures_that_are_left(night: Night, tmp_path: Path) -> None:
    for name, colour in (("dense", "red"), ("pruned", "blue")):
        Image.new("RGB", (800, 800), colour).save(tmp_path / f"{name}.png")
    spec = ExportSpec(variant="1@30", format="diffusers")
    [variant] = night.job(1).result["variants"]
    pair = {"prompt": "a [cup]\n<b>", "seed": 3, "dense": str(tmp_path / "dense.png")}
    order = Order(
        job=9, ulid="9", attempt=1, spec=spec.model_dump(), variants={"1@30": variant["path"]},
        output=str(tmp_path), work=str(tmp_path), hessians="", log="",
        compared={
            "pairs": [{**pair, "pruned": str(tmp_path / "gone.png")},
                      {**pair, "pruned": str(tmp_path / "pruned.png")}],
            "figures": {"PSNR (dB)": "31.0"}, "conditions": "1 prompt, negative prompt “a|b”",
        },
    )  # fmt: skip
    export = runs._export(spec, order, tmp_path, lambda: False, lambda _: None)["export"]
    files = [file["name"] for file in export["files"] if file["name"].startswith("pictures")]
    assert files == ["pictures/1.jpg"]
    folder = Path(export["folder"])
    card = (folder / "README.md").read_text()
    assert "| PSNR (dB) | 31.0 |" in card
    assert r"Measured with 1 prompt, negative prompt “a\|b”." in card
    assert r"![a \[cup\] \<b\>](pictures/1.jpg)" in card
    with Image.open(folder / "pictures/1.jpg") as sheet:
        assert sheet.size == (768, 384)
        left, right = sheet.getpixel((100, 100)), sheet.getpixel((600, 100))
    assert left[0] > 200 > right[0]  # type: ignore[index]
    assert right[2] > 200 > left[2]  # type: ignore[index]


def test_a_hostile_pickle_is_refused_by_name_and_not_run(night: Night) -> None:
    job = night.job(4)
    assert (job.state, job.reason) == ("failed", "bad_input")
    assert "posix.system" in job.error
    assert "nothing in it was run" in job.error
    assert not night.trace.exists()


def test_a_benchmark_prints_its_table(night: Night, at_home: Run) -> None:
    dense, small = night.job(6).result["latency"]
    assert (dense["model"], small["model"]) == ("dense", "1@30")
    assert small["ideal"] > 1.05
    assert dense["peak_bytes"] is None
    shown = at_home("show", "6").out
    assert [line.split()[0] for line in shown.splitlines() if "%" in line] == ["dense", "1@30"]
    assert f"{small['ideal']:.2f}x" in shown
    assert "Medians of 2 pictures of 64 x 64 in 2 steps, float32" in shown


def test_ls_tells_where_variants_come_from_and_what_uses_them(night: Night, at_home: Run) -> None:
    found = at_home("models", "ls", "--json").data
    [demo] = found["bases"]
    assert (demo["name"], demo["params"], demo["used_by"]) == ("demo", 8_248_900, [1, 3, 5, 6])
    imported, pruned = found["variants"]
    assert (imported["id"], imported["kind"], imported["used_by"]) == ("3@30", "import", [5])
    assert (pruned["id"], pruned["base"], pruned["used_by"]) == ("1@30", "demo", [2, 6])
    weights = Path(pruned["path"]) / "unet" / WEIGHTS
    assert pruned["size_bytes"] > weights.stat().st_size
    shown = at_home("models", "ls").out
    assert re.search(r"^MODEL +UNET PARAMS +PIPELINE ON DISK ", shown, re.MULTILINE)
    assert re.search(r"^VARIANT .* UNET PARAMS +UNET ON DISK ", shown, re.MULTILINE)
    assert re.search(r"^1@30 +demo +30% +magnitude .* prune 1 +2, 6$", shown, re.MULTILINE)


def test_verify_finds_one_changed_byte(night: Night, at_home: Run, tmp_path: Path) -> None:
    whole = at_home("models", "verify", "1@30")
    assert whole.code == 0
    assert "✗" not in whole.out
    assert "7,016,466 in the weights" in whole.out
    assert "7,016,466 by the kept units" in whole.out
    copy = tmp_path / "copy"
    shutil.copytree(night.job(1).result["variants"][0]["path"], copy)
    change_last_byte(copy / "unet" / WEIGHTS)
    done = at_home("models", "verify", str(copy))
    assert done.code == 1
    [line] = [line for line in done.out.splitlines() if line.startswith("✗")]
    assert WEIGHTS in line
    told = at_home("models", "verify", str(copy), "--json").data
    assert [check["what"] for check in told["checks"] if not check["ok"]] == [WEIGHTS]


def test_verify_draws_a_bar_on_a_terminal_and_only_there(night: Night, tmp_path: Path) -> None:
    own, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "obstui", "models", "verify",
         str(night.job(1).result["variants"][0]["path"])],
        stdout=subprocess.PIPE, stderr=theirs, check=True,
        env={**os.environ, "TERM": "xterm-256color", "OBSTUI_HOME": str(tmp_path)},
    )  # fmt: skip
    os.close(theirs)
    bar = os.read(own, 65536).decode()
    os.close(own)
    assert "MiB" in bar
    assert "100%" not in done.stdout.decode()
    lines = done.stdout.decode().splitlines()
    assert lines
    assert all(line.startswith("✓ ") for line in lines)


def change_last_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_verify_counts_parameters(night: Night, at_home: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(night.job(1).result["variants"][0]["path"], copy)
    file = copy / "unet" / "pruning.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"params": manifest["params"] - 1}))
    done = at_home("models", "verify", str(copy))
    assert done.code == 1
    assert done.out.count("but the manifest says 7,016,465") == 2
    file.write_text(json.dumps(manifest | {"files": {"../../secret": "0" * 64}}))
    assert "lies outside" in at_home("models", "verify", str(copy)).out
    file.write_text("{")
    assert at_home("models", "verify", str(copy)).code == 3


@pytest.mark.slow
def test_a_lora_is_carried_over(night: Night, at_home: Run, tmp_path: Path) -> None:
    out = tmp_path / "carried.safetensors"
    done = at_home("models", "lora", str(lora("to_q", tmp_path)), "--variant", "1@30",
                   "--out", str(out))  # fmt: skip
    assert done.code == 0, done.err
    carried = load_file(out)[f"unet.{LAYER}.to_q.lora_B.weight"]
    pruned = load_file(Path(night.job(1).result["variants"][0]["path"]) / "unet" / WEIGHTS)
    assert len(carried) == len(pruned[f"{LAYER}.to_q.weight"]) < DENSE_ROWS


def test_a_lora_that_cannot_be_exact_is_refused(
    night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "carried.safetensors"
    variant = night.job(1).result["variants"][0]["path"]
    code = carry_over([str(lora("to_out.0", tmp_path)), variant, str(out)])
    said = capsys.readouterr().err
    assert code == 2
    assert "no compensation matrix" in said
    assert len(said.strip().splitlines()) == 1
    assert not [*tmp_path.glob("*carried*")]


def test_a_file_that_is_no_lora(
    night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("no tensors\n" * 9)
    variant = night.job(1).result["variants"][0]["path"]
    assert carry_over([str(file), variant, str(tmp_path / "out.safetensors")]) == 2
    assert "is no LoRA that diffusers can read" in capsys.readouterr().err.splitlines()[-1]


def lora(part: str, folder: Path) -> Path:
    file = folder / f"{part}.safetensors"
    A, B = torch.randn(2, DENSE_ROWS), torch.randn(DENSE_ROWS, 2)
    name = f"unet.{LAYER}.{part}"
    save_file({f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}, file)
    return file


def test_what_is_needed_stays_and_what_was_removed_cannot_be_named(
    night: Night, at_home: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(night.job(3).result["variants"][0]["path"])
    waiting = at_home("generate", "--variant", "3@30", "--prompt", "x", "--json").data["id"]
    refused = at_home("models", "rm", "3@30", "--yes")
    assert refused.code == 2
    assert f"Job {waiting} needs 3@30" in refused.err
    at_home("cancel", str(waiting))
    again = at_home("generate", "--variant", str(folder), "--prompt", "x", "--json").data["id"]
    assert f"Job {again} needs 3@30" in at_home("models", "rm", "3@30", "--yes").err
    assert folder.is_dir()
    at_home("cancel", str(again))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    asked = at_home("models", "rm", "3@30")
    assert (asked.code, "Nobody is there to ask" in asked.err) == (2, True)
    assert f"Jobs 5, {waiting}, {again} have used it" in asked.err
    assert folder.is_dir()
    assert at_home("models", "rm", "3@30", "--yes").code == 0
    assert not folder.exists()
    gone = at_home("generate", "--variant", "3@30", "--prompt", "x")
    assert gone.code == 3
    assert "3@30 was deleted" in gone.err
    listed = at_home("models", "ls", "--json").data
    assert [variant["id"] for variant in listed["variants"]] == ["1@30"]


def test_a_name_stands_for_a_model_wherever_one_is_named(obstui: Run, tmp_path: Path) -> None:
    assert obstui("models", "add", "mine", str(MODEL_DIR)).code == 0
    assert obstui("prune", "--model", "mine", "--json").data["spec"]["model"] == str(MODEL_DIR)
    file = tmp_path / "job.yaml"
    file.write_text("kind: prune\nmodel: mine\n")
    [job] = obstui("submit", str(file), "--json").data
    assert job["spec"]["model"] == str(MODEL_DIR)
    mine = obstui("models", "ls", "--json").data["bases"][1]
    assert (mine["name"], mine["source"]) == ("mine", str(MODEL_DIR))
    assert (mine["registered"], mine["used_by"]) == (True, [1, 2])
    assert mine["params"] == 8_248_900
    assert obstui("models", "rm", "mine").code == 0
    assert obstui("prune", "--model", "mine").code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "demo", "demo"), 2, "demo cannot be a model's name"),
        (("add", "../x", "demo"), 2, "../x cannot be a model's name"),
        (("add", "x", "/no/such"), 3, "No model /no/such"),
        (("rm", "x"), 3, "Nobody has added a model x"),
        (("rm", "7@30", "--yes"), 3, "There is no variant 7@30"),
        (("verify", "7@30"), 3, "There is no variant 7@30"),
        (("verify", "/no/variant"), 3, "No variant /no/variant"),
        (("export", "7@30", "--format", "pth"), 3, "There is no variant 7@30"),
        (("export", "1@20", "--format", "ckpt"), 2, "'ckpt' is not one of"),
        (("export", "1@20", "--format", "pth", "--to", "/etc/hostname/x"), 2, "cannot be made"),
        (("export", "1@20", "--format", "pth", "--to", "/tmp"), 2, "/tmp exists already"),
        (("import", "/no/file.pth"), 3, "There is no file /no/file.pth"),
        (("import", "/etc/hostname"), 2, "/etc/hostname is no whole file of torch.save"),
        (("lora", "/no/lora", "--variant", "1@20", "--out", "x"), 3, "There is no file /no/lora"),
        (("lora", "/etc/hostname", "--variant", "1@20", "--out", "/tmp"), 2, "exists already"),
    ],
)
def test_wrong_input_is_one_sentence(
    obstui: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    obstui("prune")
    done = obstui("models", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert len(obstui("ls", "--json").data) == 1


def test_a_jobs_variant_that_was_deleted_is_said_to_be(tmp_path: Path) -> None:
    order = Order(
        job=2, ulid="u", attempt=1, spec={}, variants={"1@20": str(tmp_path / "s20")},
        output="", work="", hessians="", log="",
    )  # fmt: skip
    with pytest.raises(NoSuchModel, match="1@20 were deleted or moved: obstui show 1 --yaml"):
        runs._folder(order, "1@20")
    (tmp_path / "s20").mkdir()
    assert runs._folder(order, "1@20") == str(tmp_path / "s20")
