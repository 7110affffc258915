"""Scores smoothed over time, so that labels do not flicker."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.windows import Window
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.streams.motion import SCALE, motion_between, sampled, small_picture

FINER = 2
"""Smoothed scores per patch and axis. Scores that follow a motion are sampled between patches, in every frame anew: on
the patches themselves that would blur small things away."""

UNEXPLAINED = 12.0
"""Levels of 255 of the difference that the motion leaves, from which the scores so far count less; from twice as many
they do not count. With 8 or 16, drawn clips look about the same."""

SURPRISING = 4.0
"""Change of a patch's scores, in changes of the frame's median patch, from which the scores so far count less, up to
twice as much. Where the picture shows something else, and not its noise, the new scores count."""


class _Before(NamedTuple):
    """The frame before."""

    picture: NDArray[np.float32]
    """(h,w,3), small."""
    scores: NDArray[np.float32]
    """(W,h,w,N), smoothed: the scores of each window, FINER than its patches."""


class Smoothing:
    """Exponential smoothing of patch scores over the frames of one source, along the motion of the picture.

    The smoothed scores so far move as the picture does, be it the camera or a thing that moves. They count less where
    the motion does not explain the picture, where they come from outside of it, and where scores change by more than
    their noise. So nothing gets a trail, and as the patches see the scene from ever other places, edges become finer.

    Every step from patch scores to labels but the arg max is linear in them (PAMR's weights are those of the frame
    itself), so this smooths the score planes at a small part of their size.
    """

    def __init__(self, smoothing: float) -> None:
        self._smoothing = np.float32(smoothing)
        self._before: _Before | None = None

    def reset(self) -> None:
        """Forget the frames so far."""
        self._before = None

    def smooth(
        self, resized: NDArray[np.uint8], windows: tuple[Window, ...], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The smoothed scores of the next frame, a new array, finer (W,N,2h-1,2w-1); of the first frame as they are.

        `resized` (H,W,3) is its picture at the working size, `scores` (W,N,h,w) those of its windows. Between them the
        finer ones are as `upsample` with aligned corners gives them: that alone changes no label.
        """
        size = tuple(FINER * (side - 1) + 1 for side in scores.shape[2:])
        new = np.stack([upsample(planes, (size[0], size[1]), align_corners=True) for planes in scores])
        new = np.ascontiguousarray(new.transpose(0, 2, 3, 1))
        picture = small_picture(resized)
        before, self._before = self._before, _Before(picture, new)
        if before is None or before.picture.shape != picture.shape or before.scores.shape != new.shape:
            return scores.copy()
        old, trust = self._moved(before, picture, windows)
        change = np.abs(new - old).max(axis=3)
        usual = max(float(np.median(change)), 1e-6)
        trust *= np.clip(2 - change / (SURPRISING * usual), 0, 1)
        new += (self._smoothing * trust)[..., np.newaxis] * (old - new)
        return new.transpose(0, 3, 1, 2).copy()

    @staticmethod
    def _moved(
        before: _Before, picture: NDArray[np.float32], windows: tuple[Window, ...]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The scores before, moved as the picture (W,h,w,N), and how far they can be trusted, 0 to 1 (W,h,w)."""
        motion = motion_between(before.picture, picture)
        fields = np.concatenate([SCALE * motion.shifts, motion.unexplained[..., np.newaxis]], axis=2)
        height, width = before.scores.shape[1:3]
        old, trust = np.empty_like(before.scores), np.empty(before.scores.shape[:3], np.float32)
        for window, box in enumerate(windows):
            step = np.array([max(box.height - 1, 1) / max(height - 1, 1), max(box.width - 1, 1) / max(width - 1, 1)])
            rows, columns = np.indices((height, width)) * np.reshape(step, (2, 1, 1))
            places = ((rows + box.top + 0.5) / SCALE - 0.5, (columns + box.left + 0.5) / SCALE - 0.5)
            found = sampled(fields, *(np.asarray(place, np.float32) for place in places))
            from_rows = np.asarray((rows - found[..., 0]) / step[0], np.float32)
            from_columns = np.asarray((columns - found[..., 1]) / step[1], np.float32)
            old[window] = sampled(before.scores[window], from_rows, from_columns)
            inside = (np.abs(2 * from_rows - height + 1) <= height) & (np.abs(2 * from_columns - width + 1) <= width)
            trust[window] = inside * np.clip(2 - found[..., 2] / UNEXPLAINED, 0, 1)
        return old, trust
