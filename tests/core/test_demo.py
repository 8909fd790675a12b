"""The demo model: scenes, judge, and the bundled pipeline."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from core import demo
from core.demo import judge as judging
from core.demo import scenes
from core.demo.scenes import Scene, Thing

SOME = 200


def some_scenes(seed: int, n: int = SOME) -> list[tuple[Scene, Image.Image]]:
    rng = random.Random(seed)
    drawn = []
    for _ in range(n):
        scene = scenes.random_scene(rng)
        drawn.append((scene, scenes.draw(scene, rng)))
    return drawn


def test_a_caption_and_its_scene_say_the_same() -> None:
    for scene, _ in some_scenes(1):
        assert scenes.parse(scenes.caption(scene)) == scene


def test_captions_read_as_written_in_the_module() -> None:
    one = Scene((Thing("small", "yellow", "star"),), "at the top of", "purple")
    assert scenes.caption(one) == "a small yellow star at the top of a purple background"
    two = Scene(
        (Thing("large", "red", "circle"), Thing("small", "blue", "square")),
        "to the left of",
        "orange",
    )
    text = "a large red circle to the left of a small blue square on an orange background"
    assert scenes.caption(two) == text
    assert scenes.parse(f"  {text.upper()}. ") == two


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat",
        "a small yellow star at the top of a yellow background",
        "a red star at the top of a blue background",
        "a large red circle above a small red square on a blue background",
        "a small yellow star at the top of a purple background and a hat",
    ],
)
def test_other_text_is_no_scene(text: str) -> None:
    assert scenes.parse(text) is None
    with pytest.raises(ValueError, match="not a caption"):
        judging.judge(Image.new("RGB", (64, 64)), text)


def test_the_splits_are_seeded_and_apart() -> None:
    held, trained = scenes.held_out_captions(SOME, 3), demo.calibration_prompts(SOME, 3)
    assert held == scenes.held_out_captions(SOME, 3) != scenes.held_out_captions(SOME, 4)
    assert trained == demo.calibration_prompts(SOME, 3)
    assert len(set(held)) == len(set(trained)) == SOME
    assert all(map(scenes.held_out, held))
    assert not any(map(scenes.held_out, trained))
    assert demo.PROMPTS
    assert all(map(scenes.held_out, demo.PROMPTS))
    assert None not in map(scenes.parse, demo.PROMPTS)


def test_a_scene_is_drawn_the_same_every_time() -> None:
    scene, _ = some_scenes(5, 1)[0]
    assert scenes.draw(scene).tobytes() == scenes.draw(scene).tobytes()
    varied = {scenes.draw(scene, random.Random(seed)).tobytes() for seed in range(4)}
    assert len(varied) == 4


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.8))


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 8, (64, 64, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("spoil", [lambda image: image, blurred, noisy])
def test_the_judge_is_right_on_drawn_scenes(
    spoil: Callable[[Image.Image], Image.Image],
) -> None:
    drawn = some_scenes(6)
    images = [spoil(image) for _, image in drawn]
    assert judging.satisfied(images, [scenes.caption(scene) for scene, _ in drawn]) >= 0.99


def test_the_judge_finds_each_lie_and_only_that() -> None:
    rng = random.Random(7)
    thing = Thing("large", "red", "heart")
    scene = Scene((thing,), "on the left of", "white")
    lies = {
        "background": Scene((thing,), scene.place, "black"),
        "position": Scene((thing,), "on the right of", "white"),
        "color": Scene((Thing("large", "green", "heart"),), scene.place, "white"),
        "shape": Scene((Thing("large", "red", "circle"),), scene.place, "white"),
        "size": Scene((Thing("small", "red", "heart"),), scene.place, "white"),
    }
    for attribute, lie in lies.items():
        verdict = judging.judge(scenes.draw(scene, rng), scenes.caption(lie))
        assert [name for name, good in verdict.items() if not good] == [attribute]


def test_the_judge_tells_which_of_two_things_is_wrong() -> None:
    first, second = Thing("large", "red", "heart"), Thing("small", "blue", "star")
    image = scenes.draw(Scene((first, second), "above", "white"))

    def wrong(scene: Scene) -> set[str]:
        verdict = judging.judge(image, scenes.caption(scene))
        return {name for name, good in verdict.items() if not good}

    assert wrong(Scene((second, first), "below", "white")) == set()
    assert wrong(Scene((first, second), "below", "white")) == {"relation"}
    assert wrong(Scene((first, second), "to the left of", "white")) == {"relation"}
    other = Thing("small", "blue", "circle")
    assert wrong(Scene((first, other), "above", "white")) == {"second.shape"}
    alone = Scene((first,), "at the top of", "white")
    assert wrong(alone) == {"count"}


def test_a_wrong_caption_is_judged_wrong() -> None:
    drawn = some_scenes(8)
    captions = [scenes.caption(scene) for scene, _ in drawn]
    for (_, image), own, other in zip(drawn, captions, [*captions[1:], captions[0]], strict=True):
        if own != other:
            assert not all(judging.judge(image, other).values())


def test_an_empty_picture_satisfies_only_its_background() -> None:
    verdict = judging.judge(
        Image.new("RGB", (64, 64), scenes.COLORS["white"]),
        "a small red star in the center of a white background",
    )
    assert [name for name, good in verdict.items() if good] == ["background"]


# -- the bundled folder --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipe():  # type: ignore[no-untyped-def]
    pytest.importorskip("torch")
    from diffusers import StableDiffusionXLPipeline

    loaded = StableDiffusionXLPipeline.from_pretrained(demo.MODEL_DIR)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_the_folder_is_small_and_has_a_card() -> None:
    files = [path for path in Path(demo.MODEL_DIR).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 24.5e6
    assert "license: apache-2.0" in (demo.MODEL_DIR / "README.md").read_text()


def test_the_unet_has_the_block_structure_of_sdxl(pipe) -> None:  # type: ignore[no-untyped-def]
    config = pipe.unet.config
    assert tuple(config.down_block_types) == (
        "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
    )  # fmt: skip
    assert tuple(config.up_block_types) == (
        "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D",
    )  # fmt: skip
    assert config.mid_block_type == "UNetMidBlock2DCrossAttn"
    assert config.addition_embed_type == "text_time"
    assert config.use_linear_projection
    from diffusers.models.attention import GEGLU, Attention

    modules = list(pipe.unet.modules())
    heads = {module.heads for module in modules if isinstance(module, Attention)}
    assert heads
    assert min(heads) >= 4
    assert any(isinstance(module, GEGLU) for module in modules)


def test_training_embeds_captions_as_the_pipeline_does(pipe) -> None:  # type: ignore[no-untyped-def]
    import torch

    from core.demo.train import tokenized

    captions = scenes.held_out_captions(4)
    words, _, pooled, _ = pipe.encode_prompt(captions, do_classifier_free_guidance=False)
    ids = tokenized(pipe, captions)
    one = pipe.text_encoder(ids, output_hidden_states=True)
    two = pipe.text_encoder_2(ids, output_hidden_states=True)
    both = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
    assert torch.equal(words, both)
    assert torch.equal(pooled, two.text_embeds)
    assert pipe.tokenizer.unk_token_id not in ids  # each word of the captions is known
    assert (ids[:, -1] == pipe.tokenizer.pad_token_id).all()  # and every caption fits


def test_words_it_never_saw_do_no_harm(pipe) -> None:  # type: ignore[no-untyped-def]
    image = pipe("a photograph of Zoë, 50 % café", num_inference_steps=2).images[0]
    assert image.size == (64, 64)


def test_the_autoencoder_keeps_nearly_all_that_the_judge_reads(pipe) -> None:  # type: ignore[no-untyped-def]
    import torch

    drawn = some_scenes(9, 48)
    x = torch.stack([pipe.image_processor.preprocess(image)[0] for _, image in drawn])
    with torch.no_grad():
        y = pipe.vae.decode(pipe.vae.encode(x).latent_dist.mode()).sample
    images = pipe.image_processor.postprocess(y)
    # What it loses are arms of small stars and crosses: a few pixels wide, read as circles.
    assert judging.satisfied(images, [scenes.caption(scene) for scene, _ in drawn]) >= 0.98


def test_it_draws_what_the_caption_says(pipe) -> None:  # type: ignore[no-untyped-def]
    import torch

    captions = scenes.held_out_captions(16, seed=11)
    images = pipe(
        captions, num_inference_steps=20, guidance_scale=demo.GUIDANCE,
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    assert judging.satisfied(images, captions) >= 0.85
