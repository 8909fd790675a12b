"""What is known of each model, which of them are on the front, and how they leave as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest

from obstui.config import Paths
from obstui.measured import (
    METRICS,
    Measured,
    as_csv,
    as_markdown,
    front,
    measured,
)
from obstui.store import Reader
from tests.obstui import tui_models, tui_store

METRIC = {metric.key: metric for metric in METRICS}


def model(name: str, params: int, psnr: float | None, **facts: object) -> Measured:
    known = {"base": "demo", "method": "obs", "sparsity": 0.1, **facts}
    return Measured(model=name, params=params, psnr=psnr, **known)  # type: ignore[arg-type]


@pytest.fixture
def scene(paths: Paths) -> Iterator[tui_store.Scene]:
    scene = tui_store.Scene(paths.home)
    yield scene
    scene.close()


def rows(scene: tui_store.Scene) -> dict[str, Measured]:
    with Reader.open(scene.paths) as reader:
        return {row.model: row for row in measured(reader.jobs())}


def test_figures_of_several_jobs_meet_in_one_row(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene)
    compare = tui_store.compare_finished(scene, prune)
    bench = tui_models.timed(scene, prune)
    found = rows(scene)
    assert list(found) == ["dense", f"{prune}@10", f"{prune}@30", f"{prune}@50"]
    row = found[f"{prune}@30"]
    assert (row.base, row.method, row.job_id) == ("demo", "obs", prune)
    assert row.psnr == pytest.approx(25.2)
    assert row.removed == pytest.approx(0.165, abs=1e-3)
    assert row.step_ms == pytest.approx(65.0)
    assert row.image_s == pytest.approx(1.7), "a bench's time counts before a comparison's"
    assert row.measured_by == (compare, bench)
    assert found["dense"].removed == 0.0
    assert found["dense"].size_bytes == 2 * found["dense"].params, "as variants are saved"


def test_a_sweep_tells_its_rows_apart(scene: tui_store.Scene) -> None:
    """By what was varied, in the exports too, and by nothing else."""
    for damping, prompts in ((0.01, 8), (0.1, 8), (0.1, 16)):
        job = scene.queue("prune", sparsity=(0.1,), damping=damping, num_prompts=prompts)
        made = {"id": f"{job.id}@10", "sparsity": 0.1, "path": "/x", "method": "obs", "params": 7}
        scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    found = rows(scene)
    assert {name: row.settings for name, row in found.items()} == {
        "1@10": "prompts 8, damping 0.01",
        "2@10": "prompts 8, damping 0.1",
        "3@10": "prompts 16, damping 0.1",
    }
    [_, first, *_] = csv.reader(io.StringIO(as_csv(list(found.values()))))
    assert "prompts 8, damping 0.01" in first
    assert "| prompts 16, damping 0.1 |" in as_markdown(list(found.values()))
    assert "settings" not in as_markdown([found["1@10"].__class__("demo", "dense", "dense", 0, 7)])


def test_the_newest_comparison_counts(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene)
    for psnr in (20.0, 30.0):
        models = [{"model": f"{prune}@30", "params": 7, "sparsity": 0.3, "psnr": psnr}]
        tui_models.measured(scene, "compare", {"models": models}, variants=[f"{prune}@30"])
    assert rows(scene)[f"{prune}@30"].psnr == 30.0


def test_only_what_was_compared_alike_is_held_against_each_other(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene)

    def compared(levels: dict[int, float], **spec: int) -> None:
        models = [{"model": f"{prune}@{n}", "params": 100 - n, "sparsity": n / 100, "psnr": psnr}
                  for n, psnr in levels.items()]  # fmt: skip
        variants = [model["model"] for model in models]
        tui_models.measured(scene, "compare", {"models": models}, variants=variants, **spec)

    compared({30: 90.0}, steps=9)
    compared({10: 40.0, 30: 30.0})
    compared({50: 80.0}, steps=3)
    found = rows(scene)
    assert {name: row.psnr for name, row in found.items() if not row.dense} == {
        f"{prune}@10": 40.0, f"{prune}@30": 30.0, f"{prune}@50": 80.0,
    }  # fmt: skip
    assert [name for name, row in found.items() if row.apart] == [f"{prune}@50"]
    best = front(list(found.values()), METRIC["params"], METRIC["psnr"])
    assert best == {("demo", f"{prune}@10"), ("demo", f"{prune}@30")}
    assert METRIC["psnr"].text(found[f"{prune}@50"]) == "80.0*"
    assert METRIC["params"].text(found[f"{prune}@50"]) == "4.2"
    assert "\\*" in as_markdown([found[f"{prune}@50"]])


def test_a_job_that_failed_measured_nothing(scene: tui_store.Scene) -> None:
    tui_store.prune_finished(scene)
    scene.queue("bench", variants=["1@30"])
    scene.finish(scene.start(), "failed", error="It broke.")
    assert rows(scene)["1@30"].step_ms is None


def test_the_front_holds_what_nothing_else_beats() -> None:
    known = [
        model("a", 100, 30.0), model("b", 90, 29.0), model("c", 95, 28.0),  # b beats c
        model("twin", 90, 29.0), model("unknown", 10, None),
        Measured("demo", "dense", "dense", 0.0, params=200, psnr=99.0),
        model("other", 300, 1.0, base="sdxl"),  # of another base: nothing there is better
    ]  # fmt: skip
    best = front(known, METRIC["params"], METRIC["psnr"])
    assert best == {("demo", "a"), ("demo", "b"), ("demo", "twin"), ("sdxl", "other")}


def test_on_the_front_of_a_distance_less_is_better() -> None:
    known = [model("near", 100, None, latent_distance=0.1),
             model("far", 100, None, latent_distance=0.2)]  # fmt: skip
    assert front(known, METRIC["params"], METRIC["latent_distance"]) == {("demo", "near")}


def test_csv_keeps_every_digit_and_runs_nothing() -> None:
    text = as_csv([model("1@10", 7_790_840, 55.39033948674664, base="=HYPERLINK(1)")])
    [row] = csv.DictReader(io.StringIO(text))
    assert row["base"] == "'=HYPERLINK(1)"
    assert float(row["psnr"]) == 55.39033948674664
    assert int(row["params"]) == 7_790_840
    assert row["ssim"] == ""


def test_markdown_has_the_figures_that_there_are() -> None:
    text = as_markdown([
        Measured("demo", "dense", "dense", 0.0, params=8_000_000),
        model("1@12.5", 7_000_000, 55.39, base="a|b\x1b[31m", sparsity=0.125),
    ])  # fmt: skip
    head, rule, *lines = text.splitlines()
    assert head == "| model | method | sparsity | parameters (M) | PSNR (dB) |"
    assert rule == "| --- | --- | ---: | ---: | ---: |"
    assert lines == [
        "| demo | dense | 0% | 8.0 | – |",
        "| a\\|b 1@12.5 | obs | 12.5% | 7.0 | 55.4 |",
    ]


def compared(scene: tui_store.Scene, name: str, base: str = "demo", **spec: int) -> None:
    found = {"model": name, "params": 7, "sparsity": 0.3, "psnr": 30.0, "latency": 9.0}
    tui_models.measured(scene, "compare", {"models": [found]}, variants=[name], model=base, **spec)


def test_times_of_other_pictures_do_not_count(scene: tui_store.Scene) -> None:
    prune = tui_store.prune_finished(scene)
    tui_store.compare_finished(scene, prune)
    tui_models.timed(scene, prune)
    other = tui_store.prune_finished(scene)
    compared(scene, f"{other}@30", steps=3)
    found = rows(scene)
    assert found[f"{other}@30"].apart
    assert found[f"{other}@30"].image_s is None
    compared(scene, f"{prune}@30", steps=3)
    assert rows(scene)[f"{prune}@30"].image_s == pytest.approx(1.7)


def test_an_imported_variant_is_held_against_those_of_the_job_that_compared_it(
    scene: tui_store.Scene,
) -> None:
    scene.queue("import", file="/x.pth")
    made = {"id": "1@30", "params": 7, "sparsity": 0.3}  # whose base nobody knows
    scene.finish(scene.start(), "succeeded", result={"variants": [made]})
    compared(scene, "1@30")
    assert not rows(scene)["1@30"].apart


def test_of_comparisons_of_as_many_models_the_newest_is_the_yardstick(
    scene: tui_store.Scene,
) -> None:
    one, two = (f"{tui_store.prune_finished(scene, (0.3,))}@30" for _ in range(2))
    for name, steps in ((one, 2), (two, 3), (one, 2)):
        compared(scene, name, steps=steps)
    assert {name: row.apart for name, row in rows(scene).items()} == {one: False, two: True}
