"""A job spec as a run of `core`: settings in, events on the way, the job's result out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from core import bench, evaluate, export, generate, manifest, presets, prune
from core.adopt import adopt
from core.errors import BadInput
from core.events import (
    Event,
    ImageSaved,
    MemoryMeasured,
    ModelMeasured,
    ModelTimed,
    Phase,
    Progress,
    ReseedMeasured,
    VariantSaved,
)
from core.loading import Pipelines
from obstui.lookup import check_there
from obstui.specs import (
    BenchSpec,
    CompareSpec,
    ExportSpec,
    GenerateSpec,
    ImportSpec,
    PruneSpec,
    parse,
    parse_variant_id,
    variant_id,
)
from obstui.worker.protocol import Order

Result = dict[str, Any]
Tell = Callable[[Event], None]


class Runner:
    """Runs jobs in this process; pipelines stay loaded from one to the next."""

    def __init__(self) -> None:
        # The same number in every attempt: sums are split over threads, and their order decides
        # the last bits of the weights.
        torch.set_num_threads(int(os.environ.get("OBSTUI_THREADS") or _cores()))
        self._pipes: Pipelines | None = None

    def run(self, order: Order, cancelled: Callable[[], bool], tell: Tell) -> Result:
        """Run one order to its end; the result that the job is to show, with absolute paths.

        Raises what the engine raises: BadInput, Cancelled, EngineError; BadSpec for a spec that
        this version cannot read.
        """
        spec = parse(order.spec)
        output = Path(order.output)
        if isinstance(spec, PruneSpec):
            return _prune(spec, order, output, cancelled, tell)
        if isinstance(spec, ExportSpec):
            return _export(spec, order, output, cancelled, tell)
        if isinstance(spec, ImportSpec):
            return _import(spec, order, output, tell)
        if self._pipes is None:
            self._pipes = Pipelines()
        if isinstance(spec, GenerateSpec):
            return _generate(spec, order, output, cancelled, tell, self._pipes)
        if isinstance(spec, BenchSpec):
            return _bench(spec, order, cancelled, tell, self._pipes)
        return _compare(spec, order, output, cancelled, tell, self._pipes)


def _cores() -> int:
    """Physical cores this process may use."""
    return min(psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0)))


def _prune(
    spec: PruneSpec, order: Order, output: Path, cancelled: Callable[[], bool], tell: Tell
) -> Result:
    own = presets.defaults(spec.model)
    settings = prune.PruneSettings(
        model=spec.model,
        sparsities=spec.sparsity,
        method=spec.method,
        prompts=spec.prompts,
        num_prompts=spec.num_prompts,
        steps=prune.PruneSettings.steps if spec.steps is None else spec.steps,
        guidance=own.guidance if spec.guidance is None else spec.guidance,
        size=spec.size,
        seed=spec.seed,
        timestep_weights=spec.timestep_weights,
        damping=spec.damping,
        token_budget=spec.token_budget,
        packages=spec.packages,
        allocate=spec.allocate,
        budget=spec.budget,
        held_out=spec.held_out,
    )
    variants: list[Result] = []
    used: Result = {}
    for event in prune.run(settings, output, Path(order.work), cancelled, Path(order.hessians)):
        tell(event)
        if isinstance(event, VariantSaved):
            variants.append(_variant(order, event))
        elif isinstance(event, MemoryMeasured):
            used = {"forecast": event.forecast, "peak": event.peak}
    return {"variants": variants, "memory": used}


def _variant(order: Order, event: VariantSaved) -> Result:
    return {
        "id": variant_id(order.job, event.sparsity),
        "sparsity": event.sparsity,
        "method": event.method,
        "params": event.params,
        "dense_params": event.dense_params,
        "path": event.path,
        "size_bytes": event.size_bytes,
        "mean_error": event.mean_error,
        "held_out_error": event.held_out_error,
        "noise_error": event.noise_error,
    }


def _import(spec: ImportSpec, order: Order, output: Path, tell: Tell) -> Result:
    folder = output / "imported"
    tell(Phase("import", 1, "file"))
    found = adopt(Path(spec.file), folder, spec.base)
    weights = folder / "unet" / manifest.WEIGHTS
    saved = VariantSaved(
        sparsity=float(found["sparsity"]),
        method=str(found["method"]),
        path=str(folder),
        params=int(found["params"]),
        dense_params=int(found["dense_params"]),
        size_bytes=weights.stat().st_size,
        sha256=str(found["files"][manifest.WEIGHTS]),
        mean_error=None,
    )
    tell(saved)
    tell(Progress(1, 1))
    known = all(entry["kept_known"] for entry in found["targets"])
    return {
        "variants": [{**_variant(order, saved), "base": found["base"], "kept_known": known}],
        "source": {"file": spec.file, "sha256": found["source_sha256"]},
    }


def _export(
    spec: ExportSpec, order: Order, output: Path, cancelled: Callable[[], bool], tell: Tell
) -> Result:
    """`folder` may lie anywhere, so it is none of the paths that the result's manifest guards."""
    name = f"{_name(spec.variant)}-{spec.format}"
    folder = Path(spec.to) if spec.to else output / name
    # A folder that was not there when an earlier attempt looked, and is now, is that one's: it
    # appears whole, and the attempt ended between that and its result.
    ours = Path(order.work) / "export-begun"
    variant = Path(_folder(order, spec.variant))
    tell(Phase("export", 1, "variant"))
    if not folder.exists():
        ours.touch()
    if folder.exists() and ours.exists():
        found = manifest.check_files(variant)
    else:
        told = dict(order.compared)
        pairs = tuple(
            export.Pair(p["prompt"], p["seed"], Path(p["dense"]), Path(p["pruned"]))
            for p in told.pop("pairs", ())
        )
        compared = export.Compared(pairs, **told)
        found = export.export(variant, spec.format, folder, spec.base, compared, cancelled)
    files = manifest.described(folder)
    tell(Progress(1, 1))
    return {
        "export": {
            "variant": _name(spec.variant),
            "format": spec.format,
            "folder": str(folder),
            "params": found["params"] if spec.format != "dense" else found["dense_params"],
            "size_bytes": sum(file["size_bytes"] for file in files),
            "files": files,
        }
    }


_TIMES = ("step_ms", "image_s")
_NOT_KEPT = ("type", "again", "reused")


def _bench(
    spec: BenchSpec, order: Order, cancelled: Callable[[], bool], tell: Tell, pipes: Pipelines
) -> Result:
    settings = bench.BenchSettings(
        model=spec.model,
        variants=tuple((_name(ref), _folder(order, ref)) for ref in spec.variants),
        repeats=spec.repeats,
        warm_up=spec.warm_up,
        seed=spec.seed,
        steps=spec.steps,
        guidance=spec.guidance,
        size=spec.size,
    )
    rows: list[Result] = []
    for event in bench.run(settings, Path(order.work), cancelled, pipes):
        tell(event)
        if isinstance(event, ModelTimed):
            row = event.to_dict()
            if event.again:
                rows[0]["again"] = {key: row[key] for key in row if key.startswith(_TIMES)}
            else:
                rows.append({key: row[key] for key in row if key not in _NOT_KEPT})
    return {"latency": rows}


def _generate(
    spec: GenerateSpec,
    order: Order,
    output: Path,
    cancelled: Callable[[], bool],
    tell: Tell,
    pipes: Pipelines,
) -> Result:
    settings = generate.GenerateSettings(
        model=spec.model,
        prompts=spec.prompts,
        variant=_folder(order, spec.variant) if spec.variant else None,
        variant_id=_name(spec.variant) if spec.variant else None,
        negative=spec.negative,
        seed=spec.seed,
        count=spec.count,
        steps=spec.steps,
        guidance=spec.guidance,
        size=spec.size,
        batch_size=spec.batch,
        seeds=spec.seeds,
        scheduler=spec.scheduler,
    )
    images = []
    for event in generate.run(settings, output, cancelled, pipes):
        tell(event)
        if isinstance(event, ImageSaved):
            images.append(_image(event))
    return {"images": images}


def _compare(
    spec: CompareSpec,
    order: Order,
    output: Path,
    cancelled: Callable[[], bool],
    tell: Tell,
    pipes: Pipelines,
) -> Result:
    settings = evaluate.CompareSettings(
        model=spec.model,
        variants=tuple((_name(ref), _folder(order, ref)) for ref in spec.variants),
        prompts=spec.prompts[: spec.num_prompts],
        num_prompts=spec.num_prompts,
        negative=spec.negative,
        seed=spec.seed,
        count=spec.count,
        steps=spec.steps,
        guidance=spec.guidance,
        size=spec.size,
    )
    models, images = [], []
    reseed: Result | None = None
    for event in evaluate.run(settings, output, cancelled, pipes):
        tell(event)
        if isinstance(event, ImageSaved):
            images.append(_image(event))
        elif isinstance(event, ModelMeasured):
            measured = event.to_dict()
            del measured["type"]
            models.append(measured)
        elif isinstance(event, ReseedMeasured):
            reseed = event.to_dict()
            del reseed["type"]
    return {"models": models, "images": images, "reseed": reseed}


def _image(event: ImageSaved) -> Result:
    return {
        "path": event.path,
        "thumbnail": event.thumbnail,
        "seed": event.seed,
        "prompt": event.prompt,
        "model": event.model,
        "seconds": event.seconds,
    }


def _folder(order: Order, ref: str) -> str:
    """The folder of a variant that the spec names. Raises BadInput, NoSuchModel."""
    if ref not in order.variants:
        raise BadInput(f"The variant {ref} is not there: obstui models ls lists those that are.")
    return str(check_there(ref, Path(order.variants[ref])))


def _name(ref: str) -> str:
    """What a variant is called in the results: its id, else its folder's name."""
    if parse_variant_id(ref):
        return ref
    path = Path(ref)
    return path.parent.name if path.name == "unet" else path.name
