"""Metrics against values worked out by hand, and a comparison from end to end."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from core import demo, evaluate, generate, loading
from core.checkpoint import save_variant
from core.clip import load_clip
from core.errors import BadInput, Cancelled
from core.evaluate import CompareSettings
from core.events import Event, ImageSaved, ModelMeasured, Phase, ReseedMeasured
from core.surgery import shrink
from core.targets import find_targets

Pixels = NDArray[np.uint8]


def noise(seed: int, height: int = 24, width: int = 20) -> Pixels:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return values.astype(np.uint8)


def test_psnr_by_hand() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    assert evaluate.psnr(a, a) == math.inf
    b = a.copy()
    b[:2] += 20  # half of the pixels are 20 off: the mean square error is 200
    assert evaluate.psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 200))
    assert evaluate.psnr(np.zeros_like(a), np.full_like(a, 255)) == pytest.approx(0)


def test_ssim_by_hand() -> None:
    # Flat images have no variance: only the luminance term is left.
    a, b = np.full((12, 12, 3), 100, np.uint8), np.full((12, 12, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert evaluate.ssim(a, b) == pytest.approx(expected, rel=1e-9)
    # A single window as large as the image: the definition, written out.
    x, y = noise(1, 11, 11), noise(2, 11, 11)
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    w = np.outer(g, g) / g.sum() ** 2
    c2 = (0.03 * 255) ** 2
    total = 0.0
    for channel in range(3):
        p, q = x[..., channel].astype(float), y[..., channel].astype(float)
        mp, mq = (w * p).sum(), (w * q).sum()
        vp, vq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum()
        cov = (w * (p - mp) * (q - mq)).sum()
        total += ((2 * mp * mq + c1) * (2 * cov + c2)) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
    assert evaluate.ssim(x, y) == pytest.approx(total / 3, rel=1e-9)


@pytest.mark.parametrize("size", [(24, 20), (64, 64), (7, 30), (4, 4), (1, 1)])
def test_ssim_of_any_size_is_symmetric_and_one_for_the_same_image(size: tuple[int, int]) -> None:
    a, b = noise(1, *size), noise(2, *size)
    assert evaluate.ssim(a, a) == pytest.approx(1.0)
    assert evaluate.ssim(a, b) == pytest.approx(evaluate.ssim(b, a), abs=1e-12)
    assert evaluate.ssim(a, b) < 1


def test_more_noise_is_worse() -> None:
    a = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3)
    shaken = np.random.default_rng(0).normal(size=a.shape)
    little, much = (np.clip(a + s * shaken, 0, 255).astype(np.uint8) for s in (2, 20))
    pixels = a.astype(np.uint8)
    assert evaluate.psnr(pixels, little) > evaluate.psnr(pixels, much)
    assert evaluate.ssim(pixels, little) > evaluate.ssim(pixels, much)


def test_latent_distance_is_relative_and_squared() -> None:
    x = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert evaluate.latent_distance(x, x) == 0
    assert evaluate.latent_distance(1.5 * x, x) == pytest.approx(0.25)
    assert evaluate.latent_distance(0 * x, x) == pytest.approx(1)


def test_metrics_refuse_different_shapes() -> None:
    for metric in (evaluate.psnr, evaluate.ssim):
        with pytest.raises(ValueError, match="shapes"):
            metric(noise(0, 8, 8), noise(0, 8, 9))
    with pytest.raises(ValueError, match="shapes"):
        evaluate.latent_distance(torch.zeros(1, 2), torch.zeros(2, 1))


def make_variant(folder: Path, cut: int) -> str:
    """The demo with `cut` units fewer in every target that has more; nothing compensates."""
    unet = loading.load_pipeline("demo", device="cpu", dtype=torch.float32).unet
    dense_params = sum(p.numel() for p in unet.parameters())
    targets, kept = [], {}
    for target in find_targets(unet):
        keep = torch.arange(cut if target.units > cut else 0, target.units)
        shrink(unet, target, keep)
        kept[target.name] = keep
        targets.append(
            {
                "name": target.name,
                "kind": target.kind,
                "units": target.units,
                "unit_width": target.unit_width,
            }
        )
    facts = {
        "base": {"model": "demo"},
        "method": "cut",
        "sparsity": 0.25,
        "dense_params": dense_params,
        "targets": targets,
    }
    save_variant(folder, unet.state_dict(), unet, facts, kept, torch.float32)
    return str(folder)


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, str], ...]:
    """The dense model saved as a variant, and one with a unit cut everywhere."""
    home = tmp_path_factory.mktemp("variants")
    return (
        ("job/1@0", make_variant(home / "none", 0)),
        ("job/1@25", make_variant(home / "some", 1)),
    )


@pytest.fixture(scope="module")
def pipes() -> loading.Pipelines:
    return loading.Pipelines(device="cpu", dtype=torch.float32)


def captions(n: int) -> tuple[str, ...]:
    return tuple(demo.calibration_prompts(n, seed=1))


def rows(events: list[Event]) -> list[ModelMeasured]:
    return [event for event in events if isinstance(event, ModelMeasured)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A tiny random CLIP, as a folder."""
    torch.manual_seed(0)
    words = ["<|startoftext|>", "<|endoftext|>", *"abcdefghij", *(f"{c}</w>" for c in "abcdefghij")]
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8
    )
    folder = tmp_path / "clip"
    CLIPModel(config).save_pretrained(folder)
    vocab = {word: at for at, word in enumerate(words)}
    CLIPTokenizer(vocab=vocab, merges=[], model_max_length=8).save_pretrained(folder)
    size = {"shortest_edge": 32}
    CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_clip_scores_are_those_of_the_model_at_hand(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [Image.new("RGB", (40, 40), color) for color in ("red", "blue", "green")] * 7
    prompts = ["a b c", "d e", "a very long prompt of many more tokens than the model takes"] * 7
    monkeypatch.setenv("OBSTUI_CLIP", str(clip / "absent"))
    assert load_clip() is None
    monkeypatch.setenv("OBSTUI_CLIP", str(clip))
    loaded = load_clip()
    assert loaded is not None
    scores = loaded.scores(pictures, prompts)
    assert len(scores) == 21
    assert all(0 <= score <= 100 for score in scores)
    assert scores[:3] == pytest.approx(scores[18:], abs=1e-3)  # whatever batch they are in
    model = CLIPModel.from_pretrained(clip)
    processor = CLIPImageProcessorPil.from_pretrained(clip)
    tokens = CLIPTokenizer.from_pretrained(clip)(["d e"], return_tensors="pt")
    with torch.no_grad():
        pixels = processor([pictures[1]], return_tensors="pt")["pixel_values"]
        image = model.visual_projection(model.vision_model(pixels).pooler_output)
        words = model.text_projection(model.text_model(**tokens).pooler_output)
    cosine = float(torch.nn.functional.cosine_similarity(image, words))
    assert scores[1] == pytest.approx(100 * max(cosine, 0), abs=1e-2)


def test_comparison_from_end_to_end(
    tmp_path: Path,
    variants: tuple[tuple[str, str], ...],
    pipes: loading.Pipelines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = CompareSettings("demo", variants, captions(1), count=2, steps=2, seed=5)
    events = list(evaluate.run(settings, tmp_path, lambda: False, pipes))
    phases = [event for event in events if isinstance(event, Phase)]
    assert [phase.name for phase in phases] == [
        "load",
        "generate dense",
        "generate job/1@0",
        "generate job/1@25",
        "generate other seeds",
    ]
    assert phases[0].following == tuple((phase.name, 4) for phase in phases[1:])
    assert phases[1].following == phases[0].following[1:]

    dense, same, cut = rows(events)
    assert (dense.model, dense.method, dense.psnr, dense.ssim) == ("dense", "dense", None, None)
    assert dense.latent_distance is None
    assert dense.attributes is not None
    assert 0 <= dense.attributes <= 1
    # A variant with every unit kept is the dense model.
    assert same.ssim == pytest.approx(1, abs=1e-4)
    assert same.latent_distance == pytest.approx(0, abs=1e-6)
    assert same.params == dense.params
    assert cut.params < dense.params
    assert cut.size_bytes == 4 * cut.params  # float32
    assert (cut.method, cut.sparsity) == ("cut", 0.25)
    assert cut.latent_distance is not None
    assert cut.latent_distance > 1e-6
    assert cut.ssim is not None
    assert cut.ssim < 1
    assert cut.psnr is not None
    assert cut.psnr < evaluate.PSNR_CAP
    assert dense.apart == {}
    assert list(cut.apart) == ["5", "6"], "by the pictures' seeds"
    for place, mean in enumerate((cut.psnr, cut.ssim, cut.latent_distance)):
        assert sum(each[place] for each in cut.apart.values()) / 2 == pytest.approx(mean)
    assert min(row.latency for row in (dense, same, cut)) > 0

    saved = [event for event in events if isinstance(event, ImageSaved)]
    assert {Path(image.path).parent.name for image in saved} == {"dense", "job-1@0", "job-1@25"}
    seeds = [(image.prompt, image.seed) for image in saved]
    assert seeds[:2] == seeds[2:4] == seeds[4:]
    assert [seed for _, seed in seeds[:2]] == [5, 6]

    # Another seed moves a picture much further than this cut does: that is the scale.
    [reseed] = [event for event in events if isinstance(event, ReseedMeasured)]
    assert reseed.pictures == len(reseed.seconds) == 2
    assert min(reseed.seconds) > 0
    assert reseed.latent_distance is not None
    assert reseed.latent_distance > cut.latent_distance
    assert reseed.psnr is not None
    assert reseed.psnr < cut.psnr
    assert {(row.pictures, row.clip) for row in rows(events)} == {(2, None)}

    # Run again, nothing is painted and every number is what it was, the latency included.
    monkeypatch.setattr(generate, "_call", None)
    again = list(evaluate.run(settings, tmp_path, lambda: False, pipes))
    assert rows(again) == rows(events)
    assert all(event.reused for event in again if isinstance(event, ImageSaved))


def test_a_run_loads_clip_once_and_scores_every_model(
    tmp_path: Path,
    pipes: loading.Pipelines,
    variants: tuple[tuple[str, str], ...],
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OBSTUI_CLIP", str(clip))
    loads = []
    real = CLIPModel.from_pretrained
    monkeypatch.setattr(
        CLIPModel, "from_pretrained", lambda *args, **kw: loads.append(args) or real(*args, **kw)
    )
    settings = CompareSettings("demo", variants, captions(1), steps=1)
    events = list(evaluate.run(settings, tmp_path, lambda: False, pipes))
    scored = [row.clip for row in rows(events)]
    assert len(scored) == 3
    assert None not in scored
    assert len(loads) == 1


def test_captions_the_judge_does_not_know_do_not_count(
    tmp_path: Path, pipes: loading.Pipelines
) -> None:
    settings = CompareSettings("demo", (), ("a photo of a cat",), steps=1)
    [dense] = rows(list(evaluate.run(settings, tmp_path, lambda: False, pipes)))
    assert dense.attributes is None


def test_cancelled_comparison_keeps_what_is_finished(
    tmp_path: Path, pipes: loading.Pipelines
) -> None:
    settings = CompareSettings("demo", (), captions(2), steps=2)
    left = iter(range(6))  # before loading, two to warm up, two for the first image, one more
    with pytest.raises(Cancelled):
        list(evaluate.run(settings, tmp_path, lambda: next(left, None) is None, pipes))
    assert [file.name for file in (tmp_path / "dense").glob("*.json")] == ["0000-seed0.json"]


def test_faults_are_found_before_anything_is_painted(
    tmp_path: Path, variants: tuple[tuple[str, str], ...], pipes: loading.Pipelines
) -> None:
    settings = CompareSettings("demo", variants, captions(1), steps=2)
    (_, none), (_, some) = variants
    for change, named in (
        ({"variants": (("a", none), ("b", str(tmp_path / "absent")))}, "absent"),
        ({"variants": (("a/b", none), ("a-b", some))}, "a-b"),
        ({"variants": (("dense", none),)}, "dense"),
        ({"count": 0}, "count"),
        ({"prompts": (), "num_prompts": 0}, "num_prompts"),
    ):
        with pytest.raises(BadInput, match=named):
            list(evaluate.run(replace(settings, **change), tmp_path, lambda: False, pipes))
    assert not list(tmp_path.iterdir())


def test_variant_of_another_architecture_is_refused(
    tmp_path: Path, variants: tuple[tuple[str, str], ...], pipes: loading.Pipelines
) -> None:
    variant = tmp_path / "variant"
    shutil.copytree(variants[1][1], variant)
    fitting = loading.load_variant_pipeline("demo", variant, device="cpu", dtype=torch.float32)
    dense = pipes.get("demo").unet
    assert fitting.unet.num_parameters() < dense.num_parameters()
    original = dense.config.block_out_channels
    dense.register_to_config(block_out_channels=(32, 64, 256))
    try:
        with pytest.raises(BadInput, match="block_out_channels"):
            pipes.get("demo", variant)
    finally:
        dense.register_to_config(block_out_channels=original)


def test_pipelines_load_once_and_swap_unets(
    variants: tuple[tuple[str, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    for name in ("load_pipeline", "load_unet"):
        original = getattr(loading, name)

        def counted(*args: object, _name: str = name, _original=original, **kwargs: object):  # type: ignore[no-untyped-def]
            loads.append(_name)
            return _original(*args, **kwargs)

        monkeypatch.setattr(loading, name, counted)
    pipes = loading.Pipelines(device="cpu", dtype=torch.float32)
    dense = pipes.get("demo").unet
    cut = pipes.get("demo", variants[1][1]).unet
    assert cut is not dense
    assert pipes.get("demo").unet is dense
    assert pipes.get("demo", Path(variants[1][1])).unet is cut
    assert loads == ["load_pipeline", "load_unet"]
    assert pipes.get("demo", variants[0][1]).unet is not cut
    assert loads == ["load_pipeline", "load_unet", "load_unet"]
