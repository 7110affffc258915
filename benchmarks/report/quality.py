"""Blocks on what the masks are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.blocks import Bar, Bars, Block, Table
from benchmarks.report.results import Result

REFERENCE = "reference"
"""Key of an accuracy result that holds PyTorch's figures on the same images."""

SCENES = {
    "present": "the words of what is there",
    "vocabulary": "all words",
    "background": "half of the words, the rest background",
}
"""Protocols of `scenes` in words."""


def share_used(stage: Mapping[str, Any]) -> float | None:
    """Share of its tolerance that a stage uses by its own measure; None where it has to be exact, or is reported."""
    tolerance, measure = stage["tolerance"], stage["measure"]
    if measure == "label_agreement":
        return (1 - stage["label_agreement"]) / (1 - tolerance) if tolerance < 1 else None
    return stage[measure] / tolerance if tolerance else None


def parity(result: Result) -> list[Block]:
    """Which share of each stage's tolerance is used, at most, over all files and subjects."""
    worst: dict[str, float] = {}
    stages = [stage for column in result.figures.values() for stage in column]
    for stage in stages:
        share = share_used(stage)
        if share is not None:
            worst[stage["stage"]] = max(worst.get(stage["stage"], 0.0), share)
    failed = [f"{s['stage']} of {run}" for run, column in result.figures.items() for s in column if not s["passed"]]
    verdict = f"{len(stages) - len(failed)} of {len(stages)} stages of {len(result.figures)} runs are within tolerance"
    bars = tuple(Bar(name, {"": share}, f"{share:.1%}", 1.0) for name, share in worst.items())
    return [
        f"{result.name}: {verdict}" + (f"; not {'; '.join(failed)}." if failed else "."),
        Bars("Most of its tolerance that a stage uses; the line is the tolerance", bars),
    ]


def engines(result: Result) -> list[Block]:
    """Precision x backend, and the fused graph where the bundle has it."""
    figures = result.figures
    headers = ("precision", "backend", "MiB", "load ms", "cached", "image ms", "text ms", "labels", "mIoU")
    rows = tuple(
        (
            row["precision"],
            row["backend"],
            f"{row['size_bytes'] / 2**20:.0f}",
            *(f"{row[key]:.0f}" for key in ("load_ms", "cached_load_ms")),
            *(f"{row[key]:.1f}" for key in ("image_encoder_ms", "text_encoder_ms")),
            "" if row["label_agreement"] is None else f"{row['label_agreement']:.2%}",
            _iou(row["miou"]),
        )
        for row in figures["combinations"]
    )
    scenes = figures["scenes"]
    judged = f"{scenes} held-out scenes; labels: share equal to those of float32 on ONNX Runtime"
    text = f"{figures['backbone']}, {judged if scenes else 'times alone'}."
    if figures["tensorrt_rtx"]:
        text += f" TensorRT for RTX, built and not run: {_builds(figures['tensorrt_rtx'])}."
    fused = tuple(
        (
            row["backend"],
            "yes" if row["refine"] else "no",
            *(f"{row[key]:.0f}" for key in ("fused_ms", "runtime_ms")),
            f"{row['label_agreement']:.3%}",
        )
        for row in figures.get("fused", [])
    )
    blocks: list[Block] = [Table(headers, rows), text]
    if fused:
        blocks.append(Table(("fused graph, float32", "PAMR", "graph ms", "runtime ms", "labels equal"), fused))
    return blocks


def _builds(builds: list[dict[str, Any]]) -> str:
    """How many engines build, of the encoders and of the fused graph; the first version's files have no fused ones."""
    parts = []
    for name, fused in (("the encoders", False), ("the fused graph", True)):
        of_kind = [build for build in builds if build.get("fused", False) == fused]
        if of_kind:
            parts.append(f"{sum(not build['error'] for build in of_kind)} of {len(of_kind)} engines of {name}")
    return ", ".join(parts)


def scenes(result: Result) -> list[Block]:
    """mIoU on drawn scenes."""
    figures, per_class = result.figures, result.figures["per_class"]
    bars = tuple(Bar(name, {"": figures[key]}, f"{figures[key]:.3f}", 1.0) for key, name in SCENES.items())
    names = sorted(per_class["present"], key=per_class["present"].__getitem__, reverse=True)
    rows = tuple((name, *(_iou(per_class[column].get(name)) for column in SCENES)) for name in names)
    return [
        Bars(f"mIoU of the small model on {figures['count']} held-out drawn scenes, PAMR", bars),
        Table(("IoU", *SCENES.values()), rows),
    ]


def accuracy(results: list[Result]) -> list[Block]:
    """mIoU on data sets with labels, and against PyTorch where that was run too."""
    rows = tuple(
        (
            result.name.removeprefix("accuracy").strip("-_") or "accuracy",
            f"{result.figures['backbone']} in {result.figures['precision']}" + ", PAMR" * result.figures["refine"],
            str(result.figures["images"]),
            f"{100 * result.figures['miou']:.2f}",
            f"{100 * result.figures['pixel_accuracy']:.2f}",
            _against(result.figures.get(REFERENCE)),
        )
        for result in results
    )
    return [Table(("data", "model", "images", "mIoU", "pixel accuracy", "bundle minus PyTorch, points of mIoU"), rows)]


def _against(reference: dict[str, Any] | None) -> str:
    if reference is None:
        return "not run"
    low, high = reference["miou_difference_interval"]
    return f"{100 * reference['miou_difference']:+.3f} ({100 * low:+.3f} to {100 * high:+.3f})"


def _iou(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
