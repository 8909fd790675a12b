"""Results as aligned text: the variants of a prune, the models of a comparison."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.text import Text

from obstui.measured import Reseed, reseed_of
from obstui.spread import NOISE, unsure
from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.theme import style
from obstui.tui.widgets.still import in_its_place

Cell = tuple[str, str]
"""Words and the palette entry they are drawn with."""


def aligned(heads: Sequence[str], rows: Sequence[Sequence[Cell]], width: int) -> Text:
    """Columns side by side, the first to the left, numbers to the right; the last columns go first
    when `width` is short."""
    widths = [max([len(head), *(len(row[i][0]) for row in rows)]) for i, head in enumerate(heads)]
    shown, used = 0, 0
    for column in widths:
        if shown and used + column > width:
            break
        used += column + 2
        shown += 1
    lines = [Text.assemble(*_cells([(head, "muted") for head in heads], widths[:shown]))]
    lines += [Text.assemble(*_cells(row, widths[:shown])) for row in rows]
    return Text("\n").join(lines)


def _cells(row: Sequence[Cell], widths: Sequence[int]) -> list[tuple[str, str]]:
    cells = []
    for index, width in enumerate(widths):
        words, look = row[index]
        padded = f"{words:<{width}}" if index == 0 else f"{words:>{width}}"
        cells.append((padded + "  ", " ".join(map(style, look.split()))))
    return cells


_CHECKS = (
    ("held_out_error", "held-out error", ".4f"),
    ("noise_error", "noise error", ".1e"),
)
"""What is measured on held-out prompts, and how it is called and written."""


def variants_text(result: Mapping[str, Any], width: int) -> Text:
    """One line for each variant that a prune made; all errors are relative: those of the layers on
    the prompts of the calibration and on held-out ones, and of the UNet's prediction on these."""
    variants = result.get("variants") or ()
    checks = [
        (key, head, form)
        for key, head, form in _CHECKS
        if any(v.get(key) is not None for v in variants)
    ]
    heads = ["variant", "sparsity", "mean error", *(head for _, head, _ in checks),
             "params", "vs dense", "on disk"]  # fmt: skip
    rows = [
        [
            (one_line(v["id"], limit=24), "strong"),
            (f"{float(v['sparsity']) * 100:g} %", "text"),
            (formats.number(v.get("mean_error"), ".4f"), "text"),
            *((formats.number(v.get(key), form), "text") for key, _, form in checks),
            (formats.params(int(v["params"])), "text"),
            (formats.change(v["params"], v.get("dense_params") or 0), "good"),
            (formats.size(v["size_bytes"]) if v.get("size_bytes") else "–", "text"),
        ]
        for v in variants
    ]
    return aligned(heads, rows, width)


_MODEL_HEADS: tuple[str, ...] = (
    "model", "sparsity", "SSIM", "PSNR", "s/image", "params", "vs dense", "CLIP", "attributes",
    "latent dist", "in memory", "method",
)  # fmt: skip
_SELDOM = {"CLIP": "clip", "attributes": "attributes"}
"""Columns that show only where somebody measured them, and what they show."""


@in_its_place
def models_text(
    models: Sequence[Mapping[str, Any]],
    width: int,
    reseed: Reseed | None = None,
    noisy: Collection[str] = (),
) -> Text:
    """One line for each model of a comparison, the best variant of each column marked; below them,
    for scale, what another seed of the dense model does. The times of `noisy` ones tell nothing."""
    variants = [m for m in models if m.get("ssim") is not None]
    best = {
        key: pick(known)
        for key, pick in (("latency", min), ("psnr", max), ("ssim", max), ("clip", max))
        if (known := [m[key] for m in variants if m.get(key) is not None])
        and not (key == "latency" and noisy)
    }
    dense = next((m for m in models if m.get("model") == "dense"), None)
    rows = [
        _model_row(m, dense, best if len(variants) > 1 else {}, noisy=m.get("model") in noisy)
        for m in models
    ]
    keep = [
        place
        for place, head in enumerate(_MODEL_HEADS)
        if head not in _SELDOM or any(m.get(_SELDOM[head]) is not None for m in models)
    ]
    heads = [_MODEL_HEADS[place] for place in keep]
    text = aligned(heads, [[row[place] for place in keep] for row in rows], width)
    if reseed is not None:
        text.append(f"\nanother seed: {reseed.words}", style("muted"))
    if noisy:
        text.append(f"\n{NOISE}", style("muted"))
    return text


def _model_row(
    m: Mapping[str, Any], dense: Mapping[str, Any] | None, best: Mapping[str, Any], *, noisy: bool
) -> tuple[Cell, ...]:
    def scored(key: str, form: str, about: str = "") -> Cell:
        value = m.get(key)
        winner = value is not None and value == best.get(key)
        return f"{about}{formats.number(value, form)}", "strong good" if winner else "text"

    attributes = m.get("attributes")
    return (
        (one_line(m["model"], limit=24), "strong"),
        (f"{float(m['sparsity']) * 100:g} %" if m.get("sparsity") else "–", "text"),
        scored("ssim", ".3f"),
        scored("psnr", ".1f"),
        scored("latency", ".2f", "~" * noisy),
        (formats.params(int(m["params"])), "text"),
        (formats.change(m["params"], dense["params"] if dense else 0) or "–", "text"),
        scored("clip", ".1f"),
        (f"{attributes * 100:.0f} %" if attributes is not None else "–", "text"),
        (f"{distance:.1e}" if (distance := m.get("latent_distance")) is not None else "–", "text"),
        (formats.size(m["size_bytes"]) if m.get("size_bytes") else "–", "text"),
        (one_line(m.get("method") or "–", limit=12), "muted"),
    )


_LATENCY_HEADS: tuple[str, ...] = (
    "model", "sparsity", "ms/step", "quartiles", "vs dense", "s/image", "ideal", "params", "VRAM",
)  # fmt: skip


@in_its_place
def latency_text(rows: Sequence[Mapping[str, Any]], width: int) -> Text:
    """One line for each model of a benchmark; times are medians, "ideal" what fewer operations
    alone would give, and a ratio that may be none at all is marked."""
    noisy = unsure({"latency": rows}, "step_ms")
    dense = rows[0]["step_ms"] if rows else 0.0
    heads = _LATENCY_HEADS
    if not any(row.get("peak_bytes") for row in rows):
        heads = heads[:-1]
    cells = [_latency_row(row, dense, noisy=row["model"] in noisy)[: len(heads)] for row in rows]
    text = aligned(heads, cells, width)
    if noisy:
        text.append(f"\n{NOISE}", style("muted"))
    return text


def _latency_row(row: Mapping[str, Any], dense: float, *, noisy: bool) -> tuple[Cell, ...]:
    peak, ideal = row.get("peak_bytes"), row.get("ideal")
    faster = dense / row["step_ms"] if row["step_ms"] else 0.0
    return (
        (one_line(row["model"], limit=24), "strong"),
        (f"{float(row['sparsity']) * 100:g} %" if row.get("sparsity") else "–", "text"),
        (f"{row['step_ms']:.1f}", "accent"),
        (f"{row['step_ms_low']:.1f}–{row['step_ms_high']:.1f}", "muted"),
        (f"{'~' * noisy}{faster:.2f} ×" if row.get("sparsity") else "–",
         "good" if faster > 1 and not noisy else "text"),
        (f"{row['image_s']:.2f}", "text"),
        (f"{ideal:.2f} ×" if ideal else "–", "muted"),
        (formats.params(int(row["params"])), "text"),
        (formats.size(peak) if peak else "–", "text"),
    )  # fmt: skip


def export_text(export: Mapping[str, Any]) -> Text:
    """Where the exported model lies, and its files."""
    line = Text.assemble(
        (one_line(export.get("variant") or "", limit=80), style("strong")),
        (f" as {one_line(export.get('format') or '', limit=20)}", style("text")),
        (f", {formats.params(int(export.get('params') or 0))} parameters", style("muted")),
        (f", {formats.size(export.get('size_bytes') or 0)}", style("muted")),
    )
    lines = [line, Text(one_line(export.get("folder") or "", limit=500), style("accent"))]
    for file in export.get("files") or ():
        words = f"{formats.size(file['size_bytes']):>9}  {one_line(file['name'], limit=200)}"
        lines.append(
            Text(words, style("text")).append(f"  {str(file['sha256'])[:12]}", style("faint"))
        )
    return Text("\n").join(lines)


@in_its_place
def result_text(job_kind: str, result: Mapping[str, Any] | None, width: int) -> Text:
    """The result of a finished job as a table, empty where pictures say it all."""
    if not result:
        return Text()
    if job_kind in ("prune", "import"):
        return variants_text(result, width)
    if job_kind == "compare":
        noisy = unsure(result, "image_s")
        return models_text(result.get("models") or (), width, reseed_of(result), noisy)
    if job_kind == "bench":
        return latency_text(result.get("latency") or (), width)
    if job_kind == "export":
        return export_text(result.get("export") or {})
    return Text()
