"""Where a model's files are: found, fetched, and checked before anything is loaded from them.

Every fault raises `BadInput` with one sentence: what is wrong, where, and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the transport's base
from safetensors import SafetensorError, safe_open

from core import demo
from core.errors import BadInput

_CLASS = "StableDiffusionXLPipeline"
_WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")  # folders that hold weights
_SMALL_PATTERNS = [
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    "tokenizer_2/*",
    *(f"{part}/config.json" for part in _WEIGHTED),
]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
_Fetch = Callable[[list[str]], Path]


def locate(model: str, *, half: bool) -> Path:
    """Return the folder or file of `model`, downloaded if it is not here.

    `half` asks for the fp16 files of a repository that has them. Raises `BadInput` if there is no
    such model, it is not SDXL, or it cannot be fetched.
    """
    if model == "demo":
        return demo.MODEL_DIR
    if model.startswith("modelscope:"):
        return _download(_modelscope_fetch(model.removeprefix("modelscope:")), model, half)
    path = Path(model).expanduser()
    if path.is_file() and path.suffix != ".safetensors":
        raise BadInput(
            f"{path} is not a .safetensors file, and a pickle could run anything: "
            "convert it to safetensors or use the model's diffusers folder"
        )
    if path.exists():
        return path
    if not _HUB_ID.fullmatch(model) or path.suffix == ".safetensors" or model.startswith("."):
        raise BadInput(f"There is no folder or file {path}: check the path")
    return _download(_hub_fetch(model), model, half)


def _download(fetch: _Fetch, model: str, half: bool) -> Path:
    """Fetch the small files first: a model that is not SDXL is refused before its gigabytes."""
    _read_index(fetch(_SMALL_PATTERNS), model)
    if half:
        names = ("*.fp16*.safetensors", "*.index.fp16.json")
        folder = fetch([*_SMALL_PATTERNS, *(f"{part}/{n}" for part in _WEIGHTED for n in names)])
        if all(weight_files(folder / part, fp16=True) for part in _WEIGHTED):
            return folder
    stems = [f"{part}/{s}" for part in _WEIGHTED for s in ("model", "diffusion_pytorch_model")]
    tails = (".safetensors", "-0*.safetensors", ".safetensors.index.json")
    return fetch([*_SMALL_PATTERNS, *(stem + tail for stem in stems for tail in tails)])


def _hub_fetch(model: str) -> _Fetch:
    """Return a fetch from the Hugging Face hub (or HF_ENDPOINT) into its cache."""

    def fetch(patterns: list[str]) -> Path:
        try:
            return Path(huggingface_hub.snapshot_download(model, allow_patterns=patterns))
        except hub_errors.GatedRepoError:
            problem = "asks for consent: accept its terms on its page and run `hf auth login`"
        except hub_errors.RepositoryNotFoundError:
            problem = (
                "is not on the hub, or is private: check the name (a local folder needs its path), "
                "or run `hf auth login`"
            )
        except hub_errors.IncompleteSnapshotError:
            problem = "is only half downloaded: connect to the network and start again"
        except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled):
            problem = (
                "is not on this machine and the hub cannot be reached: check the network, "
                "HF_ENDPOINT and HF_HUB_OFFLINE"
            )
        except hub_errors.HFValidationError:
            problem = "is neither a path nor a valid hub id: use owner/name"
        except (HTTPError, ConnectionError, TimeoutError) as error:
            problem = f"could not be downloaded ({first_line(error)}): start again, it will go on"
        raise BadInput(f"The model {model} {problem}")

    return fetch


def _modelscope_fetch(model_id: str) -> _Fetch:
    """Return a fetch from ModelScope through its own package, if that is installed."""
    try:
        from modelscope import snapshot_download
    except ImportError:
        raise BadInput(
            f"The model {model_id} is on ModelScope and the package for it is not installed: "
            "run `pip install modelscope`"
        ) from None

    def fetch(patterns: list[str]) -> Path:
        try:
            return Path(snapshot_download(model_id, allow_patterns=patterns))
        except Exception as error:  # the package raises bare exceptions of several libraries
            raise BadInput(
                f"The model {model_id} could not be fetched from ModelScope ({first_line(error)}): "
                "check the name and the network"
            ) from error

    return fetch


def _read_index(folder: Path, model: str) -> dict[str, Any]:
    """Return a pipeline folder's model_index.json; raise `BadInput` if it is not SDXL's."""
    file = folder / "model_index.json"
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"The model {model} is not a diffusers pipeline (no model_index.json in {folder}): "
            "use a folder saved by diffusers or a single .safetensors file"
        ) from None
    except (ValueError, OSError) as error:
        raise BadInput(
            f"{file} cannot be read ({first_line(error)}): fetch the model again"
        ) from error
    found = index.get("_class_name") if isinstance(index, dict) else None
    if found != _CLASS:
        raise BadInput(
            f"The model {model} is not SDXL: {file} says {found}, and only {_CLASS} can be pruned"
        )
    assert isinstance(index, dict)
    return index


def check_folder(folder: Path, model: str) -> None:
    """Raise `BadInput` for the first part of a pipeline folder that is missing or damaged."""
    index = _read_index(folder, model)
    for part in (*_WEIGHTED, "tokenizer", "tokenizer_2", "scheduler"):
        if not index.get(part, [None])[0]:
            raise BadInput(f"The model {model} has no {part}: {_CLASS} cannot run without it")
        if not (folder / part).is_dir():
            raise BadInput(
                f"The model {model} is incomplete: {folder / part} is missing; fetch it again"
            )
    for part in _WEIGHTED:
        files = weight_files(folder / part, fp16=False) or weight_files(folder / part, fp16=True)
        if not files and any((folder / part).glob("*.bin")):
            raise BadInput(
                f"The model {model} has only pickled weights in {folder / part}, which could run "
                "anything: use a repository with .safetensors files"
            )
        if not files:
            raise BadInput(
                f"The model {model} is incomplete: no .safetensors file in {folder / part}; "
                "fetch it again"
            )
        for file in sorted((folder / part).glob("*.safetensors")):
            tensor_names(file)
        _check_shards(folder / part, model)


def _check_shards(folder: Path, model: str) -> None:
    for index in folder.glob("*.safetensors.index*.json"):
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadInput(f"{index} is damaged: delete it and fetch {model} again") from error
        missing = sorted(name for name in shards if not (folder / name).is_file())
        # The plain index may come along with fp16 shards only, or the other way round.
        if missing and len(missing) < len(shards):
            raise BadInput(
                f"The model {model} is incomplete: {folder / missing[0]} is missing; fetch it again"
            )


def weight_files(folder: Path, *, fp16: bool) -> list[Path]:
    """Return a component's weight files: those of the fp16 variant, or the plain ones."""
    return [file for file in folder.glob("*.safetensors") if (".fp16" in file.name) == fp16]


def tensor_names(file: Path) -> Sequence[str]:
    """Return the tensor names in a safetensors file.

    Raises `BadInput` if the file is not all there, which its header tells without reading it.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise BadInput(
            f"{file} is cut short or damaged ({first_line(error)}): delete it and fetch it again"
        ) from error


def first_line(error: BaseException) -> str:
    """Return an exception's first line, without its full stop, to quote inside a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(". ")[:200]
