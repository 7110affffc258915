"""The runtime's resizes against OpenCV and torchvision, which it does without."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms import functional

from t2d_runtime.bundle.manifest import Preprocessing
from t2d_runtime.image.preprocess import resize, to_pixel_values

sizes = st.tuples(st.integers(1, 100), st.integers(1, 100))
PLAIN = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))


def picture(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@given(sizes, sizes, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=300)
def test_resize_equals_opencv(size: tuple[int, int], target: tuple[int, int], seed: int) -> None:
    image = picture(size, seed)
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize(image, target), expected)


@given(sizes, sizes, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_pixel_values_equal_torchvision(size: tuple[int, int], target: tuple[int, int], seed: int) -> None:
    windows = picture(size, seed)[np.newaxis]
    planes = torch.from_numpy(windows).permute(0, 3, 1, 2).float().contiguous()
    expected = functional.resize(planes, list(target), antialias=True).numpy() / 255
    # Float rounding of positions up to 100 pixels.
    np.testing.assert_allclose(to_pixel_values(windows, target, PLAIN), expected, rtol=0, atol=2e-5)
