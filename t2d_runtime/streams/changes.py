"""Changes from frame to frame: still frames, which need no encoding, and cuts, over which nothing is smoothed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 8
"""Side, at the working size, of the blocks whose mean colours are compared. A block is smaller than a patch, and its
mean has little of the camera's noise."""

CUT = 30.0
"""Mean difference of two frames, in levels of 255, from which there is a cut between them. PySceneDetect's detector of
content takes 27 of the same range, on hue, saturation and value."""


class Changed(NamedTuple):
    """Comparison of a frame with earlier ones."""

    still: bool
    """True where no block changed since the frame that was encoded last."""
    cut: bool
    """True at the first frame, and where most of the picture changed since the frame before."""


class Changes:
    """Compares the frames of one source."""

    def __init__(self, motion_threshold: float | None) -> None:
        self._threshold = motion_threshold
        self._encoded: NDArray[np.float32] | None = None
        self._before: NDArray[np.float32] | None = None

    def of(self, pixels: NDArray[np.uint8], working_size: tuple[int, int]) -> Changed:
        """The changes up to a frame (H,W,3), in order. A frame that is not still counts as encoded."""
        blocks = block_means(pixels, working_size)
        cut = self._before is None or self._before.shape != blocks.shape or _mean_difference(self._before, blocks) > CUT
        still = (
            self._threshold is not None
            and not cut
            and self._encoded is not None
            and self._encoded.shape == blocks.shape
            and largest_difference(self._encoded, blocks) < self._threshold
        )
        self._before = blocks
        if not still:
            self._encoded = blocks
        return Changed(still, cut)

    def forget(self) -> None:
        """Compare with nothing before, since the frame could not be encoded or another file begins."""
        self._before = self._encoded = None


def block_means(pixels: NDArray[np.uint8], working_size: tuple[int, int]) -> NDArray[np.float32]:
    """Mean colours (h,w,3), 0 to 255, of an image's blocks of BLOCK pixels at the working size."""
    from PIL import Image

    height, width = (max(1, round(side / BLOCK)) for side in working_size)
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    means: NDArray[np.float32] = np.asarray(small, np.float32)
    return means


def largest_difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The largest difference of a block, its mean over the colours."""
    return float(np.abs(one - other).mean(axis=2).max())


def _mean_difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).mean())
