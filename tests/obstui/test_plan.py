"""`obstui plan`: exact sizes, a way that fits the card, nothing queued, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from core import demo
from core.manifest import FORMAT, MANIFEST, VERSION, encode_kept
from obstui import plan
from obstui.cli import main
from obstui.specs import ImportSpec, parse
from tests.obstui import tui_store
from tests.obstui.tui_store import Scene

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
TABLE = {
    0.0: (2_567_463_684, 6.761, 1.0),
    0.10: (2_348_998_404, 6.255, 1.081),
    0.15: (2_237_226_244, 5.969, 1.133),
    0.20: (2_130_533_124, 5.748, 1.176),
    0.25: (2_023_840_004, 5.527, 1.223),
    0.30: (1_912_067_844, 5.242, 1.290),
}


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
            main(["plan", *arguments])
        out, err = capsys.readouterr()
        return Done(int(caught.value.code or 0), out, err)

    return run


def test_sdxls_table_is_exact(obstui: Run, tmp_path: Path) -> None:
    arguments = ("prune", "--model", SDXL, "--sparsity", "0.1,0.15,0.2,0.25,0.3")
    found = obstui(*arguments, "--json").data
    levels = {level["sparsity"]: level for level in found["levels"]}
    assert {
        s: (level["params"], round(level["flops"] / 1e12, 3), round(level["speedup"], 3))
        for s, level in levels.items()
    } == TABLE
    assert found["assumed"]
    printed = obstui(*arguments).out
    assert all(f"{params:,}" in printed for params, _, _ in TABLE.values())
    assert "6.761 TFLOP" in printed
    assert "5,000 samples through the UNet, 33.806 PFLOP, in 2,500 forward passes" in printed
    assert "Guidance takes two samples a step." in printed
    assert not (tmp_path / "home").exists()  # planning leaves no trace


def test_a_plan_is_made_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom obstui.cli import main\n"
        f"try: main(['plan', 'prune', '--model', {SDXL!r}, '--json'])\n"
        "except SystemExit: print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} "
        "& set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True, env={"OBSTUI_HOME": str(tmp_path), "PYTHONPATH": "."},
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.stderr.strip() == "[]"
    assert json.loads(done.stdout)["levels"][0]["params"] == TABLE[0.0][0]


@pytest.mark.parametrize(
    ("gigabytes", "way"), [("8", (4, "model")), ("10", (2, "model")), ("12", (1, "model"))]
)
def test_a_budget_chooses_the_groups(obstui: Run, gigabytes: str, way: tuple[int, str]) -> None:
    vram = obstui("prune", "--model", SDXL, "--size", "512", "--vram", gigabytes, "--json").data[
        "vram"
    ]
    assert (vram["groups"], vram["offload"]) == way
    assert vram["needed_bytes"] <= int(gigabytes) << 30
    assert [phase["phase"] for phase in vram["phases"]] == ["encode", "calibrate", "solve", "check"]
    assert vram["allocated_bytes"] == max(phase["total"] for phase in vram["phases"])


def test_what_fits_nowhere_is_refused(obstui: Run) -> None:
    done = obstui("prune", "--model", SDXL, "--vram", "4")
    assert (done.code, done.out) == (2, "")
    assert "This needs at least 7." in done.err
    assert "more than the 4 GiB given" in done.err
    assert obstui("prune", "--vram", "-1").code == 2
    assert obstui("prune", "--size", "1001").code == 2


def test_pictures_and_comparisons(obstui: Run) -> None:
    arguments = ("--model", SDXL, "--prompt", "a", "--prompt", "b", "--count", "3")
    found = obstui("generate", *arguments, "--variant", "1@30", "--vram", "8", "--json").data
    assert found["vram"]["offload"] == "model"
    assert found["passes"] == 30 * 2 * 3
    assert found["samples"] == 2 * 30 * 6  # guided: two each
    assert found["flops"] == found["samples"] * found["levels"][1]["flops"]
    plainly = obstui("generate", *arguments, "--guidance", "1", "--json").data
    assert plainly["samples"] == 30 * 6
    assert plainly["flops"] == 30 * 6 * found["levels"][0]["flops"]
    assert "Guidance" not in obstui("generate", *arguments, "--guidance", "1").out
    compared = obstui("compare", "--variants", "1@10,1@30", "--num-prompts", "4", "--json").data
    assert [level["name"] for level in compared["levels"]] == ["dense", "1@10", "1@30"]
    painted = [*compared["levels"], compared["levels"][0]]  # again from other seeds, for scale
    assert compared["passes"] == 30 * 4 * 4
    assert compared["samples"] == 2 * 30 * 4 * 4
    assert compared["flops"] == sum(2 * 30 * 4 * level["flops"] for level in painted)
    many = obstui("compare", "--variants", "1@30", "--num-prompts", "16", "--json").data
    assert many["samples"] == 2 * 30 * (2 * 16 + 4), "of those four at most"
    assert compared["levels"][0]["params"] == 8_248_900
    assert not compared["assumed"]


def test_a_benchmark_paints_with_every_model_and_keeps_nothing(obstui: Run) -> None:
    found = obstui("bench", "--variants", "1@30", "--repeats", "4", "--steps", "10", "--json").data
    assert [level["name"] for level in found["levels"]] == ["dense", "1@30"]
    assert found["passes"] == 10 * (4 + 1) * 3, "the dense model once more at the end"
    assert sum(found["disk_bytes"].values()) == 0


def test_what_runs_no_model_has_no_plan() -> None:
    with pytest.raises(plan.CannotPlan, match="runs a model"):
        plan.make(ImportSpec(file="/pruned.pth"))


def test_a_folder_is_read_and_not_assumed(obstui: Run) -> None:
    named = obstui("prune", "--json").data
    folder = obstui("prune", "--model", str(demo.MODEL_DIR), "--guidance", "2", "--json").data
    assert folder["levels"] == named["levels"]
    assert folder["vram"] == named["vram"]


def test_magnitude_runs_nothing(obstui: Run) -> None:
    found = obstui("prune", "--method", "magnitude", "--json").data
    assert (found["samples"], found["passes"], found["flops"]) == (0, 0, 0)
    assert set(found["disk_bytes"]) == {"variants", "solved targets"}


def test_a_variants_folder_says_what_it_kept(obstui: Run, tmp_path: Path) -> None:
    unet = tmp_path / "mine" / "unet"
    unet.mkdir(parents=True)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1"
    target = {"name": name, "kind": "attn1", "units": 8, "unit_width": 16}
    manifest = {
        "format": FORMAT, "version": VERSION, "base": "demo", "method": "obs", "sparsity": 0.3,
        "params": 1, "dense_params": 2, "files": {},
        "targets": [{**target, "kept": encode_kept([0, 3, 7], 8)}],
    }  # fmt: skip
    header = b'{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}'
    weights = len(header).to_bytes(8, "little") + header + b"\0\0"
    (unet / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    (unet / MANIFEST).write_text(json.dumps(manifest))
    arguments = ("compare", "--variants", str(unet.parent), "--json")
    dense, variant = obstui(*arguments).data["levels"]
    assert dense["params"] - variant["params"] == 5 * 4 * 128 * 16  # five heads of q, k, v and out
    assert (variant["name"], variant["sparsity"]) == ("mine", 0.3)
    manifest["targets"] = [{**target, "name": "elsewhere", "kept": encode_kept([0], 8)}]
    (unet / MANIFEST).write_text(json.dumps(manifest))
    done = obstui(*arguments)
    assert done.code == 2
    assert "was made from another model" in done.err
    (unet / MANIFEST).write_text("{")
    done = obstui(*arguments)
    assert (done.code, len(done.err.strip().splitlines())) == (2, 1)


def test_time_is_said_only_from_the_like(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    wanted = plan.make(parse({"kind": "generate", "prompts": ["a", "b"], "count": 5, "steps": 8}))

    def paint(seconds: float, state: str = "succeeded", **spec: Any) -> int:
        job = scene.queue("generate", **{"prompts": ["x"], "steps": 4, **spec})
        finish(seconds, state)
        return job.id

    def finish(seconds: float, state: str = "succeeded") -> None:
        claim = scene.start()
        scene.now += seconds
        scene.finish(claim, state)

    def said() -> plan.Duration | None:
        from obstui.store import Reader

        reader = Reader.open(scene.paths)
        try:
            return plan.past(reader.past_runs(), wanted)
        finally:
            reader.close()

    assert said() is None
    paint(8, size=128)
    broken = paint(8, state="failed")
    assert said() is None
    scene.store.retry(broken)
    finish(1)
    assert said() == plan.Duration(0, pytest.approx(9 / 4 * 80), 1), "all its attempts count"
    for seconds in (4, 8):  # 1 and 2 seconds a step
        paint(seconds)
    assert said() == plan.Duration(0, pytest.approx(2 * 80), 3)
    for _ in range(plan.HISTORY_JOBS):
        paint(20)
    assert said() == plan.Duration(0, pytest.approx(5 * 80), plan.HISTORY_JOBS)
    scene.close()


def test_what_a_short_job_needs_to_begin_is_not_multiplied(tmp_path: Path) -> None:
    from obstui.store import Reader

    scene = Scene(tmp_path)
    for taken_over in (0, 4):  # of 8 steps
        scene.queue("generate", prompts=["x"], steps=8)
        claim = scene.start()
        scene.now += 6
        scene.phase(claim, "load", 1, "model")
        scene.now += 2
        scene.phase(claim, "generate", 8, "step", taken_over)
        scene.now += 8 - taken_over
        scene.finish(claim, "succeeded")
    long = plan.make(parse({"kind": "generate", "prompts": ["x"], "count": 20, "steps": 8}))
    with Reader.open(scene.paths) as reader:
        assert plan.past(reader.past_runs(), long) == plan.Duration(8, pytest.approx(160), 2)
    scene.close()


def paint(scene: Scene, kind: str, process: int, loading: float, painting: float) -> None:
    """A finished job of 8 steps, by a process that has perhaps run others before."""
    variants = {"variants": ["1@30"], "num_prompts": 1} if kind == "compare" else {"prompts": ["x"]}
    scene.queue(kind, steps=8, **variants)
    claim = scene.store.claim("w-1", "cpu")
    assert claim is not None
    assert scene.store.started(claim, process, 1)
    scene.phase(claim, "load", 1, "model")
    scene.now += loading
    scene.phase(claim, "generate", 8, "step")
    scene.now += painting
    scene.finish(claim, "succeeded")


def test_who_finds_no_model_loaded_has_to_load_it(tmp_path: Path) -> None:
    """Two generations were short because a comparison had left the model to them."""
    from obstui.store import Reader

    scene = Scene(tmp_path)
    tui_store.prune_finished(scene, (0.3,))
    paint(scene, "compare", 11, 10, 4)
    for _ in range(2):
        paint(scene, "generate", 11, 1, 2)
    scene.queue("generate", prompts=["x"], model="owner/other", steps=8)
    scene.finish(scene.start(), "cancelled")
    wanted = plan.make(parse({"kind": "generate", "prompts": ["x"], "steps": 8}))
    pruned = plan.make(parse({"kind": "prune", "num_prompts": 48}))
    with Reader.open(scene.paths) as reader:
        runs = reader.past_runs()
        assert [run.warm for run in runs if run.spec["kind"] != "prune"] == [True, True, False]
        found, cut = plan.past(runs, wanted), plan.past(runs, pruned)
    assert found == plan.Duration(10, pytest.approx(2), 2, saved=9)
    assert found.seconds >= 3, "at least what the like have taken"
    assert cut is not None
    assert cut.saved == 0, "a prune never finds its model loaded"
    scene.close()


def test_the_command_reads_the_history(obstui: Run, tmp_path: Path) -> None:
    assert obstui("generate", "--prompt", "a", "--json").data["time"] is None
    scene = Scene(tmp_path / "home")
    scene.queue("generate", prompts=["x"], steps=30)
    claim = scene.start()
    scene.now += 60
    scene.finish(claim, "succeeded")
    scene.close()
    arguments = ("generate", "--prompt", "a", "--count", "2")
    assert obstui(*arguments, "--json").data["time"]["seconds"] == pytest.approx(120, abs=1)
    assert "Time: about 2m 00s, like an earlier job on this machine." in obstui(*arguments).out


def test_nothing_of_a_name_reaches_the_terminal_as_codes(obstui: Run, tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[2Jmodel"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    done = obstui("prune", "--model", str(folder))
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "cannot be read as a configuration" in done.err


def test_too_few_tokens_are_refused_as_the_engine_would(
    obstui: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core import loading, prune
    from core.errors import BadInput
    from core.events import Progress

    monkeypatch.setattr(loading, "pick_device", lambda: "cpu")

    def calibrate(steps: int) -> int:
        settings = prune.PruneSettings(
            "demo", (0.2,), num_prompts=1, steps=steps, guidance=demo.GUIDANCE, held_out=0
        )
        run = prune.run(settings, tmp_path / "out", tmp_path / "work", lambda: False)
        passes = (e for e in run if isinstance(e, Progress) and e.total == steps)
        return next(event.done for event in passes)

    with pytest.raises(BadInput) as refused:
        calibrate(15)
    words = str(refused.value)
    done = obstui("prune", "--num-prompts", "1", "--steps", "15")
    assert (done.code, done.err) == (2, f"obstui: {words[:1].upper()}{words[1:]}.\n")
    assert "480 tokens for its 512 inputs" in words
    assert calibrate(16) == 1  # the least that is enough
    assert obstui("prune", "--num-prompts", "1", "--steps", "16").code == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--model", SDXL, "--num-prompts", "1", "--steps", "2"), 2),
        (("--model", SDXL, "--num-prompts", "1", "--steps", "3"), 0),
        (("--model", SDXL, "--num-prompts", "1", "--steps", "3", "--guidance", "1"), 2),
        (("--model", SDXL, "--num-prompts", "2", "--steps", "1", "--size", "512"), 2),
        (("--model", "owner/unknown", "--num-prompts", "1", "--steps", "1"), 0),
        (("--method", "magnitude", "--steps", "1"), 0),
    ],
)
def test_which_calibrations_are_too_small(obstui: Run, options: tuple[str, ...], code: int) -> None:
    assert obstui("prune", *options).code == code


def test_nothing_is_queued_that_could_not_be_solved(
    obstui: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "night.yaml"
    file.write_text("jobs:\n  - {kind: prune}\n  - {kind: prune, num_prompts: 1, steps: 1}\n")
    for command in (
        ["prune", "--num-prompts", "1", "--steps", "1"],
        ["submit", str(file)],
        ["submit", str(file), "--dry-run"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert "too few to solve for" in said
        assert ("night.yaml, line 3: " in said) is (command[0] == "submit")
    assert not (tmp_path / "home").exists()
