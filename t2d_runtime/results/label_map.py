"""Label maps: their type, their limits, the name of label 0, and figures of labels."""

from __future__ import annotations

from collections.abc import Iterator

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


def regions_of(height: int, width: int, pixels: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Rows and columns that cover an image of this size, each of at most about `pixels` (None: BAND), in order.

    Unlike bands, they also divide a row that is longer than that.
    """
    pixels = BAND if pixels is None else pixels
    rows = max(1, pixels // max(1, width))
    for top in range(0, height, rows):
        for left in range(0, width, pixels):
            yield slice(top, min(top + rows, height)), slice(left, min(left + pixels, width))


def label_counts(label_map: LabelMap, num_labels: int) -> NDArray[np.int64]:
    """Number of pixels (num_labels,) of every label."""
    counts = np.zeros(num_labels, np.int64)
    for region in regions_of(*label_map.shape):
        counts += np.bincount(label_map[region].ravel(), minlength=num_labels)
    return counts


def label_means(label_map: LabelMap, counts: NDArray[np.int64], values: NDArray[np.float32]) -> list[float | None]:
    """Mean of values (H,W) over the pixels of every label, to six digits; None where it has none.

    `counts`: the result of `label_counts`.
    """
    sums = np.zeros(len(counts))
    for region in regions_of(*label_map.shape):
        sums += np.bincount(label_map[region].ravel(), weights=values[region].ravel(), minlength=len(counts))
    return [round(float(total / count), 6) if count else None for total, count in zip(sums, counts, strict=True)]
