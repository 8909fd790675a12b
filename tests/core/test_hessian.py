"""The weighted second moment: sums, panels, storage, and refusing to be empty."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.checkpoint import read_tensors, write_tensors
from core.errors import EngineError
from core.hessian import Hessian
from core.panels import size_bytes


def tokens(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("d", [7, 256, 700])  # one panel, one exactly, and three with a rest
def test_finish_is_the_weighted_mean_of_outer_products(d: int) -> None:
    hessian = Hessian(d)
    first, second = tokens(40, d), tokens(24, d, seed=1)
    hessian.add(first.view(2, 20, d), 1.2)
    hessian.add(second, 0.8)
    a, b = first.double(), second.double()
    expected = (1.2 * a.T @ a + 0.8 * b.T @ b) / (1.2 * 40 + 0.8 * 24)
    H = hessian.finish("layer")
    torch.testing.assert_close(H.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(H, H.T)
    assert hessian.tokens == 64
    assert size_bytes(d) == sum(panel.nbytes for panel in hessian.panels)


def test_any_split_of_the_batch_gives_the_same_sum_and_a_constant_weight_cancels() -> None:
    X = tokens(60, 16)
    whole, split, doubled = Hessian(16), Hessian(16), Hessian(16)
    whole.add(X, 1.0)
    for part in torch.split(X.flip(0), 7):
        split.add(part, 1.0)
    doubled.add(X, 2.0)
    torch.testing.assert_close(split.finish("a"), whole.finish("a"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(doubled.finish("a"), whole.finish("a"))


def test_panels_at_sdxl_width_take_five_eighths_of_the_matrix() -> None:
    assert size_bytes(5120) == 5120 * 5120 * 4 * 5 // 8


def test_a_sum_stored_halfway_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    X = tokens(64, 300)
    straight, halfway = Hessian(300), Hessian(300)
    for part in torch.split(X, 16):
        straight.add(part, 0.9)
    for part in torch.split(X[:32], 16):
        halfway.add(part, 0.9)
    file = tmp_path / "sums.safetensors"
    # An odd name shifts the tensors in the file to addresses that no allocator would give.
    write_tensors(file, halfway.to_tensors("odd"), {"key": "k", **halfway.counts()})
    found = read_tensors(file, "k")
    assert found is not None
    resumed = Hessian(300)
    resumed.restore("odd", *found)
    for part in torch.split(X[32:], 16):
        resumed.add(part, 0.9)
    assert torch.equal(resumed.finish("a"), straight.finish("a"))
    assert resumed.counts() == straight.counts()


def test_an_empty_or_broken_sum_is_an_error_that_names_the_layer() -> None:
    with pytest.raises(EngineError, match=r"no tokens to mid\.ff"):
        Hessian(4).finish("mid.ff")
    broken = Hessian(4)
    broken.add(torch.full((2, 4), torch.inf), 1.0)
    with pytest.raises(EngineError, match=r"infinite or undefined numbers to mid\.ff"):
        broken.finish("mid.ff")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_on_a_gpu_are_summed_in_float32(dtype: torch.dtype) -> None:
    X = tokens(4096, 1280).to("cuda", dtype)
    hessian = Hessian(1280, "cuda")
    for part in torch.split(X, 512):
        hessian.add(part, 0.9)
    exact = (X.double().T @ X.double()) / len(X)
    error = (hessian.finish("a").double() - exact).norm() / exact.norm()
    assert float(error) < 1e-5
