"""Weights of an image's patches for each pixel along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.products import matmul
from t2d_runtime.masks.upsample import blend, linear_taps

LONG = 1 << 13
"""Pixels of an axis up to which the weights of all of them are made at once: 67 MB for a moment, with 2048 pixels at
the working size. One side of a picture may have millions of pixels."""


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """Weights of some patches along an axis of a number of `pixels`."""

    matrix: NDArray[np.float32]
    """(pixels, patches), or fewer rows, which are then resized when they are needed."""
    pixels: int

    @classmethod
    def of_windows(cls, starts: Sequence[int], length: int, patches: int, resized: int, target: int) -> AxisWeights:
        """Weights of all patches of all windows: upsampling in each window, the mean over windows, the last resize.

        `starts` and `length` place the windows among the `resized` pixels of the working size; each has some `patches`.
        `target` is the number of pixels of the image.
        """
        upsampling = _matrix(patches, length, align_corners=True)
        stitched = np.zeros((resized, len(starts), patches), np.float32)
        for window, start in enumerate(starts):
            stitched[start : start + length, window] = upsampling
        stitched /= stitched.sum(axis=(1, 2), keepdims=True)
        flat = stitched.reshape(resized, -1)
        if resized != target <= LONG:
            flat = matmul(_matrix(resized, target, align_corners=False), flat)
        return cls(flat, target)

    def near(self, part: slice) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Weights (n,k) of the k patches that n of the pixels depend on, and the indices (k,) of these patches."""
        if len(self.matrix) == self.pixels:
            rows = self.matrix[part]
            seen = np.flatnonzero(rows.any(axis=0))
            return rows[:, seen], seen
        lower, upper, weight = linear_taps(len(self.matrix), self.pixels, align_corners=False, part=part)
        rows = self.matrix[lower[0] : upper[-1] + 1]
        seen = np.flatnonzero(rows.any(axis=0))
        resized = blend(rows[np.newaxis, :, seen], (lower - lower[0], upper - lower[0], weight), axis=1)
        return resized[0], seen


def _matrix(source: int, target: int, *, align_corners: bool) -> NDArray[np.float32]:
    """The matrix (target, source) of a linear resize of one axis."""
    lower, upper, weight = linear_taps(source, target, align_corners=align_corners)
    matrix = np.zeros((target, source), np.float32)
    matrix[np.arange(target), lower] = 1 - weight
    matrix[np.arange(target), upper] += weight
    return matrix
