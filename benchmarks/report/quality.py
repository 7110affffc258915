"""Blocks on the quality of masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.blocks import Bar, Bars, Block, Table
from benchmarks.report.results import Result

REFERENCE = "reference"
"""Key of an accuracy result that holds PyTorch's figures on the same images."""


def share_used(stage: Mapping[str, Any]) -> float | None:
    """Share of the tolerance that a stage uses, by its measure; None where it must be exact or is only reported."""
    tolerance, measure = stage["tolerance"], stage["measure"]
    if measure == "label_agreement":
        return (1 - stage["label_agreement"]) / (1 - tolerance) if tolerance < 1 else None
    return stage[measure] / tolerance if tolerance else None


def parity(result: Result) -> list[Block]:
    """Largest share of each stage's tolerance that is used, over all files and subjects."""
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


def accuracy(results: list[Result]) -> list[Block]:
    """mIoU on data sets with labels, with PyTorch's where it was measured too."""
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
