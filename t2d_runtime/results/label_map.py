"""Label maps: their type, their limits, the name of label 0, and the boxes of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
"""(H,W): uint8 up to 256 labels, else uint16."""

MAX_LABELS = 2**16
"""Labels that a label map can hold, background included."""

BACKGROUND = "background"
"""Name of label 0 where background is on."""


def label_boxes(label_map: NDArray[Any], num_labels: int) -> list[list[int] | None]:
    """Bounding box [left, top, right, bottom] of every label, None where it has no pixel."""
    height, width = label_map.shape
    flat = label_map.astype(np.intp)
    in_row = np.zeros((height, num_labels), dtype=bool)
    in_row[np.arange(height)[:, None], flat] = True
    in_column = np.zeros((width, num_labels), dtype=bool)
    in_column[np.arange(width)[None, :], flat] = True
    boxes: list[list[int] | None] = []
    for label in range(num_labels):
        rows, columns = np.flatnonzero(in_row[:, label]), np.flatnonzero(in_column[:, label])
        if len(rows) == 0:
            boxes.append(None)
        else:
            boxes.append([int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1])
    return boxes
