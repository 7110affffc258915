"""Pictures of a frame for video: the overlay, or the frame and its labels side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from t2d_runtime.results.segmentation import Segmentation

View = Literal["overlay", "side-by-side"]
"""The overlay at the frame's size, or the frame and its labels side by side, twice as wide."""


def checked_view(view: View) -> View:
    """The view, checked. Raises OptionError."""
    if view not in get_args(View):
        raise OptionError(f"view is {view!r}, expected one of {list(get_args(View))}")
    return view


def drawn(result: Segmentation, view: View) -> NDArray[np.uint8]:
    """The picture (H,W,3) or (H,2W,3) uint8 RGB of a result."""
    if view == "overlay":
        return np.asarray(result.overlay(legend=False))
    return np.concatenate([result.image, np.asarray(result.label_image().convert("RGB"))], axis=1)
