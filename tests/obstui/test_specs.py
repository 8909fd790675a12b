from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from obstui import asked
from obstui.lookup import check_model, check_variant
from obstui.specs import (
    CALIBRATION_STEPS,
    BadSpec,
    GenerateSpec,
    NoSuchModel,
    PruneSpec,
    parse,
    parse_variant_id,
    variant_id,
)
from obstui.tui import form


def test_sparsities_are_sorted_and_unique() -> None:
    spec = parse({"kind": "prune", "sparsity": "0.3, 0.1,0.3"})
    assert isinstance(spec, PruneSpec)
    assert spec.sparsity == (0.1, 0.3)
    assert parse({"kind": "prune", "sparsity": 0.25}).model_dump()["sparsity"] == (0.25,)


@pytest.mark.parametrize("said", ["10,20,30", "10%, 20 %,30%", [10, 20, 30], "0.1,20,30%"])
def test_percentages_are_shares(said: object) -> None:
    spec = parse({"kind": "prune", "sparsity": said})
    assert isinstance(spec, PruneSpec)
    assert spec.sparsity == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "prune", "sparsity": 1.2}, ["sparsity", "1.2", "above 0 and at most 0.9"]),
        ({"kind": "prune", "sparsity": "95%"}, ["0.95 is not above 0 and at most 0.9"]),
        ({"kind": "prune", "sparsity": 1}, ["1 is not above 0 and at most 0.9"]),
        ({"kind": "prune", "sparsity": "a bit"}, ["shares", "0.1,0.2,0.3"]),
        ({"kind": "prune", "sparsity": ""}, ["sparsity"]),
        ({"kind": "prune", "sparsity": float("nan")}, ["sparsity"]),
        ({"kind": "prune", "steps": 0}, ["steps", "greater than or equal to 1", "given: 0"]),
        ({"kind": "prune", "damping": float("inf")}, ["damping", "finite"]),
        ({"kind": "prune", "colour": "red"}, ["colour", "no such field: there are", "steps"]),
        ({"kind": "prune", "budget": "ms"}, ["budget", "allocation by loss"]),
        ({"kind": "prune", "method": "magnitude", "damping": 0.05}, ["damping", "method obs"]),
        ({"kind": "prune", "method": "magnitude", "packages": 2}, ["packages", "method obs"]),
        ({"kind": "generate"}, ["prompts", "must be given"]),
        ({"kind": "generate", "prompts": ["ok", "  "]}, ["prompts", "a prompt is empty"]),
        ({"kind": "generate", "prompts": ""}, ["write one, or leave it out (given: '')."]),
        ({"kind": "prune", "stepz": 3}, ["stepz: a job of kind prune", "did you mean steps?"]),
        (
            {"kind": "generate", "prompts": "x", "seeds": [4, -1]},
            ["seeds: must be greater than or equal to 0 (given: -1)"],
        ),
        (
            {"kind": "generate", "prompts": "x", "seeds": [1, 2], "count": 3},
            ["seeds names 2 and count says 3: give one of them"],
        ),
        (
            {"kind": "compare", "variants": ["1@10", "1@10.0"]},
            ["variants: 1@10.0 is named twice: name each variant once"],
        ),
        ({"kind": "compare", "variants": []}, ["variants"]),
        ({"kind": "dance"}, ["dance", "prune"]),
        ({}, ["kind"]),
    ],
)
def test_bad_specs_are_one_sentence(data: dict[str, object], words: list[str]) -> None:
    with pytest.raises(BadSpec) as caught:
        parse(data)
    sentence = str(caught.value)
    assert all(word in sentence for word in words)
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_text_from_people_is_made_safe_on_the_way_in() -> None:
    spec = parse({"kind": "generate", "name": "\x1b[31mnight\nrun", "prompts": ["a\x1b[2J cat"]})
    assert spec.name == "night run"
    assert spec.model_dump()["prompts"] == ("a cat",)


@pytest.mark.parametrize("own", [{"kind": "generate"}, {"kind": "compare", "variants": ["1@30"]}])
def test_a_negative_prompt_is_made_as_safe_as_a_prompt(own: dict[str, object]) -> None:
    spec = parse({**own, "prompts": ["a cat"], "negative": " bl\x1b[31mur\u202ery\nhands "})
    assert spec.model_dump()["negative"] == "blurry\nhands"


def test_a_spec_survives_json() -> None:
    spec = parse({"kind": "compare", "variants": ["12@30", "3@12.5"], "prompts": ["x"]})
    assert parse(json.loads(spec.model_dump_json())) == spec


@pytest.mark.parametrize(("sparsity", "text"), [(0.3, "12@30"), (0.125, "12@12.5"), (0.05, "12@5")])
def test_variant_ids(sparsity: float, text: str) -> None:
    assert variant_id(12, sparsity) == text
    assert parse_variant_id(text) == (12, sparsity)


@pytest.mark.parametrize("text", ["12", "@30", "0@30", "12@", "12@300", "12@30/../x", " 12@30"])
def test_what_is_no_variant_id(text: str) -> None:
    assert parse_variant_id(text) is None


def test_models(tmp_path: Path) -> None:
    assert check_model("demo") == "demo"
    assert check_model("stabilityai/stable-diffusion-xl-base-1.0").startswith("stabilityai/")
    assert check_model("modelscope:a/b") == "modelscope:a/b"
    (tmp_path / "model_index.json").write_text("{}")
    assert check_model(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("name", ["no-such-model", "./no/such", "/no/such/folder", "a/b/c"])
def test_no_such_model(name: str) -> None:
    with pytest.raises(NoSuchModel, match="give demo, a hub id"):
        check_model(name)


def test_a_folder_or_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NoSuchModel, match=r"model_index\.json"):
        check_model(str(tmp_path))
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"x")
    with pytest.raises(NoSuchModel, match=r"not a \.safetensors"):
        check_model(str(pickle))


def test_a_model_file_that_is_not_whole(tmp_path: Path) -> None:
    whole = make_variant(tmp_path)
    assert check_model(str(whole)) == str(whole)
    for damaged in (whole.read_bytes()[:-3], b"no header at all"):
        whole.write_bytes(damaged)
        with pytest.raises(NoSuchModel, match="cut short or damaged"):
            check_model(str(whole))


def make_variant(folder: Path) -> Path:
    unet = folder / "unet"
    unet.mkdir(parents=True)
    (unet / "pruning.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    weights = unet / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return weights


def test_a_variant_folder(tmp_path: Path) -> None:
    weights = make_variant(tmp_path / "v")
    assert check_variant(str(tmp_path / "v")) == str(tmp_path / "v")
    assert check_variant(str(tmp_path / "v" / "unet")) == str(tmp_path / "v" / "unet")
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(BadSpec, match="damaged"):
        check_variant(str(tmp_path / "v"))
    weights.write_bytes(b"{")
    with pytest.raises(BadSpec, match="damaged"):
        check_variant(str(tmp_path / "v"))
    weights.unlink()
    with pytest.raises(NoSuchModel):
        check_variant(str(tmp_path / "v"))


def test_seeds_of_ones_own() -> None:
    def seeds(value: object) -> tuple[int, ...]:
        spec = parse({"kind": "generate", "prompts": ["a"], "seeds": value})
        assert isinstance(spec, GenerateSpec)
        return spec.seeds

    assert seeds("7, 1,7") == seeds([7, 1]) == (7, 1)
    assert seeds(3) == (3,)
    for bad in ("x", "1,", [-1], [1.5], True, 2**32):
        with pytest.raises(BadSpec, match="seeds"):
            seeds(bad)


def test_the_steps_of_a_calibration_are_those_of_the_engine() -> None:
    from core.presets import CALIBRATION_STEPS as OF_THE_ENGINE

    assert CALIBRATION_STEPS == OF_THE_ENGINE
    assert form.hint(next(f for f in form.FIELDS if f.key == "steps"), "prune") == str(
        OF_THE_ENGINE
    )
    told = dict(asked.settings({"kind": "prune", "model": "demo", "sparsity": [0.3]})[1])
    assert told["steps"] == str(OF_THE_ENGINE)


def test_the_schedulers_are_those_of_the_engine() -> None:
    from core.schedulers import NAMES
    from obstui.specs import SCHEDULERS

    assert SCHEDULERS == NAMES
    for name in NAMES:
        assert parse({"kind": "generate", "prompts": ["a"], "scheduler": name})


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "demo to 30 %"),
        ({"method": "magnitude"}, "demo to 30 % by magnitude"),
        ({"allocate": "loss", "budget": "flops"}, "demo to 30 % by obs, loss/flops"),
        (
            {"packages": 4, "damping": 0.05, "timestep_weights": "uniform"},
            "demo to 30 % by obs, 4 packages, damping 0.05, weights uniform",
        ),
    ],
)
def test_a_title_tells_what_is_not_as_usual(settings: dict[str, object], title: str) -> None:
    assert parse({"kind": "prune", "sparsity": 0.3, **settings}).title == title
