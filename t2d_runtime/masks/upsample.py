"""Bilinear resizing of float planes, as `torch.nn.functional.interpolate` does it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Taps: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]
"""Neighbours of each target sample: the indices of the lower and the upper one, and the upper one's weight."""


def upsample(planes: NDArray[np.float32], size: tuple[int, int], *, align_corners: bool) -> NDArray[np.float32]:
    """Planes (N,h,w) resized bilinearly, without antialiasing, to (N,H,W).

    With `align_corners` the corner samples of input and output coincide, otherwise their outer borders do.
    """
    rows, columns = (
        linear_taps(source, target, align_corners=align_corners)
        for source, target in zip(planes.shape[1:], size, strict=True)
    )
    wide = blend(planes, columns, axis=2)
    return blend(wide, rows, axis=1)


def linear_taps(source: int, target: int, *, align_corners: bool, part: slice | None = None) -> Taps:
    """Taps of `target` samples among `source` samples: lower and upper neighbours, and weights of the upper ones.

    `part`: only these target samples; None means all.
    """
    first, stop = (0, target) if part is None else (part.start, part.stop)
    index = np.arange(first, stop).astype(np.float32)
    if align_corners:
        scale = np.float32((source - 1) / (target - 1)) if target > 1 else np.float32(0)
        position = index * scale
    else:
        scale = np.float32(source / target)
        position = np.maximum((index + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0))
    lower = np.minimum(position.astype(np.intp), source - 1)
    upper = np.minimum(lower + 1, source - 1)
    return lower, upper, np.clip(position - lower.astype(np.float32), 0, 1, dtype=np.float32)


def blend(
    planes: NDArray[np.float32],
    taps: Taps,
    axis: int,
) -> NDArray[np.float32]:
    """Linear interpolation along one axis of (N,h,w)."""
    lower, upper, weight = taps
    shape = [1, 1, 1]
    shape[axis] = -1
    weight = weight.reshape(shape)
    result = np.take(planes, upper, axis=axis)
    result *= weight
    below = np.take(planes, lower, axis=axis)
    below *= 1 - weight
    result += below
    return result
