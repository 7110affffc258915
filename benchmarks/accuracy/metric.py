"""Figures of segmentation, all computed from one confusion matrix that is summed over all images.

The definitions are those of mmsegmentation, whose evaluation the released code uses.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

IGNORED: Final = -1
"""Truth of a pixel that does not count."""

Truth = NDArray[np.int32]
"""(H,W): labels from 0, or IGNORED."""

Matrix = NDArray[np.int64]
"""(N,N): pixels by truth (row) and given label (column)."""

Areas = NDArray[np.int64]
"""(N,): pixels of every label."""

Cells = tuple[tuple[int, int, int], ...]
"""Cells of a matrix that are not zero: truth, result, pixels. One image has few of them."""


def confusion(truth: Truth, result: NDArray[np.uint8] | NDArray[np.uint16], num_labels: int) -> Matrix:
    """Pixels of one image by truth and result, both (H,W). Ignored pixels are left out."""
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * num_labels + result[counted]
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def to_cells(matrix: Matrix) -> Cells:
    """The cells that are not zero, row by row."""
    rows, columns = np.nonzero(matrix)
    return tuple(zip(rows.tolist(), columns.tolist(), matrix[rows, columns].tolist(), strict=True))


def add_cells(matrix: Matrix, cells: Cells) -> None:
    """Add one image to a matrix. They are integers, so that the sum is the same in every order."""
    for truth, result, pixels in cells:
        matrix[truth, result] += pixels


def to_matrix(cells: Cells, num_labels: int) -> Matrix:
    """The matrix of one image."""
    matrix = np.zeros((num_labels, num_labels), np.int64)
    add_cells(matrix, cells)
    return matrix


def label_areas(matrix: Matrix) -> tuple[Areas, Areas, Areas]:
    """Pixels (N,) of every label: of the intersection, of the result and of the truth."""
    return matrix.diagonal().copy(), matrix.sum(axis=0), matrix.sum(axis=1)


def iou(matrix: Matrix) -> NDArray[np.float64]:
    """Intersection over union (N,), 0 to 1; NaN for labels in neither truth nor result."""
    intersection, result, truth = label_areas(matrix)
    return _ratio(intersection, result + truth - intersection)


def recall(matrix: Matrix) -> NDArray[np.float64]:
    """Share (N,) of each label's true pixels that were found; NaN for labels not in the truth."""
    intersection, _, truth = label_areas(matrix)
    return _ratio(intersection, truth)


def mean_iou(matrix: Matrix) -> float:
    """Mean of the IoU over the labels that occur; NaN where no pixel counts."""
    values = iou(matrix)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def pixel_accuracy(matrix: Matrix) -> float:
    """Share of the pixels with the right label; NaN where none counts."""
    pixels = int(matrix.sum())
    return int(matrix.trace()) / pixels if pixels else float("nan")


def _ratio(part: Areas, whole: Areas) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio
