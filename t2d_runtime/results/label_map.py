"""Label maps: their type, their limits, the name of label 0, and the boxes of labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
"""(H,W): uint8 up to 256 labels, else uint16."""

MAX_LABELS = 2**16
"""Labels that a label map can hold, background included."""

BACKGROUND = "background"
"""Name of label 0 where background is on."""


BAND = 1 << 20
"""Pixels processed together. NumPy's indices for them are eight times as large as labels of 8 bits."""


def bands_of(height: int, width: int) -> Iterator[slice]:
    """Rows of an image of this size, in bands of about BAND pixels."""
    rows = max(1, BAND // max(1, width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def label_counts(label_map: LabelMap, num_labels: int) -> NDArray[np.int64]:
    """Number of pixels (num_labels,) of every label."""
    counts = np.zeros(num_labels, np.int64)
    for band in bands_of(*label_map.shape):
        counts += np.bincount(label_map[band].ravel(), minlength=num_labels)
    return counts


def label_means(label_map: LabelMap, counts: NDArray[np.int64], values: NDArray[np.float32]) -> list[float | None]:
    """Mean of values (H,W) over the pixels of every label, to six digits; None where it has none.

    `counts`: the result of `label_counts`.
    """
    sums = np.zeros(len(counts))
    for band in bands_of(*label_map.shape):
        sums += np.bincount(label_map[band].ravel(), weights=values[band].ravel(), minlength=len(counts))
    return [round(float(total / count), 6) if count else None for total, count in zip(sums, counts, strict=True)]


def label_boxes(label_map: NDArray[Any], num_labels: int) -> list[list[int] | None]:
    """Bounding box [left, top, right, bottom] of every label, None where it has no pixel."""
    height, width = label_map.shape
    first_row, last_row = np.full(num_labels, height), np.full(num_labels, -1)
    in_column = np.zeros((width, num_labels), dtype=bool)
    for band in bands_of(height, width):
        labels = label_map[band].astype(np.intp)
        in_row = np.zeros((len(labels), num_labels), dtype=bool)
        in_row[np.arange(len(labels))[:, np.newaxis], labels] = True
        in_column[np.arange(width)[np.newaxis, :], labels] = True
        here = in_row.any(axis=0)
        first_row[here] = np.minimum(first_row[here], band.start + in_row[:, here].argmax(axis=0))
        last_row[here] = band.stop - 1 - in_row[::-1, here].argmax(axis=0)
    boxes: list[list[int] | None] = [None] * num_labels
    for label in np.flatnonzero(last_row >= 0):
        columns = np.flatnonzero(in_column[:, label])
        boxes[label] = [int(columns[0]), int(first_row[label]), int(columns[-1]) + 1, int(last_row[label]) + 1]
    return boxes
