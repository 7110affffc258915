"""The inner loops of PAMR in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from t2d_runtime.masks.pamr.kernels import STD_EPS, STD_WEIGHT, Floats, Grid


class NumpyKernels:
    """`Kernels` in NumPy: weights (H,K,W) of K neighbours; padded planes (N,H+2b,W+2b) with the grid's border b."""

    name: ClassVar[str] = "NumPy loops"

    def __init__(self, grid: Grid) -> None:
        self._height, self._width, self._border = grid.height, grid.width, grid.border
        self._offsets = grid.offsets
        self._samples = np.float32(9 * len(grid.dilations))

    def new_weights(self) -> Floats:
        """An array for weights (H,K,W)."""
        return np.empty((self._height, len(self._offsets), self._width), np.float32)

    def new_padded(self, count: int) -> Floats:
        """An array for padded planes (N,H+2b,W+2b)."""
        return np.empty((count, self._height + 2 * self._border, self._width + 2 * self._border), np.float32)

    def weigh(self, colours: Floats, weights: Floats, first: int, last: int) -> None:
        """Softmax of minus the mean over colours of |I - I_neighbour| / (1e-8 + 0.1 std).

        std is the unbiased standard deviation over the neighbours and, once per dilation, the pixel itself.
        """
        centre = self._inside(colours, first, last)
        total, squares = np.zeros_like(centre), np.zeros_like(centre)
        for neighbour in self._neighbours(colours, first, last):
            # Differences to the centre are small whole numbers: their sums are exact. The centre's own are zero.
            difference = neighbour - centre
            total += difference
            squares += difference * difference
        variance = (squares - total * total / self._samples) / (self._samples - 1)
        scale = np.float32(STD_EPS) + np.float32(STD_WEIGHT) * np.sqrt(np.maximum(variance, 0))
        band = weights[first:last]
        for k, neighbour in enumerate(self._neighbours(colours, first, last)):
            band[:, k] = -(np.abs(neighbour - centre) / scale).mean(axis=0)
        # The neighbours' root mean square distance is at most 3.2 std, so one logit is above -32, and there is no
        # need to subtract the greatest one first.
        np.exp(band, out=band)
        band /= band.sum(axis=1, keepdims=True)

    def put(self, planes: Floats, padded: Floats, first: int, last: int) -> None:
        """Planes to padded ones: see `Kernels.put`."""
        self._inside(padded, first, last)[:] = planes[:, first:last]
        self._repeat_border(padded, first, last)

    def spread(self, source: Floats, weights: Floats, target: Floats, first: int, last: int) -> None:
        """One iteration: see `Kernels.spread`."""
        inside = self._inside(target, first, last)
        inside[:] = 0
        product = np.empty_like(inside)
        for k, neighbour in enumerate(self._neighbours(source, first, last)):
            np.multiply(neighbour, weights[first:last, k], out=product)
            inside += product
        self._repeat_border(target, first, last)

    def take(self, padded: Floats, planes: Floats, first: int, last: int) -> None:
        """Padded planes to plain ones: see `Kernels.take`."""
        planes[:, first:last] = self._inside(padded, first, last)

    def _inside(self, padded: Floats, first: int, last: int, down: int = 0, right: int = 0) -> Floats:
        """The rows from `first` to `last`, shifted `down` and `right`."""
        top, left = self._border + down, self._border + right
        return padded[:, top + first : top + last, left : left + self._width]

    def _neighbours(self, padded: Floats, first: int, last: int) -> Iterator[Floats]:
        """The rows from `first` to `last`, shifted by each offset."""
        return (self._inside(padded, first, last, *offset) for offset in self._offsets)

    def _repeat_border(self, padded: Floats, first: int, last: int) -> None:
        """Fill the border beside the rows from `first` to `last`, and above the first row and below the last."""
        border, right, bottom = self._border, self._border + self._width, self._border + self._height
        band = padded[:, border + first : border + last]
        band[:, :, :border] = band[:, :, border : border + 1]
        band[:, :, right:] = band[:, :, right - 1 : right]
        if first == 0:
            padded[:, :border] = padded[:, border : border + 1]
        if last == self._height:
            padded[:, bottom:] = padded[:, bottom - 1 : bottom]
