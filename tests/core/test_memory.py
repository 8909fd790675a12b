"""Forecasts of memory against the tensors that really live at the same time.

No GPU is needed to count them: every operation that allocates is seen, on the meta device at
SDXL's own size, and tensors are followed until they are freed.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core import demo, memory
from core.architecture import SDXL
from core.errors import BadInput
from core.hessian import Hessian
from core.memory import GIB, Model
from core.panels import size_bytes
from core.solver import solve
from core.surgery import shrink
from core.targets import find_targets


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that were made inside and still live; `peak` is the most."""

    def __init__(self, weights: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self._weights = [weight.untyped_storage() for weight in weights]
        self._sizes = {storage._cdata: 0 for storage in self._weights}
        self._now = self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._sizes:
                    self._sizes[storage._cdata] = storage.nbytes()
                    self._now += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata)
        self.peak = max(self.peak, self._now)
        return made

    def _freed(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)


class Fused(TorchFunctionMode):
    """Attention as a fused kernel has it: the output and nothing between. The meta device would
    hold the matrix of tokens by tokens."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def sdxl() -> Model:
    return memory.sdxl()


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**SDXL).half().eval()


def forward_peak(unet: UNet2DConditionModel, latent_size: int, samples: int) -> int:
    """Most bytes of activations in one forward pass."""
    with torch.device("meta"), torch.no_grad():
        latents = torch.zeros(samples, 4, latent_size, latent_size).half()
        text, pooled = torch.zeros(samples, 77, 2048).half(), torch.zeros(samples, 1280).half()
        added = {"text_embeds": pooled, "time_ids": torch.zeros(samples, 6).half()}
        with Fused(), Live(unet.parameters()) as live:
            unet(latents, torch.zeros(()), text, added_cond_kwargs=added)
    return live.peak


@pytest.mark.parametrize(("latent_size", "samples"), [(64, 1), (128, 2), (100, 1)])
def test_activations_are_those_of_a_forward_pass(
    sdxl: Model, unet: UNet2DConditionModel, latent_size: int, samples: int
) -> None:
    forecast = memory.activation_bytes(sdxl, 8 * latent_size, samples=samples)
    assert forecast == pytest.approx(forward_peak(unet, latent_size, samples), rel=0.05)


def test_a_pruned_unet_has_smaller_activations(sdxl: Model) -> None:
    kept = sdxl.unet.kept(0.5)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL).half().eval()
    for target in find_targets(unet):
        shrink(unet, target, torch.arange(kept[target.name]))
    forecast = memory.activation_bytes(sdxl, 512, samples=1, kept=kept)
    assert forecast == pytest.approx(forward_peak(unet, 64, 1), rel=0.05)
    assert forecast < memory.activation_bytes(sdxl, 512, samples=1)


def test_decoding_needs_what_sdxls_vae_holds(sdxl: Model) -> None:
    with torch.device("meta"), torch.no_grad():
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        assert sum(p.numel() for p in vae.parameters()) == sdxl.vae_params
        latents = torch.zeros(1, 4, 64, 64)
        with Fused(), Live(vae.parameters()) as live:
            vae.decode(latents)
    decode = memory.forecast_paint(sdxl, 512).moments[-1]
    assert decode.phase == "decode"
    assert decode.activations == pytest.approx(live.peak, rel=0.02)


def test_sdxls_encoders_have_so_many_parameters(sdxl: Model) -> None:
    with torch.device("meta"):
        small = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072,
            num_hidden_layers=12, num_attention_heads=12))  # fmt: skip
        large = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=1280,
            intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
            projection_dim=1280))  # fmt: skip
    sizes = tuple(sum(p.numel() for p in model.parameters()) for model in (small, large))
    assert sizes == sdxl.encoder_params


@pytest.mark.parametrize(("rows", "columns", "width"), [(256, 1024, 1), (512, 512, 64)])
def test_the_solver_stays_within_its_workspace(rows: int, columns: int, width: int) -> None:
    torch.manual_seed(0)
    W, hessian = torch.randn(rows, columns), Hessian(columns)
    hessian.add(torch.randn(4 * columns, columns), 1.0)
    units = columns // width
    keeps = [units * share // 10 for share in (9, 8, 7, 5)]
    with Live([W, *hessian.panels, hessian.first]) as live:
        solve(W, hessian.finish("layer"), width, keeps, damping=0.01, name="layer")
    forecast = memory.solver_bytes(columns, rows, len(keeps))
    assert forecast / 2 <= live.peak <= forecast


def test_hessians_of_sdxl(sdxl: Model) -> None:
    targets = sdxl.unet.targets
    whole = memory.hessian_bytes(targets)
    assert whole == pytest.approx(4.29 * GIB, rel=0.01)
    assert whole == sum(size_bytes(t.columns) + 4 * t.columns for t in targets)
    halves = memory.hessian_bytes(targets, 2)
    assert whole / 2 <= halves < 0.6 * whole
    assert memory.hessian_bytes(targets, 70) == sum(
        size_bytes(t.columns) + 4 * t.columns for t in targets if t.block == 69 - 7
    )


def test_what_stays_on_the_device_in_each_phase(sdxl: Model) -> None:
    unet, encoders = 2 * 2_567_463_684, [2 * params for params in sdxl.encoder_params]
    vae = 2 * sdxl.vae_params
    whole = memory.forecast_prune(sdxl, 512, batch=4)
    assert [moment.weights for moment in whole.moments] == [
        sum(encoders), unet, unet, unet,
    ]  # fmt: skip
    waiting = memory.forecast_paint(sdxl, 1024, offload="model")
    assert [moment.weights for moment in waiting.moments] == [max(encoders), unet, 2 * vae]
    there = memory.forecast_paint(sdxl, 1024)
    assert there.moments[-1].weights == unet + sum(encoders) + 2 * vae
    assert there.peak.phase == "decode"
    assert there.allocated < there.needed
    pruned = memory.forecast_paint(sdxl, 1024, kept=sdxl.unet.kept(0.3))
    assert there.allocated - pruned.allocated == 2 * (2_567_463_684 - 1_912_067_844)


@pytest.mark.parametrize("size", [512, 1024])
@pytest.mark.parametrize("gib", [8, 12, 16, 24])
def test_a_choice_for_every_common_card(sdxl: Model, size: int, gib: int) -> None:
    for choices in (memory.prune_choices(sdxl, size, levels=5), memory.paint_choices(sdxl, size)):
        choice = memory.fit(choices, gib * GIB)
        assert choice.forecast.needed <= gib * GIB


def test_more_memory_buys_fewer_groups(sdxl: Model) -> None:
    def chosen(gib: float) -> tuple[int, int]:
        choice = memory.fit(memory.prune_choices(sdxl, 512), int(gib * GIB))
        return choice.groups, choice.batch

    assert [chosen(gib) for gib in (8, 10, 12)] == [(4, 4), (2, 4), (1, 4)]
    fixed = memory.prune_choices(sdxl, 512, packages=3, batch=2)
    assert [(c.groups, c.batch) for c in fixed] == [(3 * 2**n, 2) for n in range(7)]


def test_painting_halves_the_batch_before_it_moves_components(sdxl: Model) -> None:
    def chosen(gib: float) -> tuple[int, str]:
        choice = memory.fit(memory.paint_choices(sdxl, 1024, batch=4), int(gib * GIB))
        return choice.batch, choice.offload

    assert [chosen(gib) for gib in (24, 16, 12)] == [(4, "none"), (2, "none"), (1, "none")]
    assert chosen(8)[1] == "model"


def test_what_fits_nowhere_is_refused_with_the_least_it_needs(sdxl: Model) -> None:
    with pytest.raises(BadInput, match=r"needs at least 7\.\d GiB .* more than the 4 GiB given"):
        memory.fit(memory.prune_choices(sdxl, 1024), 4 * GIB)
    with pytest.raises(BadInput, match=r"size 1001 does not work.*multiple of 8"):
        memory.fit(memory.prune_choices(sdxl, 1001), 8 * GIB)


def test_batches_follow_from_the_size() -> None:
    assert [memory.default_batch_size(side * side) for side in (128, 64, 16, 512)] == [1, 4, 16, 1]


def test_a_folder_is_read_by_its_configurations_and_headers() -> None:
    model = memory.read_model(demo.MODEL_DIR)
    assert (model.size, model.vae_factor, model.text_tokens) == (64, 4, 24)
    assert model.unet.params() == 8_248_900
    vae = AutoencoderKL.from_pretrained(demo.MODEL_DIR / "vae")
    assert model.vae_params == sum(p.numel() for p in vae.parameters())
    with torch.no_grad(), Live(vae.parameters()) as live:
        vae.decode(torch.zeros(1, 4, 16, 16))
    decode = memory.forecast_paint(model, 64).moments[-1]
    assert decode.activations == pytest.approx(live.peak, rel=0.1)


def test_a_loaded_pipeline_is_the_folder_it_came_from() -> None:
    pipe = StableDiffusionXLPipeline.from_pretrained(demo.MODEL_DIR, add_watermarker=False)
    assert memory.of_pipeline(pipe) == memory.read_model(demo.MODEL_DIR)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("unet/config.json", b"{", "unet/config.json cannot be read"),
        ("unet/config.json", b"[" * 100_000, "cannot be read as a configuration"),
        ("unet/config.json", b"[1]", "cannot be read as a configuration"),
        ("vae/config.json", b'{"block_out_channels": ["wide"]}', "does not say its channels"),
        ("unet/config.json", b'{"sample_size": "x"}', "does not say its size"),
        ("vae/diffusion_pytorch_model.safetensors", b"\xff" * 64, "is damaged: delete it"),
        ("vae/diffusion_pytorch_model.safetensors", b"\x02\0\0\0\0\0\0\0[]", "is damaged"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path: Path, file: str, content: bytes, words: str) -> None:
    folder = tmp_path / "model"
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        (folder / part).mkdir(parents=True)
        shutil.copy(demo.MODEL_DIR / part / "config.json", folder / part)
        name = "model" if part.startswith("text") else "diffusion_pytorch_model"
        save_file({"a": torch.zeros(2, 3)}, folder / part / f"{name}.safetensors")
    assert memory.read_model(folder).encoder_params == (6, 6)
    (folder / file).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        memory.read_model(folder)
