"""Scores smoothed over time, so that labels do not flicker."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Smoothing:
    """Exponential smoothing of patch scores over the frames of one source: a `ScoreFilter`.

    Every step from patch scores to labels but the arg max is linear in them (PAMR's weights are those of the frame
    itself), so this smooths the score planes at a small part of their size.
    """

    def __init__(self, smoothing: float) -> None:
        self._smoothing = np.float32(smoothing)
        self._smoothed: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """Forget the frames so far."""
        self._smoothed = None

    def __call__(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """smoothing x the smoothed scores so far + (1 - smoothing) x these, as a new array of their shape."""
        if self._smoothed is None or self._smoothed.shape != scores.shape:
            self._smoothed = scores.copy()
        else:
            self._smoothed *= self._smoothing
            self._smoothed += (1 - self._smoothing) * scores
        return self._smoothed.copy()
