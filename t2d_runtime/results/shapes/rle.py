"""COCO's run-length codes of all labels at once."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.install import needs_extra
from t2d_runtime.results.label_map import LabelMap
from t2d_runtime.results.shapes.runs import groups_of, runs_of


class RLE(TypedDict):
    """A mask in COCO's compressed form, as pycocotools reads it and as JSON holds it."""

    size: list[int]
    """[height, width]."""
    counts: str
    """The lengths of the runs of 0 and 1, column after column, in COCO's letters."""


def rle_of_labels(label_map: LabelMap, num_labels: int) -> list[RLE]:
    """The code of every label of a map (H,W), also of those without a pixel.

    It equals `pycocotools.mask.encode` of the label's mask. Raises MissingPackageError where pycocotools is missing.
    """
    height, width = label_map.shape
    runs = runs_of(label_map.T, over_rows=True)  # COCO goes column after column
    counts: dict[int, NDArray[np.int64]] = {
        label: _counts(runs.starts[indices], runs.lengths[indices], height * width)
        for label, indices in groups_of(runs.labels)
    }
    nothing = np.array([height * width], np.int64)
    return [compressed(counts.get(label, nothing), (height, width)) for label in range(num_labels)]


def compressed(counts: NDArray[np.int64], size: tuple[int, int]) -> RLE:
    """COCO's compressed form of the lengths of runs of 0, 1, 0, ... of a mask of this (height, width)."""
    with needs_extra("shapes"):
        from pycocotools import mask as coco
    code: Any = coco.frPyObjects({"size": list(size), "counts": counts.astype(np.uint32)}, *size)
    return {"size": list(size), "counts": code["counts"].decode("ascii")}


def _counts(starts: NDArray[np.int64], lengths: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Lengths of the runs of 0 and 1, in turn, of a mask whose runs of 1 are given."""
    counts = np.empty(2 * len(starts) + 1, np.int64)
    ends = starts + lengths
    counts[0] = starts[0]
    counts[2:-1:2] = starts[1:] - ends[:-1]
    counts[1::2] = lengths
    counts[-1] = total - ends[-1]
    return counts if counts[-1] else counts[:-1]
