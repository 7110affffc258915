"""Sliding windows: the working size of an image, the windows that cover it, and the stitching of their scores.

Geometry of the evaluation in Talk2DINO's released code, which is mmsegmentation's: `Resize` with kept aspect
ratio and `slide_inference`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import WindowSettings
from t2d_runtime.errors import OptionError

WindowMode = Literal["slide", "whole"]
"""Sliding windows as published, or the resized image as one window."""


def checked_window(window: WindowMode) -> WindowMode:
    """The window mode, checked. Raises OptionError for any other value."""
    if not isinstance(window, str) or window not in get_args(WindowMode):
        raise OptionError(f"window is {window!r:.80}, expected one of {list(get_args(WindowMode))}")
    return window


class Window(NamedTuple):
    """A rectangle of the resized image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def region(self) -> tuple[slice, slice]:
        """Its rows and columns of the resized image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def size_of(image: NDArray[Any]) -> tuple[int, int]:
    """The (height, width) of an image (H,W,3) or of a label map (H,W)."""
    return image.shape[0], image.shape[1]


def resized_size(size: tuple[int, int], settings: WindowSettings) -> tuple[int, int]:
    """The (height, width) at which an image of this (height, width) is segmented.

    The short side becomes `short_side` unless the long side would exceed `max_long_side`. Each side is
    rounded half up, as mmcv's `rescale_size` does, and is at least one pixel.
    """
    short, long = sorted(size)
    scale = min(settings.max_long_side / long, settings.short_side / short)
    height, width = (max(1, math.floor(side * scale + 0.5)) for side in size)
    return height, width


def window_boxes(size: tuple[int, int], settings: WindowSettings) -> tuple[Window, ...]:
    """Windows that cover an image of this (height, width), row by row; all have the same size.

    Windows start every `stride` pixels. The last one of a row or column is shifted inwards to end at the border.
    A side shorter than `crop_size` is not padded: the windows are then as short as the side.
    """
    height, width = (min(side, crop) for side, crop in zip(size, settings.crop_size, strict=True))
    tops = _starts(size[0], height, settings.stride[0])
    lefts = _starts(size[1], width, settings.stride[1])
    return tuple(Window(top, left, height, width) for top in tops for left in lefts)


def cut_windows(image: NDArray[np.uint8], boxes: Sequence[Window]) -> NDArray[np.uint8]:
    """The windows (W,h,w,3) of an image (H,W,3); all boxes have one size."""
    return np.stack([image[box.top : box.top + box.height, box.left : box.left + box.width] for box in boxes])


def stitch(
    windows: Iterable[Iterable[NDArray[np.float32]]], boxes: Sequence[Window], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Mean of the windows' scores at every pixel, as planes of a `shape` (N,H,W).

    Each window, in the order of `boxes`, is N planes (h,w): an array (N,h,w), or a generator, so that few planes exist
    at a time. Raises ValueError where windows or planes are missing or too many.
    """
    stitched = np.zeros(shape, np.float32)
    seen_by = np.zeros(shape[1:], np.float32)
    for planes, box in zip(windows, boxes, strict=True):
        for whole, plane in zip(stitched, planes, strict=True):
            whole[box.region] += plane
        seen_by[box.region] += 1
    stitched /= seen_by
    return stitched


def _starts(side: int, crop: int, stride: int) -> list[int]:
    """First pixels of the windows along one side."""
    number = -(-(side - crop) // stride) + 1
    return [min(index * stride, side - crop) for index in range(number)]
