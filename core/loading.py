"""SDXL pipelines from wherever a person keeps them, and pruned UNets put in their base.

A model is named by one string: `demo` (the bundled model), a hub id (`owner/name`),
`modelscope:owner/name`, a diffusers folder, or a single `.safetensors` file. Only safetensors are
read, never a pickle. Whatever cannot be loaded raises `BadInput` with one sentence to act on.
"""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from huggingface_hub.utils.tqdm import disable_progress_bars
from safetensors import SafetensorError

from core import demo, memory, prompts, sdxl
from core.checkpoint import load_unet
from core.errors import BadInput
from core.lora import guard_ip_adapter
from core.manifest import fingerprint, read_manifest
from core.sources import check_folder, first_line, locate, tensor_names, weight_files

# Sizes the UNet was trained for say nothing about which weights fit it.
_NOT_ARCHITECTURE = {"sample_size"}
_SINGLE_FILE_MARK = "conditioner.embedders.1.model."  # SDXL's second text encoder


def default_size(pipe: StableDiffusionXLPipeline) -> int:
    """Return the side, in pixels, of the square images the UNet was trained on."""
    return int(pipe.unet.config.sample_size) * int(pipe.vae_scale_factor)


def default_prompts(model: str, n: int, seed: int) -> tuple[str, ...]:
    """Return `n` built-in calibration captions in an order that only `seed` decides.

    Raises `BadInput` when there are fewer than `n`.
    """
    if model == "demo":
        return tuple(demo.calibration_prompts(n, seed))
    if n > len(prompts.CALIBRATION):
        raise BadInput(
            f"{n} prompts were asked for but only {len(prompts.CALIBRATION)} are built in: "
            "ask for fewer or give a file of prompts"
        )
    return tuple(random.Random(seed).sample(prompts.CALIBRATION, n))


def held_out_prompts(model: str, n: int) -> tuple[str, ...]:
    """Return the first `n` built-in captions that no calibration uses.

    Raises `BadInput` when there are fewer than `n`.
    """
    if model == "demo":
        return tuple(demo.held_out_prompts(n))
    if n > len(prompts.HELD_OUT):
        raise BadInput(
            f"{n} prompts were asked for but only {len(prompts.HELD_OUT)} are kept for "
            "comparisons: ask for fewer or give a file of prompts"
        )
    return tuple(prompts.HELD_OUT[:n])


def pick_device() -> str:
    """Return the best torch device of this machine: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(device: str) -> torch.dtype:
    """Return half precision for an accelerator, float32 for the CPU (where half is slower)."""
    return torch.float32 if device == "cpu" else torch.float16


def load_pipeline(
    model: str, *, device: str | None = None, dtype: torch.dtype | None = None
) -> StableDiffusionXLPipeline:
    """Load the SDXL pipeline that `model` names, in `dtype` on `device`.

    The fp16 files of a repository are preferred for half precision. Raises `BadInput` when there is
    no such model, it is not SDXL, its files are missing or damaged, or the network is needed and
    not there.
    """
    _quiet()
    device = device or pick_device()
    dtype = dtype or pick_dtype(device)
    location = locate(model, half=dtype in (torch.float16, torch.bfloat16))
    load = _load_single_file if location.is_file() else _load_folder
    pipe = load(location, model, dtype).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_variant_pipeline(
    model: str,
    variant: Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> StableDiffusionXLPipeline:
    """Load `model` with the pruned UNet in the folder `variant` in place of its own.

    Raises `BadInput` as `load_pipeline` does, and when the variant was made from a UNet of another
    architecture.
    """
    device = device or pick_device()
    dtype = dtype or pick_dtype(device)
    pipe = load_pipeline(model, device="cpu", dtype=dtype)
    pipe.unet = _load_fitting(variant, pipe.unet, model, dtype)
    return pipe.to(device)


def variant_key(variant: str | Path) -> str:
    """Return a hash of a variant's manifest: two prunings in one place have different keys."""
    return fingerprint(read_manifest(variant))


class Pipelines:
    """The pipeline that a warm process keeps between jobs.

    It holds one base pipeline, its dense UNet and at most one variant's UNet; of the two UNets only
    the one in use is on the accelerator. Where the pipeline does not fit into `budget` bytes of
    device memory (None: what is free), text encoders, UNet and VAE take turns on the device.
    """

    def __init__(
        self,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        budget: float | None = None,
    ) -> None:
        self.device = device or pick_device()
        self.dtype = dtype or pick_dtype(self.device)
        self._budget = budget
        self._placed: tuple[UNet2DConditionModel, bool] | None = None
        self._base: tuple[str, StableDiffusionXLPipeline, UNet2DConditionModel] | None = None
        self._variant: tuple[str, UNet2DConditionModel] | None = None

    def get(
        self,
        model: str,
        variant: str | Path | None = None,
        *,
        size: int | None = None,
        batch_size: int = 1,
    ) -> StableDiffusionXLPipeline:
        """Return `model` with its dense UNet, or with that of `variant`, ready to paint
        `batch_size` pictures of `size` pixels (None: the model's own) at a time; load only what is
        new.

        The object is shared: the next call changes its UNet. Raises as `load_pipeline` and
        `load_variant_pipeline` do.
        """
        if self._base is None or self._base[0] != model:
            self._base = self._variant = self._placed = None  # freed before the next one is loaded
            pipe = load_pipeline(model, device="cpu", dtype=self.dtype)
            self._base = (model, pipe, pipe.unet)
        _, pipe, dense = self._base
        unet = dense if variant is None else self._variant_unet(Path(variant))
        if pipe.unet is not unet:
            pipe.remove_all_hooks()
            pipe.unet.to("cpu")
            pipe.unet = unet
        self._place(pipe, self._in_turns(pipe, size or default_size(pipe), batch_size))
        return pipe

    def _place(self, pipe: StableDiffusionXLPipeline, in_turns: bool) -> None:
        if self._placed == (pipe.unet, in_turns):
            return
        pipe.remove_all_hooks()
        if in_turns:
            pipe.enable_model_cpu_offload(device=self.device)
        else:
            pipe.to(self.device)
        self._placed = (pipe.unet, in_turns)

    def _in_turns(self, pipe: StableDiffusionXLPipeline, size: int, batch_size: int) -> bool:
        """Whether the whole pipeline is too large to paint with, by the forecast of core.memory.

        No: where no arithmetic covers the architecture, or the size is one that `resolve` refuses.
        """
        budget = self._budget
        if budget is None:
            if not self.device.startswith("cuda"):
                return False
            # What this process has reserved is free for what it loads next.
            budget = torch.cuda.mem_get_info(self.device)[0]
            budget += torch.cuda.memory_reserved(self.device)
        try:
            whole = memory.forecast_paint(
                memory.of_pipeline(pipe),
                size,
                batch=batch_size,
                weight_bytes=pipe.unet.dtype.itemsize,
            )
        except BadInput:
            return False
        return whole.needed > budget

    def _variant_unet(self, path: Path) -> UNet2DConditionModel:
        assert self._base is not None
        model, pipe, dense = self._base
        key = f"{path.resolve()} {variant_key(path)}"
        if self._variant is None or self._variant[0] != key:
            pipe.unet, self._variant = dense, None  # the last variant goes before the next comes
            self._variant = (key, _load_fitting(path, dense, model, self.dtype))
        return self._variant[1]


def _quiet() -> None:
    """Silence the progress bars and hints of the libraries: the engine's events tell the story."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _load_folder(folder: Path, model: str, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    check_folder(folder, model)
    unet = folder / "unet"
    half = dtype in (torch.float16, torch.bfloat16)
    plain = weight_files(unet, fp16=False)
    fp16 = weight_files(unet, fp16=True) and (half or not plain)
    try:
        pipe = StableDiffusionXLPipeline.from_pretrained(
            str(folder),
            dtype=dtype,
            variant="fp16" if fp16 else None,
            use_safetensors=True,
            local_files_only=True,
            add_watermarker=False,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadInput(
            f"The model {model} in {folder} cannot be loaded as SDXL ({first_line(error)}): "
            "check that it is complete and unchanged"
        ) from error
    assert isinstance(pipe, StableDiffusionXLPipeline)
    return pipe


def _load_single_file(file: Path, model: str, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    if not any(key.startswith(_SINGLE_FILE_MARK) for key in tensor_names(file)):
        raise BadInput(
            f"{file} is not a whole SDXL checkpoint (no second text encoder in it): "
            "use an SDXL file or a diffusers folder"
        )
    first, second = sdxl.tokenizers()
    try:
        pipe = StableDiffusionXLPipeline.from_single_file(
            str(file),
            config=str(sdxl.CONFIG_DIR),
            local_files_only=True,
            tokenizer=first,
            tokenizer_2=second,
            dtype=dtype,
            add_watermarker=False,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BadInput(
            f"{file} cannot be loaded as SDXL ({first_line(error)}): "
            "check the file, or use the model's diffusers folder"
        ) from error
    assert isinstance(pipe, StableDiffusionXLPipeline)
    return pipe


def _load_fitting(
    variant: Path, dense: UNet2DConditionModel, model: str, dtype: torch.dtype
) -> UNet2DConditionModel:
    """Load a variant's UNet onto the CPU and refuse it if `dense` is of another architecture."""
    unet = load_unet(variant, dtype=dtype)
    own, base = unet.config, dense.config
    for key in sorted(own.keys() & base.keys()):
        if key.startswith("_") or key in _NOT_ARCHITECTURE:
            continue
        if json.dumps(own[key]) != json.dumps(base[key]):  # lists and tuples are the same
            raise BadInput(
                f"The variant {variant} does not fit {model}: its {key} is {own[key]}, "
                f"the model's is {base[key]}; use the model it was pruned from"
            )
    guard_ip_adapter(unet, variant)
    return unet
