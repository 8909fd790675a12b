"""The models of this machine: what they are, what uses them, and whether their files are whole.

Bases are dense models under the names that `--model` takes; variants are what prune and import jobs
made of them. Nothing here needs torch; the engine's torch-free parts are imported where they are
used, because the dashboard, which starts without the engine, imports this module.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstui.config import Paths
from obstui.lookup import MODEL_NAME, check_model, check_variant
from obstui.report import tree_bytes
from obstui.specs import (
    BadSpec,
    NoSuchModel,
    named_variants,
    parse_variant_id,
)
from obstui.store import TERMINAL, JobView, NotFound, Reader, Store
from obstui.text import one_line

UNKNOWN = "unknown"
Ref = str | tuple[int, float]
Users = dict[Ref, list[JobView]]

_UNET_IN_ONE_FILE = "model.diffusion_model."


@dataclass(frozen=True, slots=True)
class Base:
    """A dense model. `params` are its UNet's; they and `size_bytes` are None for a model that is
    not on this disk as a folder or file."""

    name: str
    source: str
    registered: bool
    params: int | None
    size_bytes: int | None
    used_by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A pruned UNet and where it comes from. `size_bytes` is None when its folder has gone."""

    id: str
    job_id: int
    kind: str
    base: str
    method: str
    sparsity: float
    params: int
    dense_params: int
    path: str
    size_bytes: int | None
    mean_error: float | None
    held_out_error: float | None
    noise_error: float | None
    used_by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The demo model, then registered ones by name, then others that jobs named; variants of the
    newest job first, then by sparsity."""

    bases: tuple[Base, ...]
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Dependants:
    """The ids of jobs that name a variant or model."""

    unfinished: tuple[int, ...]
    finished: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was compared with the manifest, and in `words` what was found."""

    what: str
    ok: bool
    words: str


def catalogue(reader: Reader | None, paths: Paths) -> Catalogue:
    """All models and variants; without a store those that need none. Walks the folders of variants.
    Raises StoreError."""
    jobs = reader.jobs(limit=1_000_000) if reader else []
    users = _users(jobs)
    return Catalogue(_bases(jobs, users, paths), tuple(_variants(jobs, users)))


def find_variant(reader: Reader, ref: str) -> Path:
    """The folder of a variant, named by its id ("12@30") or by its path. Raises NotFound,
    NoSuchModel, BadSpec."""
    named = parse_variant_id(ref)
    if named is None:
        return Path(check_variant(ref))
    job = reader.job(named[0])
    made = _made(job) if job else []
    for variant in made:
        if parse_variant_id(str(variant["id"])) == named:
            return Path(str(variant["path"]))
    has = ", ".join(str(variant["id"]) for variant in made)
    mend = f"job {named[0]} made {has}" if has else "obstui models ls lists those that are there"
    if job and not made and job.kind in ("prune", "import") and job.state not in TERMINAL:
        mend = f"job {job.id}, which is to make it, is {job.state}"
    raise NotFound(f"There is no variant {ref}: {mend}.")


def base_of(paths: Paths, ref: str) -> str | None:
    """The dense model that a variant was cut from, or will be; UNKNOWN where nobody has said, None
    for a variant that is not there."""
    from core.errors import BadInput
    from core.manifest import read_manifest

    named = parse_variant_id(ref)
    if named is None:
        try:
            return str(read_manifest(Path(ref).expanduser())["base"])
        except BadInput:
            return None
    if not paths.db.exists():
        return None
    with Reader.open(paths) as reader:
        job = reader.job(named[0])
    return str(job.spec.get("model") or job.spec.get("base") or UNKNOWN) if job else None


def dependants(reader: Reader, *refs: str) -> Dependants:
    """The jobs that name one of `refs`: a variant by its id or folder, a model by its source."""
    jobs = reader.jobs(limit=1_000_000)
    named = set(_ids(_users(jobs), *refs))
    unfinished = {job.id for job in jobs if job.state not in TERMINAL}
    return Dependants(tuple(sorted(named & unfinished)), tuple(sorted(named - unfinished)))


def registered(paths: Paths) -> dict[str, str]:
    """The names that people gave models, and what they stand for."""
    found = {}
    for file in sorted(paths.models.glob("*")):
        if MODEL_NAME.match(file.name) and file.is_file():
            found[file.name] = file.read_text(encoding="utf-8", errors="replace")
    return found


def register(paths: Paths, name: str, source: str) -> str:
    """Let `name` stand for a model wherever a model is named; what it stands for, as it is kept.

    Raises BadSpec for a name that means something else already, NoSuchModel.
    """
    shown = one_line(name, limit=80)
    if not MODEL_NAME.match(name) or name in ("demo", UNKNOWN):
        raise BadSpec(
            f"{shown} cannot be a model's name: letters, digits, dots, - and _, a letter first, "
            "and not demo."
        )
    if (paths.models / name).exists():
        raise BadSpec(f"The name {shown} is taken: obstui models rm {shown} frees it.")
    found = check_model(source)
    paths.ensure()
    paths.models.mkdir(mode=0o700, exist_ok=True)
    whole = paths.models / f".{name}.{os.getpid()}"
    whole.write_text(found, encoding="utf-8")
    whole.replace(paths.models / name)
    return found


def unregister(paths: Paths, name: str) -> None:
    """Forget a name; the model's files stay. Raises NotFound, BadSpec."""
    if name == "demo":
        raise BadSpec("The model demo is bundled with obstui: it stays.")
    if name not in registered(paths):
        shown = one_line(name, limit=80)
        raise NotFound(f"Nobody has added a model {shown}: obstui models ls tells what is there.")
    (paths.models / name).unlink()


def remove_variant(store: Store, ref: str) -> Path:
    """Delete a variant for good, and say where it was. Raises NotFound; Refused while an unfinished
    job needs it, or where its files are not this state folder's; BadSpec for one that no job of
    this store has made."""
    named = parse_variant_id(ref)
    if named is None:
        raise BadSpec(
            f"{one_line(ref, limit=120)} is no variant's id: a folder of your own is yours to "
            "delete."
        )
    # The row first: a variant that is named must be there.
    folder = store.forget_variant(*named)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def verify(
    folder: Path, told: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Check]:
    """Compare a variant with its manifest: each file's hash, then the parameters that its weights
    hold and those that its kept units must have. Reads every byte; `told` hears how many it has
    read, and of how many, and what it raises ends the reading. Raises NoSuchModel."""
    from core import manifest as manifests
    from core.errors import BadInput

    try:
        manifest = manifests.read_manifest(folder)
        unet = manifests.unet_folder(folder)
    except BadInput as err:
        raise NoSuchModel(f"{one_line(err, limit=400)}.") from None
    files = {str(name): str(wanted) for name, wanted in sorted(manifest["files"].items())}
    inside = (unet / name for name in files if Path(name).name == name)
    total, done = sum(file.stat().st_size for file in inside if file.is_file()), 0

    def read(octets: int) -> None:
        nonlocal done
        done += octets
        told(done, total)

    for name, wanted in files.items():
        yield _check_file(unet, name, wanted, read)
    try:
        params = manifests.count_params(unet / manifests.WEIGHTS)
        yield _check_params("in the weights", params, manifest)
        yield _check_params("by the kept units", _params_kept(unet, manifest), manifest)
    except BadInput as err:
        yield Check("parameters", False, one_line(err, limit=400))


def kept_units(folder: Path) -> list[dict[str, Any]]:
    """The targets of a variant in forward order as its manifest has them, but `kept` the ascending
    list of kept units. Raises NoSuchModel."""
    from core import manifest as manifests
    from core.errors import BadInput

    try:
        return [
            {**entry, "kept": manifests.decode_kept(str(entry["kept"]), int(entry["units"]))}
            for entry in manifests.read_manifest(folder)["targets"]
        ]
    except (BadInput, ValueError) as err:
        raise NoSuchModel(f"{one_line(err, limit=400)}.") from None


def _check_file(unet: Path, name: str, wanted: str, read: Callable[[int], None]) -> Check:
    from core.manifest import sha256_file

    file = unet / name
    if Path(name).name != name:
        return Check(one_line(name, limit=80), False, "lies outside the variant's folder")
    if not file.is_file():
        return Check(name, False, "is missing")
    found = sha256_file(file, read)
    if found != wanted:
        return Check(name, False, f"was changed or cut short: sha256 {found}, saved as {wanted}")
    return Check(name, True, f"sha256 {found}")


def _check_params(how: str, found: int, manifest: Mapping[str, Any]) -> Check:
    wanted = int(manifest["params"])
    same = found == wanted
    words = f"{found:,} {how}" + ("" if same else f", but the manifest says {wanted:,}")
    return Check("parameters", same, words)


def _params_kept(unet: Path, manifest: Mapping[str, Any]) -> int:
    """Parameters by arithmetic on the configuration and the kept units. Raises BadInput."""
    from core.architecture import derive
    from core.errors import BadInput
    from core.manifest import CONFIG, decode_kept

    try:
        config = json.loads((unet / CONFIG).read_bytes())
    except (OSError, ValueError):
        raise BadInput(f"{unet / CONFIG} cannot be read as JSON") from None
    return derive(config).params(
        {
            str(entry["name"]): len(decode_kept(str(entry["kept"]), int(entry["units"])))
            for entry in manifest["targets"]
        }
    )


def _bases(jobs: Sequence[JobView], users: Users, paths: Paths) -> tuple[Base, ...]:
    names = {"demo": "demo", **registered(paths)}
    named = {str(job.spec.get("model") or job.spec.get("base") or "demo") for job in jobs}
    names |= {source: source for source in sorted(named - {*names.values()})}
    return tuple(
        Base(
            name,
            source,
            name != source,
            *_unet_and_size(source),
            used_by=_ids(users, source),
        )
        for name, source in names.items()
    )


def _unet_and_size(source: str) -> tuple[int | None, int | None]:
    """Parameters of a model's UNet, and bytes on this disk; None where that cannot be seen."""
    from core.demo import MODEL_DIR
    from core.errors import BadInput
    from core.manifest import count_params
    from core.memory import stored_params

    path = MODEL_DIR if source == "demo" else Path(source)
    try:
        if path.is_dir():
            return stored_params(path / "unet"), tree_bytes(path)
        if path.is_file():
            return count_params(path, _UNET_IN_ONE_FILE) or None, path.stat().st_size
    except (BadInput, OSError):
        pass
    return None, None


def _variants(jobs: Sequence[JobView], users: Users) -> Iterator[Variant]:
    for job in jobs:
        for made in sorted(_made(job), key=lambda variant: float(variant["sparsity"])):
            there = Path(str(made["path"])).is_dir()
            yield Variant(
                id=str(made["id"]),
                job_id=job.id,
                kind=job.kind,
                base=str(made.get("base") or job.spec.get("model") or UNKNOWN),
                method=str(made.get("method", "")),
                sparsity=float(made["sparsity"]),
                params=int(made["params"]),
                dense_params=int(made["dense_params"]),
                path=str(made["path"]),
                size_bytes=tree_bytes(Path(str(made["path"]))) if there else None,
                mean_error=made.get("mean_error"),
                held_out_error=made.get("held_out_error"),
                noise_error=made.get("noise_error"),
                used_by=_ids(users, str(made["id"]), str(made["path"])),
            )


def _made(job: JobView) -> list[Mapping[str, Any]]:
    """The variants in a job's result."""
    return list((job.result or {}).get("variants") or ())


def _key(ref: str) -> Ref:
    """Ids are compared as ids: 3@5 and 3@5.0 are the same."""
    return parse_variant_id(ref) or ref


def _users(jobs: Sequence[JobView]) -> Users:
    """The jobs that name a model, base or variant, by what they name."""
    users: Users = {}
    for job in jobs:
        models = (job.spec.get("model"), job.spec.get("base"))
        for ref in {_key(str(ref)) for ref in (*models, *named_variants(job.spec)) if ref}:
            users.setdefault(ref, []).append(job)
    return users


def _ids(users: Users, *refs: str) -> tuple[int, ...]:
    """The jobs that name one of `refs`, oldest first."""
    return tuple(sorted({job.id for ref in refs for job in users.get(_key(ref), ())}))
