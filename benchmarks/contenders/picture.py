"""The photograph of every measurement. It comes with scikit-image, so that any machine has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.preprocess import resize


def photograph(size: tuple[int, int]) -> NDArray[np.uint8]:
    """The photograph (height, width, 3) RGB."""
    from skimage import data

    return resize(data.astronaut(), size)  # type: ignore[no-untyped-call]
