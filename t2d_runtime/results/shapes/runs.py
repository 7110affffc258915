"""Runs: the longest pieces of a label map's rows that have one label. Everything about shapes is made from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.results.label_map import bands_of


class Runs(NamedTuple):
    """R runs in order. Together they cover the map, so each ends where the next one starts."""

    starts: NDArray[np.int64]
    """(R,) first pixels, as indices into the flat map."""
    lengths: NDArray[np.int64]
    """(R,) pixels."""
    labels: NDArray[Any]
    """(R,) labels, in the map's type."""


def runs_of(label_map: NDArray[Any], *, over_rows: bool = False) -> Runs:
    """Runs of a map (H,W), row after row. With `over_rows` a run goes on in the next row, as in COCO's codes."""
    starts, labels = [], []
    last = None
    height, width = label_map.shape
    for band in bands_of(height, width):
        flat = np.ascontiguousarray(label_map[band]).reshape(-1)
        begins = np.empty(len(flat), bool)
        np.not_equal(flat[1:], flat[:-1], out=begins[1:])
        begins[0] = last is None or flat[0] != last
        if not over_rows:
            begins[::width] = True
        found = np.flatnonzero(begins)
        starts.append(found + band.start * width)
        labels.append(flat[found])
        last = flat[-1]
    all_starts = np.concatenate(starts).astype(np.int64)
    lengths = np.diff(all_starts, append=height * width)
    return Runs(all_starts, lengths, np.concatenate(labels))


def groups_of(keys: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each of some integer keys (n,) that occurs, rising, with the indices at which it does, rising too."""
    order = np.argsort(keys, kind="stable")
    values = keys[order]
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    firsts = np.concatenate([[0], cuts]) if len(keys) else cuts
    for first, indices in zip(firsts, np.split(order, cuts), strict=False):
        yield int(values[first]), indices
