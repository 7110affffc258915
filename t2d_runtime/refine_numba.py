"""The inner loops of PAMR, compiled by numba; see `t2d_runtime.refine.Kernels`.

Pixels of a row are innermost, and four neighbours are added at a time to two planes: their weights are loaded once
for both. Fewer neighbours, or more planes, are slower (benchmarks/LOG.md). The compiled code is kept on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from t2d_runtime.refine import STD_EPS, STD_WEIGHT

logger = logging.getLogger(__name__)

name = "numba"

Function = TypeVar("Function", bound=Callable[..., None])
Floats = NDArray[np.float32]


def _compiled(function: Function) -> Function:
    """Compiled at the first call, or read from the cache; "contract" lets multiply and add be one step."""
    fused = {"contract"}
    compiled: Function
    try:
        compiled = numba.njit(function, cache=True, nogil=True, error_model="numpy", fastmath=fused)
    except RuntimeError as error:  # neither this folder nor the user's can be written to
        logger.warning("PAMR is compiled anew in each process: %s; set NUMBA_CACHE_DIR to a folder", error)
        compiled = numba.njit(function, nogil=True, error_model="numpy", fastmath=fused)
    return compiled


@_compiled
def _add_weighted(total: Floats, weights: Floats, a: Floats, b: Floats, c: Floats, d: Floats) -> None:
    for x in range(len(total)):
        total[x] += weights[0, x] * a[x] + weights[1, x] * b[x] + weights[2, x] * c[x] + weights[3, x] * d[x]


@_compiled
def _add_weighted_pair(
    total: Floats, second_total: Floats, weights: Floats, four: tuple[Floats, ...], second_four: tuple[Floats, ...]
) -> None:
    a, b, c, d = four
    e, f, g, h = second_four
    for x in range(len(total)):
        total[x] += weights[0, x] * a[x] + weights[1, x] * b[x] + weights[2, x] * c[x] + weights[3, x] * d[x]
        second_total[x] += weights[0, x] * e[x] + weights[1, x] * f[x] + weights[2, x] * g[x] + weights[3, x] * h[x]


@_compiled
def _add_differences(total: Floats, centre: Floats, a: Floats, b: Floats, c: Floats, d: Floats) -> None:
    for x in range(len(total)):
        total[x] += (a[x] - centre[x]) + (b[x] - centre[x]) + (c[x] - centre[x]) + (d[x] - centre[x])


@_compiled
def _add_squares(total: Floats, centre: Floats, a: Floats, b: Floats, c: Floats, d: Floats) -> None:
    for x in range(len(total)):
        total[x] += (
            (a[x] - centre[x]) ** 2 + (b[x] - centre[x]) ** 2 + (c[x] - centre[x]) ** 2 + (d[x] - centre[x]) ** 2
        )


@_compiled
def _subtract_distance(logits: Floats, scale: Floats, centre: Floats, neighbour: Floats) -> None:
    for x in range(len(logits)):
        logits[x] -= abs(neighbour[x] - centre[x]) * scale[x]


@_compiled
def write_logits(padded: Floats, offsets: NDArray[np.intp], logits: Floats, first: int, last: int) -> None:
    """As `refine_numpy.write_logits`."""
    border, width = offsets.max(), logits.shape[2]
    samples = np.float32(len(offsets) // 8 * 9)
    total, squares = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(first, last):
        logits[y] = 0
        for channel in padded:
            centre = channel[border + y, border:]
            total[:] = 0
            squares[:] = 0
            for k in range(0, len(offsets), 4):
                four = (
                    channel[border + y + offsets[k, 0], border + offsets[k, 1] :],
                    channel[border + y + offsets[k + 1, 0], border + offsets[k + 1, 1] :],
                    channel[border + y + offsets[k + 2, 0], border + offsets[k + 2, 1] :],
                    channel[border + y + offsets[k + 3, 0], border + offsets[k + 3, 1] :],
                )
                _add_differences(total, centre, *four)
                _add_squares(squares, centre, *four)
            for x in range(width):
                variance = (squares[x] - total[x] * total[x] / samples) / (samples - np.float32(1))
                deviation = np.sqrt(max(variance, np.float32(0)))
                scale = np.float32(STD_EPS) + np.float32(STD_WEIGHT) * deviation
                total[x] = np.float32(1) / (scale * np.float32(3))
            for k in range(len(offsets)):
                neighbour = channel[border + y + offsets[k, 0], border + offsets[k, 1] :]
                _subtract_distance(logits[y, k], total, centre, neighbour)


@_compiled
def spread(source: Floats, weights: Floats, offsets: NDArray[np.intp], target: Floats, first: int, last: int) -> None:
    """As `refine_numpy.spread`."""
    border, width = offsets.max(), weights.shape[2]
    for y in range(first, last):
        row = border + y
        target[:, row, border : border + width] = 0
        for n in range(0, len(source) - 1, 2):
            plane, second = source[n], source[n + 1]
            total = target[n, row, border : border + width]
            second_total = target[n + 1, row, border : border + width]
            for k in range(0, len(offsets), 4):
                four = (
                    plane[row + offsets[k, 0], border + offsets[k, 1] :],
                    plane[row + offsets[k + 1, 0], border + offsets[k + 1, 1] :],
                    plane[row + offsets[k + 2, 0], border + offsets[k + 2, 1] :],
                    plane[row + offsets[k + 3, 0], border + offsets[k + 3, 1] :],
                )
                second_four = (
                    second[row + offsets[k, 0], border + offsets[k, 1] :],
                    second[row + offsets[k + 1, 0], border + offsets[k + 1, 1] :],
                    second[row + offsets[k + 2, 0], border + offsets[k + 2, 1] :],
                    second[row + offsets[k + 3, 0], border + offsets[k + 3, 1] :],
                )
                _add_weighted_pair(total, second_total, weights[y, k : k + 4], four, second_four)
        if len(source) % 2:
            plane = source[-1]
            total = target[-1, row, border : border + width]
            for k in range(0, len(offsets), 4):
                four = (
                    plane[row + offsets[k, 0], border + offsets[k, 1] :],
                    plane[row + offsets[k + 1, 0], border + offsets[k + 1, 1] :],
                    plane[row + offsets[k + 2, 0], border + offsets[k + 2, 1] :],
                    plane[row + offsets[k + 3, 0], border + offsets[k + 3, 1] :],
                )
                _add_weighted(total, weights[y, k : k + 4], *four)
