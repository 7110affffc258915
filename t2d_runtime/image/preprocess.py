"""Resizes and normalises RGB images to the pixel values that the image encoder takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import Preprocessing
from t2d_runtime.device.products import matmul

RESIZE_BITS = 11
"""Fractional bits of OpenCV's fixed-point weights (INTER_RESIZE_COEF_BITS)."""

RESIZE_BAND = 32
"""Rows resized at a time, so that intermediate values stay in the cache: five times as fast."""


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H,W,3) resized to (height, width) with the arithmetic of OpenCV's INTER_LINEAR for uint8.

    Half-pixel centres, no antialiasing, weights of 11 bits. The released code resizes with OpenCV. Its fixed-point
    rounding is reproduced, since one level of a pixel moves scores by 2e-4.
    """
    if image.shape[:2] == size:
        return image
    top, bottom, row_weights = _fixed_point_taps(image.shape[0], size[0])
    left, right, column_weights = _fixed_point_taps(image.shape[1], size[1], clamp=True)
    channels = np.arange(3)
    left, right = ((3 * column[:, np.newaxis] + channels).ravel() for column in (left, right))
    column_weights = np.repeat(column_weights, 3, axis=1)
    source = image.reshape(image.shape[0], -1)
    result = np.empty((size[0], 3 * size[1]), np.uint8)
    for first in range(0, size[0], RESIZE_BAND):
        band = slice(first, first + RESIZE_BAND)
        rows, positions = np.unique(np.stack([top[band], bottom[band]]), return_inverse=True)
        pixels = source[rows]
        wide = np.take(pixels, left, axis=1) * column_weights[0]
        wide += np.take(pixels, right, axis=1) * column_weights[1]
        wide >>= 4
        upper, lower = wide[positions.reshape(2, -1)]
        upper *= row_weights[0, band, np.newaxis]
        lower *= row_weights[1, band, np.newaxis]
        result[band] = ((upper >> 16) + (lower >> 16) + 2) >> 2
    return result.reshape(*size, 3)


def _fixed_point_taps(
    source: int, target: int, *, clamp: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]:
    """Lower and upper neighbour of each of `target` pixels and their weights (2, target), which sum to 2048.

    OpenCV clamps the weights at the left and right border, and only the neighbours at the top and bottom.
    """
    position = ((np.arange(target) + 0.5) * (1 / (target / source)) - 0.5).astype(np.float32)
    lower = np.floor(position).astype(np.intp)
    fraction = position - lower.astype(np.float32)
    if clamp:
        fraction[(lower < 0) | (lower >= source - 1)] = 0
    one = np.float32(1 << RESIZE_BITS)
    weights = np.rint(np.stack([(1 - fraction) * one, fraction * one])).astype(np.int32)
    return np.clip(lower, 0, source - 1), np.clip(lower + 1, 0, source - 1), weights


def to_pixel_values(
    windows: NDArray[np.uint8], input_size: tuple[int, int], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Normalised pixels (B,3,H,W) float32 of windows (B,h,w,3), resized to `input_size` where they differ.

    The resize is bilinear with antialiasing on float pixels 0-255, with half-pixel centres. It does not keep the
    aspect ratio. It equals torchvision's `resize` of a tensor.
    """
    mean, std = np.array(preprocessing.mean, np.float64), np.array(preprocessing.std, np.float64)
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    planes: NDArray[np.float32] = windows.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    if planes.shape[2:] != input_size:
        rows, columns = map(_antialias_matrix, planes.shape[2:], input_size)
        planes = matmul(matmul(rows, planes), columns.T)
    planes *= scale[:, np.newaxis, np.newaxis]
    planes += shift[:, np.newaxis, np.newaxis]
    return planes


def _antialias_matrix(source: int, target: int) -> NDArray[np.float32]:
    """Weights (target, source) of a linear resize; when shrinking, the triangle is as wide as the scale.

    Positions are float32 as in PyTorch. Exact ones would differ from it by 0.01 of a level from 448 to 518.
    """
    scale = np.float32(source / target)
    reach = np.maximum(scale, np.float32(1))
    centres = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale
    distance = np.arange(source, dtype=np.float32) - centres[:, np.newaxis] + np.float32(0.5)
    weights: NDArray[np.float32] = np.maximum(1 - np.abs(distance / reach), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
