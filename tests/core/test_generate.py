"""Images: independent of batches, made once, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core import demo, generate, loading, pictures, presets, preview, schedulers
from core.errors import BadInput, Cancelled, EngineError
from core.events import Event, ImageSaved, Phase, Progress, StepPreview
from core.generate import GenerateSettings

PROMPTS = ("a red circle", "a blue square", "a green star")
SETTINGS = GenerateSettings("demo", PROMPTS, steps=3, seed=7, batch_size=2)


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def pipes() -> loading.Pipelines:
    return loading.Pipelines(device="cpu", dtype=torch.float32)


def images(events: list[Event]) -> list[ImageSaved]:
    return [event for event in events if isinstance(event, ImageSaved)]


def contents(folder: Path) -> dict[str, bytes]:
    """What the run is about: pictures and latents, not how long they took."""
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.suffix != ".json"}


def test_every_image_is_announced_with_progress_by_step(
    tmp_path: Path, pipes: loading.Pipelines
) -> None:
    events = list(generate.run(replace(SETTINGS, count=2), tmp_path, never, pipes))
    load, paint = (event for event in events if isinstance(event, Phase))
    assert (load.name, load.following) == ("load", (("generate", 18),))
    assert (paint.name, paint.total, paint.done, paint.unit) == ("generate", 18, 0, "steps")
    progress = [
        event.done for event in events[events.index(paint) :] if isinstance(event, Progress)
    ]
    assert progress == sorted(progress)
    assert progress[0] == 2  # a step of two images
    assert progress[-1] == 18
    saved = images(events)
    assert [(image.prompt, image.seed) for image in saved] == [
        (prompt, seed) for prompt in PROMPTS for seed in (7, 8)
    ]
    for image in saved:
        assert (image.model, image.reused) == ("dense", False)
        with Image.open(image.path) as full, Image.open(image.thumbnail) as small:
            assert full.size == (64, 64)
            assert max(small.size) <= 96
    assert Path(saved[-1].path).name == "0002-seed8.png"


def test_batch_size_does_not_change_an_image(tmp_path: Path, pipes: loading.Pipelines) -> None:
    for size in (1, 2):
        settings = replace(SETTINGS, batch_size=size)
        list(generate.run(settings, tmp_path / str(size), never, pipes))
    for index in range(3):
        name = f"{index:04d}-seed7.png"
        one, two = (pictures.Picture(tmp_path / size / name, 0) for size in ("1", "2"))
        torch.testing.assert_close(one.latents(), two.latents(), rtol=1e-4, atol=1e-4)
        difference = np.asarray(one.image(), int) - np.asarray(two.image(), int)
        assert abs(difference).max() <= 1
    # Different prompts and seeds do make different images.
    assert len(set(contents(tmp_path / "1").values())) == len(contents(tmp_path / "1"))


def test_finished_images_are_reused_and_not_painted_again(
    tmp_path: Path, pipes: loading.Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = images(list(generate.run(SETTINGS, tmp_path, never, pipes)))

    def refuse(*_: object) -> None:
        raise AssertionError("painted again")

    monkeypatch.setattr(generate, "_call", refuse)
    events = list(generate.run(SETTINGS, tmp_path, never, pipes))
    assert images(events) == [replace(image, reused=True) for image in first]
    [paint] = [event for event in events if isinstance(event, Phase) and event.name == "generate"]
    assert paint.done == paint.total
    # Another setting, or one byte of difference, and they are not the same images.
    with pytest.raises(AssertionError, match="painted again"):
        list(generate.run(replace(SETTINGS, guidance=1.5), tmp_path, never, pipes))
    damaged = Path(first[0].path)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(AssertionError, match="painted again"):
        list(generate.run(SETTINGS, tmp_path, never, pipes))


def test_interrupted_run_ends_with_the_same_bytes(tmp_path: Path, pipes: loading.Pipelines) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    list(generate.run(SETTINGS, whole, never, pipes))
    list(generate.run(SETTINGS, parts, never, pipes))
    # As if killed between the two images of the first batch, the sidecar being the last file.
    (parts / "0001-seed7.json").unlink()
    (parts / "0001-seed7.png").write_bytes(b"half")
    (parts / ".0001-seed7.png.tmp").write_bytes(b"ha")
    events = list(generate.run(SETTINGS, parts, never, pipes))
    assert [image.reused for image in images(events)] == [True, True, False]
    assert contents(whole) == contents(parts)


def cancel_after(calls: int) -> Callable[[], bool]:
    left = iter(range(calls))
    return lambda: next(left, None) is None


def test_cancel_stops_between_steps_and_leaves_nothing_half(
    tmp_path: Path, pipes: loading.Pipelines
) -> None:
    # One look before loading, three in the first batch, one in the second.
    events: list[Event] = []
    with pytest.raises(Cancelled):
        events.extend(generate.run(SETTINGS, tmp_path, cancel_after(5), pipes))
    stems = {file.name.partition(".")[0] for file in tmp_path.iterdir()}
    assert stems == {"0000-seed7", "0001-seed7"}
    resumed = images(list(generate.run(SETTINGS, tmp_path, never, pipes)))
    assert [image.reused for image in resumed] == [True, True, False]
    with pytest.raises(Cancelled):
        list(generate.run(SETTINGS, tmp_path / "none", lambda: True, pipes))
    assert not (tmp_path / "none").exists()


def test_closing_the_run_stops_its_thread(tmp_path: Path, pipes: loading.Pipelines) -> None:
    run = generate.run(replace(SETTINGS, steps=50), tmp_path, never, pipes)
    next(event for event in run if isinstance(event, Progress) and event.total == 150)
    run.close()  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())


def test_png_carries_its_settings(tmp_path: Path, pipes: loading.Pipelines) -> None:
    settings = replace(
        SETTINGS, prompts=("größe, in: two\nlines",), negative="blurry", guidance=2.5
    )
    [image] = images(list(generate.run(settings, tmp_path, never, pipes)))
    with Image.open(image.path) as png:
        text = png.text["parameters"]  # type: ignore[attr-defined]
    *prompt, negative, rest = text.split("\n")
    assert "\n".join(prompt) == "größe, in: two\nlines"
    assert negative == "Negative prompt: blurry"
    sampler = type(pipes.get("demo").scheduler).__name__.removesuffix("Scheduler")
    assert rest == (
        f"Steps: 3, Sampler: {sampler}, CFG scale: 2.5, Seed: 7, Size: 64x64, Model: demo, "
        "Version: obstui"
    )
    record = json.loads(Path(image.path).with_suffix(".json").read_text())
    assert (record["prompt"], record["seed"]) == (settings.prompts[0], 7)


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_every_scheduler_paints_the_same_in_any_batch_and_leaves_the_model_its_own(
    tmp_path: Path, pipes: loading.Pipelines, name: str
) -> None:
    own = pipes.get("demo").scheduler
    settings = replace(SETTINGS, prompts=PROMPTS[:2], scheduler=name)
    two = images(list(generate.run(settings, tmp_path / "two", never, pipes)))
    alone = replace(settings, batch_size=1)
    one = images(list(generate.run(alone, tmp_path / "one", never, pipes)))
    for a, b in zip(one, two, strict=True):
        shown = [np.asarray(Image.open(image.path), dtype=int) for image in (a, b)]
        assert np.abs(shown[0] - shown[1]).max() <= 2
    assert pipes.get("demo").scheduler is own
    with Image.open(tmp_path / "one" / "0000-seed7.png") as image:
        assert f"Sampler: {schedulers._KNOWN[name][0]}," in image.text["parameters"]  # type: ignore[attr-defined]


def test_another_scheduler_makes_other_pictures_even_in_the_same_folder(
    tmp_path: Path, pipes: loading.Pipelines
) -> None:
    settings = replace(SETTINGS, prompts=PROMPTS[:1])
    made = {}
    for name in (None, "euler_a", "dpmpp_2m", "dpmpp_2m_karras"):
        events = list(generate.run(replace(settings, scheduler=name), tmp_path, never, pipes))
        assert [image.reused for image in images(events)] == [False]
        made[name] = (tmp_path / "0000-seed7.png").read_bytes()
    assert len(set(made.values())) == 4


def test_the_models_scheduler_is_back_after_a_cancel(
    tmp_path: Path, pipes: loading.Pipelines
) -> None:
    own = pipes.get("demo").scheduler
    with pytest.raises(Cancelled):
        list(generate.run(replace(SETTINGS, scheduler="euler"), tmp_path, cancel_after(3), pipes))
    assert pipes.get("demo").scheduler is own
    with pytest.raises(BadInput, match="no scheduler magic: choose one of ddim, euler"):
        list(generate.run(replace(SETTINGS, scheduler="magic"), tmp_path, never, pipes))


def test_seeds_of_ones_own(tmp_path: Path, pipes: loading.Pipelines) -> None:
    settings = replace(SETTINGS, prompts=PROMPTS[:2], seeds=(9, 2), count=5, steps=1)
    saved = images(list(generate.run(settings, tmp_path, never, pipes)))
    assert [(image.prompt, image.seed) for image in saved] == [
        (prompt, seed) for prompt in PROMPTS[:2] for seed in (9, 2)
    ]


def test_what_is_left_open_is_the_models_choice(pipes: loading.Pipelines, tmp_path: Path) -> None:
    settings = GenerateSettings("demo", PROMPTS[:1], steps=1)
    [image] = images(list(generate.run(settings, tmp_path, never, pipes)))
    record = json.loads(Path(image.path).with_suffix(".json").read_text())
    assert record["guidance"] == demo.GUIDANCE
    assert record["size"] == 64
    assert presets.defaults("owner/name").guidance == 7.0


def test_previews_are_small_pictures(
    tmp_path: Path, pipes: loading.Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "INTERVAL", 0.0)
    events = list(generate.run(SETTINGS, tmp_path, never, pipes))
    shown = [event for event in events if isinstance(event, StepPreview)]
    assert [event.step for event in shown] == [1, 2, 3, 1, 2, 3]
    with Image.open(shown[0].path) as image:
        assert image.size == (16, 16)
        preview_of = image.text["parameters"]
    with Image.open(images(events)[-1].path) as made:
        assert preview_of == made.text["parameters"]


def test_palette_predicts_what_the_decoder_paints(pipes: loading.Pipelines) -> None:
    class Decoder(torch.nn.Module):
        """A VAE whose colours are an affine function of its latents."""

        config = type(
            "Config", (), {"latent_channels": 4, "force_upcast": True, "scaling_factor": 0.5}
        )
        dtype, device, post_quant_conv = torch.float32, torch.device("cpu"), None

        def decoder(self, latents: torch.Tensor) -> torch.Tensor:
            rgb = latents[:, :3] * 0.5 * 0.2 + latents[:, 3:] * 0.5 * 0.1 + 0.3
            return rgb.repeat_interleave(4, 2).repeat_interleave(4, 3)

    colours = preview.palette(Decoder())
    expected = torch.cat([0.1 * torch.eye(3), torch.full((1, 3), 0.05), torch.full((1, 3), 0.65)])
    torch.testing.assert_close(colours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompts": ()}, "prompt"),
        ({"count": 0}, "count"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"size": 63}, "63"),
    ],
)
def test_impossible_settings_are_refused(
    change: dict[str, object], named: str, tmp_path: Path, pipes: loading.Pipelines
) -> None:
    with pytest.raises(BadInput, match=named):
        list(generate.run(replace(SETTINGS, **change), tmp_path, never, pipes))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:invalid value")
def test_numbers_that_are_none_are_an_error_not_a_black_image(tmp_path: Path) -> None:
    pipes = loading.Pipelines(device="cpu", dtype=torch.float32)
    torch.nn.init.constant_(pipes.get("demo").unet.conv_out.bias, float("nan"))
    with pytest.raises(EngineError, match="not numbers"):
        list(generate.run(SETTINGS, tmp_path, never, pipes))
    assert not list(tmp_path.glob("*.png"))
