"""Geometry of the sliding window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2d_runtime.bundle.manifest import WindowSettings
from t2d_runtime.image.windows import Window, cut_windows, resized_size, stitch, window_boxes

PUBLISHED = WindowSettings(short_side=448, max_long_side=2048, crop_size=(448, 448), stride=(224, 224))


@st.composite
def settings_of_windows(draw: st.DrawFn) -> WindowSettings:
    crop = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    stride = draw(st.integers(1, crop[0])), draw(st.integers(1, crop[1]))
    short = draw(st.integers(1, 40))
    return WindowSettings(short, draw(st.integers(short, 80)), crop, stride)


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((448, 448), (448, 448)),
        ((400, 600), (448, 672)),
        ((600, 400), (672, 448)),
        ((100, 333), (448, 1492)),  # 1491.84
        ((1000, 4001), (448, 1792)),  # 1792.448
        ((1, 1000), (2, 2048)),  # the long side decides
        ((1, 6000), (1, 2048)),  # 0.34 of a pixel
        ((6000, 4000), (672, 448)),
    ],
)
def test_the_working_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(size, PUBLISHED) == expected


@pytest.mark.parametrize(
    ("size", "tops", "lefts"),
    [
        ((448, 448), [0], [0]),
        ((448, 672), [0], [0, 224]),
        ((448, 673), [0], [0, 224, 225]),
        ((700, 448), [0, 224, 252], [0]),
        ((30, 500), [0], [0, 52]),
    ],
)
def test_windows_of_the_published_setting(size: tuple[int, int], tops: list[int], lefts: list[int]) -> None:
    boxes = window_boxes(size, PUBLISHED)
    height, width = min(448, size[0]), min(448, size[1])
    assert boxes == tuple(Window(top, left, height, width) for top in tops for left in lefts)


@given(sizes, settings_of_windows())
def test_windows_have_one_size_lie_inside_and_cover_every_pixel(size: tuple[int, int], windows: WindowSettings) -> None:
    boxes = window_boxes(size, windows)
    covered = np.zeros(size, bool)
    for top, left, height, width in boxes:
        assert (height, width) == (min(size[0], windows.crop_size[0]), min(size[1], windows.crop_size[1]))
        assert top >= 0
        assert left >= 0
        assert top + height <= size[0]
        assert left + width <= size[1]
        covered[top : top + height, left : left + width] = True
    assert covered.all()
    assert len(set(boxes)) == len(boxes)


@given(sizes, settings_of_windows())
def test_the_working_size_keeps_the_sides_within_their_limits(size: tuple[int, int], windows: WindowSettings) -> None:
    short, long = sorted(resized_size(size, windows))
    assert 1 <= short <= windows.short_side
    assert long <= windows.max_long_side
    assert short == windows.short_side or long == windows.max_long_side


@given(sizes, settings_of_windows(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_stitching_what_was_cut_gives_it_back(size: tuple[int, int], windows: WindowSettings, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    boxes = window_boxes(size, windows)
    crops = cut_windows(image, boxes)
    stitched = stitch((crop.transpose(2, 0, 1).astype(np.float32) for crop in crops), boxes, (3, *size))
    np.testing.assert_allclose(stitched, image.transpose(2, 0, 1), rtol=1e-6)


def test_overlaps_are_averaged() -> None:
    boxes = (Window(0, 0, 1, 2), Window(0, 1, 1, 2))
    stitched = stitch([np.full((1, 1, 2), value, np.float32) for value in (1, 4)], boxes, (1, 1, 3))
    np.testing.assert_array_equal(stitched, [[[1, 2.5, 4]]])


def test_a_missing_window_or_plane_is_an_error() -> None:
    boxes = (Window(0, 0, 1, 2), Window(0, 1, 1, 2))
    with pytest.raises(ValueError, match="argument 2 is longer"):
        stitch([np.zeros((1, 1, 2), np.float32)], boxes, (1, 1, 3))
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        stitch([np.zeros((1, 1, 2), np.float32)] * 2, boxes, (2, 1, 3))
