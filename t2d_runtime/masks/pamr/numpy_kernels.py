"""The inner loops of PAMR in NumPy; see `t2d_runtime.masks.pamr.refine.Kernels`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.masks.pamr.refine import STD_EPS, STD_WEIGHT

name = "numpy"


def write_logits(
    padded: NDArray[np.float32],
    offsets: NDArray[np.intp],
    logits: NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    """Minus the mean over channels of |I - I_neighbour| / (1e-8 + 0.1 std).

    std is the unbiased standard deviation over the neighbours and, once per dilation, the pixel itself.
    """
    samples = np.float32(len(offsets) // 8 * 9)
    border, width = _border(offsets), logits.shape[2]
    centre = padded[:, border + first : border + last, border : border + width]
    total, squares = np.zeros_like(centre), np.zeros_like(centre)
    for neighbour in _neighbours(padded, offsets, width, first, last):
        # Differences to the centre are small whole numbers: their sums are exact. The centre's own are zero.
        difference = neighbour - centre
        total += difference
        squares += difference * difference
    variance = (squares - total * total / samples) / (samples - 1)
    scale = np.float32(STD_EPS) + np.float32(STD_WEIGHT) * np.sqrt(np.maximum(variance, 0))
    for k, neighbour in enumerate(_neighbours(padded, offsets, width, first, last)):
        logits[first:last, k] = -(np.abs(neighbour - centre) / scale).mean(axis=0)


def spread(
    source: NDArray[np.float32],
    weights: NDArray[np.float32],
    offsets: NDArray[np.intp],
    target: NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    """The weighted sum of the neighbours."""
    border, width = _border(offsets), weights.shape[2]
    inside = target[:, border + first : border + last, border : border + width]
    inside[:] = 0
    product = np.empty_like(inside)
    for k, neighbour in enumerate(_neighbours(source, offsets, width, first, last)):
        np.multiply(neighbour, weights[first:last, k], out=product)
        inside += product


def _neighbours(
    padded: NDArray[np.float32], offsets: NDArray[np.intp], width: int, first: int, last: int
) -> Iterator[NDArray[np.float32]]:
    """For each offset the pixels that lie there from the rows `first` to `last`."""
    border = _border(offsets)
    for down, right in offsets.tolist():
        left = border + right
        yield padded[:, border + down + first : border + down + last, left : left + width]


def _border(offsets: NDArray[np.intp]) -> int:
    return int(offsets.max())
