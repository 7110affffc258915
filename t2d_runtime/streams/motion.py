"""Motion from one frame to the next: how far each part of the picture moved, found in small pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SCALE = 4
"""Pixels of the working size in a pixel of the small pictures. Of 2 to 7 tried, motion in these served scores best: the
grain is gone, and a patch has three or four of them a side."""

REACH = 3
"""The largest motion found, in small pixels a frame: 12 pixels of the working size."""

COST_OF_MOVING = 0.3
"""Levels of 255 by which a motion must fit better, for each small pixel that it differs from the whole picture's. Flat
areas fit any motion, and so move with the rest. A third or three times as much makes no difference."""

TIE = 1e-3
"""The same for the whole picture, which has no other to move with: flat ones stand still."""


class Motion(NamedTuple):
    """The way from one small picture to the next."""

    shifts: NDArray[np.float32]
    """(h,w,2): how far each part came, in small pixels down and to the right."""
    unexplained: NDArray[np.float32]
    """(h,w): the difference that is left after the motion, 0 to 255. Large where something came into sight."""


def small_picture(resized: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean colours (h,w,3), 0 to 255, of SCALE x SCALE pixels of an image (H,W,3) at the working size."""
    from PIL import Image

    return np.asarray(Image.fromarray(resized).reduce(SCALE), np.float32)


def motion_between(before: NDArray[np.float32], now: NDArray[np.float32]) -> Motion:
    """The motion from one small picture (h,w,3) to the next, of the same size: all shifts are compared everywhere."""
    shifts = _shifts(before.mean(axis=2), now.mean(axis=2))
    rows, columns = np.indices(now.shape[:2], np.float32)
    difference = now - sampled(before, rows - shifts[..., 0], columns - shifts[..., 1])
    unexplained: NDArray[np.float32] = np.abs(_blurred(difference.transpose(2, 0, 1))).mean(axis=0)
    return Motion(shifts, unexplained)


def _shifts(before: NDArray[np.float32], now: NDArray[np.float32]) -> NDArray[np.float32]:
    """The shift (h,w,2) at which grey pictures (h,w) fit best around each pixel, to fractions of a pixel."""
    side = 2 * REACH + 1
    # [i, j] is the picture before, moved down by REACH - i and to the right by REACH - j. It is mirrored at its border,
    # where a still picture then fits ways in and out alike.
    moved = np.lib.stride_tricks.sliding_window_view(np.pad(before, REACH, mode="reflect"), now.shape)
    misfit = _blurred(np.abs(np.subtract(moved, now, dtype=np.float32)))
    around = np.indices((side, side))
    # Where all shifts fit alike, nothing moved.
    whole_picture = misfit.mean(axis=(2, 3)) + TIE * np.hypot(*(around - REACH))
    camera = np.unravel_index(whole_picture.argmin(), whole_picture.shape)
    away = np.hypot(*(around - np.reshape(camera, (2, 1, 1))))
    favoured = misfit + np.float32(COST_OF_MOVING) * away[:, :, np.newaxis, np.newaxis].astype(np.float32)
    best = np.divmod(favoured.reshape(side * side, -1).argmin(axis=0).reshape(now.shape), side)
    fractions = [_fraction(misfit, best, axis) for axis in (0, 1)]
    shifts = [REACH - whole - part for whole, part in zip(best, fractions, strict=True)]
    return np.stack(shifts, axis=-1).astype(np.float32)


def _fraction(
    misfit: NDArray[np.float32], best: tuple[NDArray[np.intp], NDArray[np.intp]], axis: int
) -> NDArray[np.float32]:
    """The place of the least misfit between the neighbours along one axis, -0.5 to 0.5.

    Where two lines of one slope, falling and rising, meet, as differences of smooth pictures do. A parabola would draw
    slow motions to none.
    """
    place = np.indices(best[0].shape)

    def beside(step: int) -> NDArray[np.float32]:
        index = [best[0], best[1]]
        index[axis] = np.clip(index[axis] + step, 0, 2 * REACH)
        found: NDArray[np.float32] = misfit[index[0], index[1], place[0], place[1]]
        return found

    below, here, above = beside(-1), beside(0), beside(1)
    fraction = np.clip((below - above) / np.maximum(2 * (np.maximum(below, above) - here), 1e-6), -0.5, 0.5)
    inside = (best[axis] > 0) & (best[axis] < 2 * REACH)
    return np.asarray(np.where(inside, fraction, 0), np.float32)


def _blurred(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Planes (...,h,w), each pixel mixed with its neighbours: 1, 2, 1 along both axes."""
    around = [(0, 0)] * (planes.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(planes, around, mode="edge")
    wide = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return np.asarray((wide[..., :-2, :] + 2 * wide[..., 1:-1, :] + wide[..., 2:, :]) / 16, np.float32)


def sampled(
    values: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Values (h,w,C) at places between them, (...,C), bilinear; beyond the border, those of the border."""
    height, width, channels = values.shape
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down = (rows - top).astype(np.float32)[..., np.newaxis]
    right = (columns - left).astype(np.float32)[..., np.newaxis]
    bottom, other = np.minimum(top + 1, height - 1) * width, np.minimum(left + 1, width - 1)
    top *= width
    flat = values.reshape(height * width, channels)
    upper, lower = (_between(flat[line + left], flat[line + other], right) for line in (top, bottom))
    return _between(upper, lower, down)


def _between(one: NDArray[np.float32], other: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """A share of the other and the rest of the one, which is changed."""
    other -= one
    other *= share
    one += other
    return one
