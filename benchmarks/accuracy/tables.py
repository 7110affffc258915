"""The figures of an evaluation as a table and as JSON, and its confusion matrix as a file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.accuracy.evaluation import Evaluation
from benchmarks.accuracy.metric import Matrix, iou, label_areas, mean_iou, pixel_accuracy, recall, to_matrix
from benchmarks.blocks import Table
from t2d_runtime.storage.whole_file import whole_file

CONFUSIONS_NAMED: Final = 10
"""Most confused pairs of labels to list; those with the most pixels come first."""


def figures(evaluation: Evaluation, label_names: Sequence[str]) -> dict[str, Any]:
    """The JSON's figures of the bundle's labels. None stands for labels that do not occur."""
    matrix = evaluation.confusion
    _, results, truths = label_areas(matrix)
    labels = zip(label_names, iou(matrix), recall(matrix), truths, results, strict=True)
    return {
        "images": len(evaluation.records),
        "skipped": [{"name": image.name, "reason": image.reason} for image in evaluation.skipped],
        "miou": _known(mean_iou(matrix)),
        "pixel_accuracy": _known(pixel_accuracy(matrix)),
        "per_class": [
            {
                "name": name,
                "iou": _known(overlap),
                "accuracy": _known(found),
                "truth_pixels": int(truth),
                "result_pixels": int(result),
            }
            for name, overlap, found, truth, result in labels
        ],
        "confused": most_confused(matrix, label_names),
    }


def most_confused(matrix: Matrix, label_names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs of truth and wrong result with the most pixels; `share` is their share of the truth's pixels."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_NAMED]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        {
            "truth": label_names[truth],
            "result": label_names[result],
            "pixels": int(wrong[truth, result]),
            "share": float(wrong[truth, result] / matrix[truth].sum()),
        }
        for truth, result in pairs
        if wrong[truth, result]
    ]


def table(content: dict[str, Any]) -> str:
    """The result of `figures` as text."""
    rows = [
        (label["name"], _number(label["iou"]), _number(label["accuracy"]), f"{label['truth_pixels']:,}")
        for label in content["per_class"]
    ]
    lines = [str(Table(("", "IoU", "found", "true pixels"), rows))]
    lines += [
        f"most confused: {pair['truth']} taken for {pair['result']}, {pair['share']:.1%} of its pixels"
        for pair in content["confused"][:3]
    ]
    lines += [f"left out: {image['reason']}" for image in content["skipped"]]
    lines.append(
        f"mIoU {100 * content['miou']:.2f}, pixel accuracy {100 * content['pixel_accuracy']:.2f}, "
        f"{content['images']} images" + (f", {len(content['skipped'])} left out" if content["skipped"] else "")
    )
    return "\n".join(lines)


def against_text(content: dict[str, Any]) -> str:
    """The result of `against_reference.figures` as text."""
    low, high = content["miou_difference_interval"]
    below, confidence = content["differing_below_margin"], content["confidence"]
    lines = [
        f"PyTorch: mIoU {100 * content['miou']:.2f}, pixel accuracy {100 * content['pixel_accuracy']:.2f}",
        f"bundle minus PyTorch: {100 * content['miou_difference']:+.4f} points of mIoU, {confidence:.0%} interval "
        f"{100 * low:+.4f} to {100 * high:+.4f} (bootstrap over images)",
        f"labels that agree: {content['label_agreement']:.4%}; {content['differing_pixels']:,} pixels differ",
    ]
    if below is not None:
        lines.append(
            f"of these {below:.1%} lie where PyTorch's two best scores differ by at most {content['margin']:.0e}; "
            f"the largest margin is {content['largest_margin']:.1e}"
        )
    return "\n".join(lines)


def write_confusion(path: Path, matrix: Matrix, label_names: Sequence[str]) -> None:
    """Write a CSV file of pixels: truth in rows, result in columns, each with its name. Raises OutputError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth \\ result", *label_names])
    writer.writerows([name, *row] for name, row in zip(label_names, matrix.tolist(), strict=True))
    with whole_file(path) as file:
        file.write(text.getvalue().encode())


def lowest_scoring(evaluation: Evaluation, count: int) -> list[str]:
    """Names of the images with the lowest mIoU, the worst first. Images without a counted pixel are left out."""
    scores = {record.name: mean_iou(to_matrix(record.cells, evaluation.num_labels)) for record in evaluation.records}
    scored = [name for name, score in scores.items() if not math.isnan(score)]
    return sorted(scored, key=lambda name: (scores[name], name))[:count]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
