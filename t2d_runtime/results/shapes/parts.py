"""Connected parts of labels, found for all labels in one pass over their runs.

Pixels are connected through their sides, not through corners, so that each part is one valid polygon.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.results.label_map import bands_of
from t2d_runtime.results.shapes.runs import Runs, runs_of


class Parts(NamedTuple):
    """The connected parts of a map, numbered by their first pixels."""

    runs: Runs
    """R runs, none longer than a row."""
    of_runs: NDArray[np.intp]
    """(R,) the part of each run."""
    labels: NDArray[np.intp]
    """(K,) the label of each part."""
    areas: NDArray[np.int64]
    """(K,) pixels of each part."""

    def at(self, pixels: NDArray[np.int64]) -> NDArray[np.intp]:
        """Parts of pixels, given as indices into the flat map."""
        part: NDArray[np.intp] = self.of_runs[np.searchsorted(self.runs.starts, pixels, side="right") - 1]
        return part

    def boxes(self, width: int) -> NDArray[np.int64]:
        """Boxes (K,4), left, top, right, bottom, right and bottom exclusive, in a map of this width."""
        rows, left = np.divmod(self.runs.starts, width)
        order = np.argsort(self.of_runs, kind="stable")
        firsts = np.flatnonzero(np.diff(self.of_runs[order], prepend=-1))
        sides = (
            np.minimum.reduceat(left[order], firsts),
            np.minimum.reduceat(rows[order], firsts),
            np.maximum.reduceat((left + self.runs.lengths)[order], firsts),
            np.maximum.reduceat(rows[order], firsts) + 1,
        )
        return np.stack(sides, axis=1)

    def means(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean (K,) of a plane (H,W) over each part."""
        of_runs = np.empty(len(self.of_runs))
        width = values.shape[1]
        for band in bands_of(*values.shape):
            first, last = np.searchsorted(self.runs.starts, [band.start * width, band.stop * width])
            starts = self.runs.starts[first:last] - band.start * width
            of_runs[first:last] = np.add.reduceat(values[band].reshape(-1), starts, dtype=np.float64)
        sums = np.bincount(self.of_runs, weights=of_runs, minlength=len(self.areas))
        return sums / self.areas


def parts_of(label_map: NDArray[Any]) -> Parts:
    """The connected parts of all labels of a map (H,W)."""
    runs = runs_of(label_map)
    roots = _roots(len(runs.starts), _touching(runs, label_map.shape))
    first, of_runs = np.unique(roots, return_inverse=True)
    areas = np.bincount(of_runs, weights=runs.lengths).astype(np.int64)
    return Parts(runs, of_runs, runs.labels[first].astype(np.intp), areas)


def _touching(runs: Runs, size: tuple[int, ...]) -> NDArray[np.intp]:
    """Pairs (n,2) of runs of one label, upper and lower, that share a side.

    Two runs in rows one above the other meet first where the upper or the lower one starts.
    """
    height, width = size
    numbers = np.arange(len(runs.starts))
    lower = numbers[runs.starts >= width]
    upper = numbers[runs.starts < (height - 1) * width]
    above = np.searchsorted(runs.starts, runs.starts[lower] - width, side="right") - 1
    below = np.searchsorted(runs.starts, runs.starts[upper] + width, side="right") - 1
    pairs = np.concatenate([np.stack([above, lower], axis=1), np.stack([upper, below], axis=1)])
    same = runs.labels[pairs[:, 0]] == runs.labels[pairs[:, 1]]
    touching: NDArray[np.intp] = pairs[same]
    return touching


def _roots(count: int, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """The lowest number that each of `count` numbers is connected to by pairs (n,2)."""
    parents = np.arange(count)
    while len(pairs):
        low, high = pairs.min(axis=1), pairs.max(axis=1)
        np.minimum.at(parents, high, low)
        while not np.array_equal(parents, above := parents[parents]):
            parents = above
        pairs = parents[pairs]
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return parents
