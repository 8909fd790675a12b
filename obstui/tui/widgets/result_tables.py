"""Results as aligned text: the variants of a prune, the models of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from obstui.text import one_line
from obstui.tui import formats
from obstui.tui.theme import style

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
        cells.append((padded + "  ", style(look)))
    return cells


def variants_text(result: Mapping[str, Any], width: int) -> Text:
    """One line for each variant that a prune made."""
    rows = []
    for v in result.get("variants") or ():
        rows.append(
            (
                (one_line(v["id"], limit=24), "strong"),
                (f"{float(v['sparsity']) * 100:g} %", "text"),
                (f"{v['mean_error']:.4f}" if v.get("mean_error") is not None else "–", "text"),
                (formats.params(int(v["params"])), "text"),
                (formats.change(v["params"], v.get("dense_params") or 0), "good"),
                (formats.size(v["size_bytes"]) if v.get("size_bytes") else "–", "text"),
            )
        )
    heads = ("variant", "sparsity", "mean error", "params", "vs dense", "on disk")
    return aligned(heads, rows, width)


_MODEL_HEADS: tuple[str, ...] = (
    "model", "sparsity", "SSIM", "PSNR", "s/image", "params", "vs dense", "attributes",
    "latent dist", "on disk", "method",
)  # fmt: skip


def models_text(models: Sequence[Mapping[str, Any]], width: int) -> Text:
    """One line for each model of a comparison, the best variant of each column marked."""
    variants = [m for m in models if m.get("ssim") is not None]
    best = {
        "latency": min((m["latency"] for m in variants), default=None),
        "psnr": max((m["psnr"] for m in variants if m.get("psnr") is not None), default=None),
        "ssim": max((m["ssim"] for m in variants), default=None),
    }
    dense = next((m for m in models if m.get("model") == "dense"), None)
    rows: list[tuple[Cell, ...]] = [
        _model_row(m, dense, best if len(variants) > 1 else {}) for m in models
    ]
    heads = _MODEL_HEADS
    if all(m.get("attributes") is None for m in models):
        keep = [i for i, head in enumerate(heads) if head != "attributes"]
        heads = tuple(heads[i] for i in keep)
        rows = [tuple(row[i] for i in keep) for row in rows]
    return aligned(heads, rows, width)


def _model_row(
    m: Mapping[str, Any], dense: Mapping[str, Any] | None, best: Mapping[str, Any]
) -> tuple[Cell, ...]:
    def scored(key: str, digits: int) -> Cell:
        value = m.get(key)
        winner = value is not None and value == best.get(key)
        return formats.number(value, digits), "good" if winner else "text"

    attributes = m.get("attributes")
    return (
        (one_line(m["model"], limit=24), "strong"),
        (f"{float(m['sparsity']) * 100:g} %" if m.get("sparsity") else "–", "text"),
        scored("ssim", 3),
        scored("psnr", 1),
        scored("latency", 2),
        (formats.params(int(m["params"])), "text"),
        (formats.change(m["params"], dense["params"] if dense else 0) or "–", "text"),
        (f"{attributes * 100:.0f} %" if attributes is not None else "–", "text"),
        (formats.number(m.get("latent_distance"), 4), "text"),
        (formats.size(m["size_bytes"]) if m.get("size_bytes") else "–", "text"),
        (one_line(m.get("method") or "–", limit=12), "muted"),
    )


def result_text(job_kind: str, result: Mapping[str, Any] | None, width: int) -> Text:
    """The result of a finished job as a table, empty where pictures say it all."""
    if not result:
        return Text()
    if job_kind == "prune":
        return variants_text(result, width)
    if job_kind == "compare":
        return models_text(result.get("models") or (), width)
    return Text()
