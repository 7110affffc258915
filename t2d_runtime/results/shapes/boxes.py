"""Bounding boxes of all labels at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.results.label_map import regions_of
from t2d_runtime.results.shapes.runs import runs_of

REGION = 1 << 17
"""Pixels whose runs exist at a time, 75 bytes for each run."""


def label_boxes(label_map: NDArray[Any], num_labels: int) -> list[list[int] | None]:
    """Bounding box [left, top, right, bottom] of every label of a map (H,W), None where it has no pixel.

    They are made from runs, so that a wide map with many labels needs no table of columns and labels.
    """
    height, width = label_map.shape
    lefts, tops = np.full(num_labels, width), np.full(num_labels, height)
    rights, bottoms = np.zeros(num_labels, np.intp), np.zeros(num_labels, np.intp)
    for rows, columns in regions_of(height, width, REGION):
        region = label_map[rows, columns]
        runs = runs_of(region)
        row, left = np.divmod(runs.starts, region.shape[1])
        np.minimum.at(lefts, runs.labels, left + columns.start)
        np.maximum.at(rights, runs.labels, left + columns.start + runs.lengths)
        np.minimum.at(tops, runs.labels, row + rows.start)
        np.maximum.at(bottoms, runs.labels, row + rows.start + 1)
    boxes = np.stack([lefts, tops, rights, bottoms], axis=1).tolist()
    return [box if box[2] else None for box in boxes]
