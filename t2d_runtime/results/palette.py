"""Colours for labels: distinct, the same on every run, legible under text."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.products import matmul

FIRST_COLOUR = (230, 60, 60)
"""A red. Every further colour is the one farthest from those before it."""

LIGHTNESS = (0.45, 0.85)
"""Range of OKLab lightness, without near black and near white, which are common in photographs."""

CHROMA = (0.08, 0.21)
"""Range of OKLab chroma, without greys, which mark background, and pure blue and green, which hide the image."""

_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""Ottosson, "A perceptual color space for image processing", 2020: linear sRGB -> cone responses -> OKLab."""


def palette(count: int) -> NDArray[np.uint8]:
    """Colours (count,3) RGB; a shorter palette is the start of a longer one.

    They repeat beyond about two thousand, more than an eye tells apart.
    """
    candidates, lab = _candidates()
    chosen = np.zeros(min(count, len(candidates)), np.intp)
    distance = np.linalg.norm(lab - oklab(np.array([FIRST_COLOUR], np.uint8)), axis=1)
    nearest = int(distance.argmin())
    distance[:] = np.inf
    for index in range(len(chosen)):
        chosen[index] = nearest
        np.minimum(distance, np.linalg.norm(lab - lab[nearest], axis=1), out=distance)
        nearest = int(distance.argmax())
    return candidates[np.resize(chosen, count)]


def text_colour(background: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Black or white, whichever stands out more from a colour (3,), by the contrast ratio of WCAG 2."""
    luminance = float(matmul(linear_rgb(background), np.array([0.2126, 0.7152, 0.0722])))
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)


def oklab(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """OKLab coordinates (n,3) of sRGB colours (n,3). Distances in it are close to those that the eye sees."""
    return matmul(np.cbrt(matmul(linear_rgb(colours), _RGB_TO_LMS.T)), _LMS_TO_LAB.T)


def linear_rgb(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Light intensities 0..1 of sRGB colours (IEC 61966-2-1)."""
    values = colours / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@lru_cache(maxsize=1)
def _candidates() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A grid of sRGB colours within LIGHTNESS and CHROMA, and their OKLab coordinates."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = oklab(grid)
    fitting = (lab[:, 0] > LIGHTNESS[0]) & (lab[:, 0] < LIGHTNESS[1])
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    fitting &= (chroma > CHROMA[0]) & (chroma < CHROMA[1])
    return grid[fitting], lab[fitting]
