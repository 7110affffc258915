"""Pixel-adaptive mask refinement (PAMR): scores spread along pixels of like colour.

Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, Sec. 3.4, in the form
of Talk2DINO's released code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.manifest import PamrSettings

OFFSETS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
"""The eight neighbours in a 3 x 3 window, (down, right), in units of the dilation."""

STD_WEIGHT = 0.1
STD_EPS = 1e-8
"""Constants of the affinity in the released code."""


def refine(image: NDArray[np.uint8], planes: NDArray[np.float32], settings: PamrSettings) -> NDArray[np.float32]:
    """Refined planes (N,H,W) of a window's `image` (H,W,3) and its scores `planes` (N,H,W).

    Each class is refined alone; each refined value lies between the least and the greatest of its plane.
    """
    weights = affinity(image, settings.dilations)
    for _ in range(settings.iterations):
        planes = _spread(planes, weights, settings.dilations)
    return planes


def affinity(image: NDArray[np.uint8], dilations: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights (K,H,W) of each pixel's K neighbours, positive and adding up to one; K is 8 per dilation.

    aff = softmax over neighbours of the mean over channels of -|I - I_neighbour| / (1e-8 + 0.1 std), std being
    the unbiased standard deviation per channel over the neighbours and, once per dilation, the pixel itself.
    """
    channels = image.transpose(2, 0, 1).astype(np.float32)
    samples = 9 * len(dilations)
    total = np.zeros_like(channels)
    squares = np.zeros_like(channels)
    for neighbour in _neighbours(channels, dilations):
        difference = neighbour - channels
        total += difference
        squares += difference * difference
    # The variance of the differences to the centre, which are small integers, is exact where that of the
    # values loses digits; the centre itself adds zeros.
    variance = (squares - total * total / np.float32(samples)) / np.float32(samples - 1)
    scale = np.float32(STD_EPS) + np.float32(STD_WEIGHT) * np.sqrt(np.maximum(variance, 0))
    weights = np.stack(
        [-(np.abs(channels - neighbour) / scale).mean(axis=0) for neighbour in _neighbours(channels, dilations)]
    )
    weights -= weights.max(axis=0)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=0)
    return weights


def _spread(
    planes: NDArray[np.float32], weights: NDArray[np.float32], dilations: tuple[int, ...]
) -> NDArray[np.float32]:
    """One iteration: every value becomes the weighted mean of its neighbours' values."""
    result = np.zeros_like(planes)
    for weight, neighbour in zip(weights, _neighbours(planes, dilations), strict=True):
        result += weight * neighbour
    return result


def _neighbours(planes: NDArray[np.float32], dilations: tuple[int, ...]):  # type: ignore[no-untyped-def]
    height, width = planes.shape[1:]
    border = max(dilations)
    padded = np.pad(planes, ((0, 0), (border, border), (border, border)), mode="edge")
    for dilation in dilations:
        for down, right in OFFSETS:
            top, left = border + down * dilation, border + right * dilation
            yield padded[:, top : top + height, left : left + width]
