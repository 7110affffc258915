"""Bilinear resizing of planes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from t2d_runtime.masks.upsample import upsample

GOLDEN = Path(__file__).parents[1] / "golden"
SCORE_TOLERANCE = 1e-5

shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
sizes = st.tuples(st.integers(1, 30), st.integers(1, 30))


def planes_of(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", ["vitb14_reg4_448_astronaut", "vits14_448_coffee", "vits14_reg4_518_coffee"])
def test_masks_and_labels_equal_the_released_code(name: str, background: bool) -> None:
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden: dict[str, Any] = dict(file)
    key = f"mask_bg{background:d}_pamr0"
    planes = upsample(golden["scores_cleaned" if background else "scores"], (448, 448), align_corners=True)
    np.testing.assert_allclose(planes[:, ::12, ::12], golden[key], rtol=0, atol=SCORE_TOLERANCE)
    if background:
        threshold = json.loads(str(golden["meta"]))["background_threshold"]
        planes = np.concatenate([np.full((1, 448, 448), threshold, np.float32), planes])
    wrong = planes.argmax(axis=0) != golden[f"{key}_labels"]
    assert not wrong[golden[f"{key}_certain"]].any()


@pytest.mark.parametrize(
    ("align_corners", "expected"),
    [(True, [0, 1 / 3, 2 / 3, 1]), (False, [0, 0.25, 0.75, 1])],
)
def test_two_samples_to_four(align_corners: bool, expected: list[float]) -> None:
    plane = np.array([[[0, 1]]], np.float32)
    np.testing.assert_allclose(upsample(plane, (1, 4), align_corners=align_corners), [[expected]], atol=1e-6)
    tall = upsample(plane.transpose(0, 2, 1), (4, 1), align_corners=align_corners)
    np.testing.assert_allclose(tall[0, :, 0], expected, atol=1e-6)


@given(shapes, sizes, st.booleans(), st.floats(0, 1, width=32, allow_subnormal=False))
@settings(deadline=None)
def test_a_constant_stays_constant(
    shape: tuple[int, int, int], size: tuple[int, int], align_corners: bool, value: float
) -> None:
    result = upsample(np.full(shape, value, np.float32), size, align_corners=align_corners)
    assert result.shape == (shape[0], *size)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, value, rtol=3e-7)


@given(shapes, sizes, st.booleans())
@settings(deadline=None)
def test_each_plane_alone_within_its_range(
    shape: tuple[int, int, int], size: tuple[int, int], align_corners: bool
) -> None:
    planes = planes_of(shape)
    result = upsample(planes, size, align_corners=align_corners)
    for plane, own in zip(planes, result, strict=True):
        np.testing.assert_array_equal(upsample(plane[np.newaxis], size, align_corners=align_corners)[0], own)
        assert plane.min() - 1e-6 <= own.min()
        assert own.max() <= plane.max() + 1e-6


@given(shapes, st.booleans())
def test_the_same_size_is_the_same(shape: tuple[int, int, int], align_corners: bool) -> None:
    planes = planes_of(shape)
    np.testing.assert_allclose(upsample(planes, shape[1:], align_corners=align_corners), planes, atol=1e-6)


@given(shapes, sizes)
@settings(deadline=None)
def test_with_align_corners_the_corners_stay(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    planes = planes_of(shape)
    result = upsample(planes, size, align_corners=True)
    np.testing.assert_allclose(result[:, 0, 0], planes[:, 0, 0], rtol=1e-6)
    if min(size) > 1:
        np.testing.assert_allclose(result[:, -1, -1], planes[:, -1, -1], rtol=1e-5)
