"""Overlays, legends, label pictures and their colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime.results import label_map as label_maps
from t2d_runtime.results.legend import MAX_NAME_LENGTH
from t2d_runtime.results.palette import linear_rgb, oklab, palette, text_colour
from t2d_runtime.results.visualize import label_colours, label_image, overlay


def scene(height: int, width: int, labels: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A grey image in vertical stripes, one a label."""
    stripes = (np.arange(width) * labels // width).astype(np.uint8)
    return np.full((height, width, 3), 128, np.uint8), np.tile(stripes, (height, 1))


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture)


def names(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 1000), (1000, 1), (28, 28), (300, 400), (1500, 2000)])
def test_the_image_keeps_its_place_and_size_at_any_size(height: int, width: int) -> None:
    image, label_map = scene(height, width, 3)
    picture = overlay(image, label_map, names(3), background=True)
    assert picture.mode == "RGB"
    assert picture.width >= width
    assert picture.height > height
    inside = pixels(picture)[:height, :width].astype(int)
    untouched = (label_map == 0) & (inside != 255).all(axis=2)
    np.testing.assert_array_equal(inside[untouched], 128)


def test_labels_are_tinted_with_their_colours_and_parted_by_white_lines() -> None:
    image, label_map = scene(200, 300, 2)
    result = pixels(overlay(image, label_map, names(2), background=False))[:200, :300]
    colours = palette(2).astype(int)
    np.testing.assert_allclose(result[50, 50], (128 + colours[0]) / 2, atol=1)
    np.testing.assert_allclose(result[50, 250], (128 + colours[1]) / 2, atol=1)
    white = (result == 255).all(axis=2)
    assert np.flatnonzero(white.all(axis=0)).tolist() == [150]
    assert white.sum() == 200


def test_the_legend_has_the_labels_present_the_largest_first() -> None:
    image = np.zeros((200, 600, 3), np.uint8)
    label_map = np.full((200, 600), 3, np.uint8)
    label_map[:, :100] = 1
    legend = pixels(overlay(image, label_map, names(5), background=True))[200:]
    colours = label_colours(5, background=True)
    areas = [(legend == colour).all(axis=2).sum() for colour in colours]
    assert areas[3] > 0
    assert areas[1] > 0
    assert areas[0] == areas[2] == areas[4] == 0
    first_column = [np.flatnonzero((legend == colours[label]).all(axis=2).any(axis=0))[0] for label in (3, 1)]
    assert first_column[0] < first_column[1]


def test_the_legend_grows_with_names_and_cuts_long_ones() -> None:
    image, label_map = scene(100, 400, 40)
    few = overlay(image, np.zeros_like(label_map), names(40), background=False)
    many = overlay(image, label_map, names(40), background=False)
    assert many.height > few.height
    assert many.width == 400
    longest = overlay(image, label_map, ["m" * MAX_NAME_LENGTH] * 40, background=False)
    cut = overlay(image, label_map, ["m" * 500] * 40, background=False)
    assert cut.width <= longest.width + 20


def test_the_legend_s_text_can_be_read() -> None:
    """The plate holds pixels of the text's colour, whose contrast ratio is that of readable text (WCAG 2, AA)."""
    image = np.zeros((400, 600, 3), np.uint8)
    for label, colour in enumerate(palette(50)):
        legend = pixels(overlay(image, np.full((400, 600), label, np.uint8), ["word"] * 50, background=False))[400:]
        assert (legend == text_colour(colour)).all(axis=2).any()
        luminances = [linear_rgb(np.array(c)) @ [0.2126, 0.7152, 0.0722] for c in (colour, text_colour(colour))]
        assert (max(luminances) + 0.05) / (min(luminances) + 0.05) > 4.5


def test_the_same_input_gives_the_same_picture() -> None:
    image, label_map = scene(50, 60, 4)
    first, second = (overlay(image, label_map, names(4), background=True).tobytes() for _ in range(2))
    assert first == second


# Colours


def test_colours_are_distinct_and_a_shorter_palette_starts_a_longer_one() -> None:
    longest = palette(300)
    assert longest.shape == (300, 3)
    assert longest.dtype == np.uint8
    assert len(np.unique(longest, axis=0)) == 300
    for count in (0, 1, 20, 256):
        np.testing.assert_array_equal(palette(count), longest[:count])
    lab = oklab(palette(20))
    apart = np.linalg.norm(lab[:, np.newaxis] - lab, axis=2)[np.triu_indices(20, 1)]
    assert apart.min() > 0.1  # ten times what an eye tells apart side by side
    assert palette(10_000).shape == (10_000, 3)


def test_a_class_has_one_colour_with_and_without_background() -> None:
    np.testing.assert_array_equal(label_colours(8, background=True)[1:], label_colours(7, background=False))


@pytest.mark.parametrize(("colour", "expected"), [((255, 255, 0), (0, 0, 0)), ((0, 0, 200), (255, 255, 255))])
def test_text_is_black_on_light_and_white_on_dark(colour: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert text_colour(np.array(colour, np.uint8)) == expected


# Label pictures


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("count", [1, 3, 256])
def test_a_palette_picture_holds_the_labels(tmp_path: Any, count: int, background: bool) -> None:
    label_map = np.arange(count, dtype=np.uint8).reshape(1, count)
    label_image(label_map, count, background=background).save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), label_map)
        shown = np.asarray(picture.convert("RGB"))[0]
    expected = label_colours(count, background=background)
    if background:
        expected[0] = 0
    np.testing.assert_array_equal(shown, expected)


def test_many_labels_are_sixteen_bit_grey(tmp_path: Any) -> None:
    label_map = np.array([[0, 256, 9999]], np.uint16)
    label_image(label_map, 10_000, background=False).save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), label_map)


# Large pictures


@pytest.mark.parametrize("legend", [False, True])
@pytest.mark.parametrize("side", [40, 1700])
def test_an_overlay_is_the_same_in_bands(monkeypatch: pytest.MonkeyPatch, side: int, legend: bool) -> None:
    """Contours of several pixels reach into the band above."""
    rng = np.random.default_rng(0)
    label_map = (
        rng.integers(0, 3, (-(-side // 13), 5)).astype(np.uint8).repeat(13, axis=0)[:side].repeat(side // 5, axis=1)
    )
    image = rng.integers(0, 256, (*label_map.shape, 3), np.uint8)
    monkeypatch.setattr(label_maps, "BAND", 1 << 30)
    whole = pixels(overlay(image, label_map, names(3), background=True, legend=legend))
    monkeypatch.setattr(label_maps, "BAND", 7 * side)
    np.testing.assert_array_equal(pixels(overlay(image, label_map, names(3), background=True, legend=legend)), whole)


@pytest.mark.parametrize("legend", [False, True])
def test_an_overlay_makes_no_second_array_of_the_picture(legend: bool) -> None:
    import tracemalloc

    image, label_map = scene(2000, 3000, 3)
    overlay(image[:9], label_map[:9], names(3), background=True, legend=legend)
    tracemalloc.start()
    overlay(image, label_map, names(3), background=True, legend=legend)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < image.nbytes  # Pillow's own picture is not counted
