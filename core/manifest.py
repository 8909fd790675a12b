"""`pruning.json` beside a pruned UNet: what was done to which base, and what the files must be.

Reads without torch or diffusers, so that any tool can list, check and explain variants. The file
holds no times and no working paths: two equal runs write equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from core.errors import BadInput

FORMAT = "obstui-variant"
VERSION = 1
MANIFEST = "pruning.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG = "config.json"
COMPENSATION = "compensation.safetensors"
UNKNOWN = "unknown"
"""The base of a variant that came in without it."""
_PIECE = 1 << 20
_MAX_HEADER_BYTES = 100 << 20
_REQUIRED = ("base", "method", "sparsity", "params", "dense_params", "targets", "files")
_TARGET_REQUIRED = ("name", "kind", "units", "unit_width", "kept")


def unet_folder(path: str | Path) -> Path:
    """The folder with the manifest: `path` itself or its `unet`. Raises BadInput if neither."""
    path = Path(path)
    for folder in (path, path / "unet"):
        if (folder / MANIFEST).is_file():
            return folder
    raise BadInput(
        f"{path} is not a pruned model, it has no {MANIFEST}: give a variant's folder, "
        "the one above its unet folder"
    )


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a variant folder or of its unet folder.

    Raises BadInput when there is none, or it is damaged or of a format version not known here.
    """
    file = unet_folder(path) / MANIFEST
    try:
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError):
        raise BadInput(f"{file} cannot be read as JSON: make the variant again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BadInput(f"{file} is not a manifest of a pruned model: make the variant again")
    if manifest.get("version") != VERSION:
        raise BadInput(
            f"{file} has format version {manifest.get('version')}, but this program reads "
            f"version {VERSION}: update the program or make the variant again"
        )
    whole = all(field in manifest for field in _REQUIRED)
    if not whole or not all(set(_TARGET_REQUIRED) <= set(entry) for entry in manifest["targets"]):
        raise BadInput(f"{file} lacks required fields: make the variant again")
    return manifest


def check_files(path: str | Path) -> dict[str, Any]:
    """Compare every file of a variant with the hash in its manifest, and return the manifest.

    Raises BadInput naming the first file that is missing or different.
    """
    folder = unet_folder(path)
    manifest = read_manifest(folder)
    for name, wanted in sorted(manifest["files"].items()):
        file = folder / name
        if not file.is_file():
            raise BadInput(f"{file} is missing: copy the variant again or make it again")
        if sha256_file(file) != wanted:
            raise BadInput(
                f"{file} is not the file that was saved, it is cut short or changed: "
                "copy the variant again or make it again"
            )
    return manifest


def encode_kept(kept: Iterable[int], units: int) -> str:
    """Kept units as a base64 bitmap, bit i % 8 of byte i // 8 for unit i."""
    bits = bytearray(-(-units // 8))
    for unit in kept:
        bits[unit // 8] |= 1 << unit % 8
    return base64.b64encode(bits).decode("ascii")


def decode_kept(text: str, units: int) -> list[int]:
    """The kept units, ascending. Raises BadInput when the bitmap does not belong to `units`."""
    try:
        bits = base64.b64decode(text, validate=True)
    except ValueError:
        bits = b""
    kept = [at for at in range(8 * len(bits)) if bits[at // 8] >> at % 8 & 1]
    if len(bits) != -(-units // 8) or not kept or kept[-1] >= units:
        raise BadInput(
            f"the kept units {text[:20]!r} in {MANIFEST} do not describe {units} units: "
            "make the variant again"
        )
    return kept


def sha256_file(path: Path, told: Callable[[int], None] = lambda octets: None) -> str:
    """Hash of a file's bytes in hex. `told` hears how many more were read; what it raises ends the
    reading."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            told(len(piece))
    return digest.hexdigest()


def count_params(file: Path, prefix: str = "") -> int:
    """Parameters in a safetensors file whose names begin with `prefix`, by its header alone.

    Raises BadInput when that is damaged.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError("too large")
            header = json.loads(stream.read(length))
        shapes = [
            [int(side) for side in entry["shape"]]
            for name, entry in header.items()
            if name != "__metadata__" and name.startswith(prefix)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(f"{file} is damaged: delete it and fetch the model again") from None
    return sum(map(math.prod, shapes))


def fingerprint(facts: object) -> str:
    """Hash in hex of anything JSON can hold; equal facts, equal hash."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, facts: object) -> None:
    """Write JSON with sorted keys, down to the disk."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def described(folder: Path) -> list[dict[str, Any]]:
    """Every file below a folder by its relative `name`, with its `sha256` and `size_bytes`."""
    return [
        {
            "name": str(file.relative_to(folder)),
            "sha256": sha256_file(file),
            "size_bytes": file.stat().st_size,
        }
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
