"""Pictures that end early: read with a warning where every pixel is there, or where the caller allows it."""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from t2d_runtime.errors import ImageError
from t2d_runtime.image.reading import load_image
from tests.runtime.picture_files import encoded, picture

RGB = picture(120, 160)
NOISE = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)

JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 3},
    "restart markers, rows": {"restart_marker_rows": 1},
    "no subsampling": {"subsampling": 0},
}


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_end_marker_is_read(
    mode: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    content, warned = encoded(Image.fromarray(RGB).convert(mode), "JPEG", **options), 0
    for end in (-2, -1):
        cut = content[:end]
        for given in (cut, Image.open(io.BytesIO(cut))):
            caplog.clear()
            np.testing.assert_array_equal(load_image(given), load_image(content))
            # libjpeg does not always look for the marker; half of one is enough for it.
            assert all("has no end marker; every pixel is there" in text for text in caplog.messages)
            warned += len(caplog.messages)
    assert warned or (mode, options) == ("RGB", {})


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("image", [RGB, NOISE], ids=["smooth", "noise"])
def test_a_jpeg_without_its_last_pixels_is_refused(image: Any, options: dict[str, Any]) -> None:
    content = encoded(image, "JPEG", **options)
    start = content.index(b"\xff\xda")
    for cut in (*range(len(content) - 12, len(content) - 4), (start + len(content)) // 2, start + 20):
        if not np.array_equal(load_image(content[:cut] + b"\xff\xd9"), load_image(content)):
            with pytest.raises(ImageError, match="cannot be decoded, it may be truncated"):
                load_image(content[:cut])


def test_a_progressive_jpeg_without_its_last_scan_is_refused() -> None:
    """Every pixel is there, but coarser."""
    content = encoded(RGB, "JPEG", progressive=True)
    with pytest.raises(ImageError, match="cannot be decoded, it may be truncated"):
        load_image(content[: content.rindex(b"\xff\xc4")])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "TGA"])
def test_what_there_is_of_a_truncated_picture_is_read_where_allowed(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"JPEG": {"quality": 95}, "GIF": {"interlace": 0}}.get(kind, {})
    whole = encoded(Image.fromarray(NOISE).quantize(64) if kind == "GIF" else NOISE, kind, **options)
    cut = whole[: len(whole) * 3 // 4]
    with pytest.raises(ImageError, match="truncated"):
        load_image(cut)
    expected = load_image(whole)
    for given in (cut, Image.open(io.BytesIO(cut))):
        caplog.clear()
        pixels = load_image(given, allow_truncated=True)
        assert pixels.shape == (120, 160, 3)
        rows = (pixels == expected).all((1, 2))  # BMP and TGA begin at the bottom
        assert rows[:60].all() or rows[60:].all()
        assert not np.array_equal(pixels, expected)
        assert "is truncated or damaged" in caplog.text
        assert caplog.records[-1].levelno == logging.WARNING
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_an_image_read_in_part_is_not_taken_for_whole_afterwards(kind: str) -> None:
    content = encoded(Image.fromarray(NOISE).quantize(64) if kind == "GIF" else NOISE, kind)
    image = Image.open(io.BytesIO(content[: len(content) // 2]))
    for allowed in (True, False, True, False):
        if allowed:
            assert load_image(image, allow_truncated=True).shape == (120, 160, 3)
        else:
            with pytest.raises(ImageError, match="truncated"):
                load_image(image)


def test_what_has_no_pixels_is_refused_even_where_truncation_is_allowed() -> None:
    for content in (b"", b"\xff\xd8\xff", encoded(RGB, "PNG")[:30], encoded(RGB, "WEBP")[:100], b"text"):
        with pytest.raises(ImageError):
            load_image(content, allow_truncated=True)


def test_whole_pictures_are_read_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("JPEG", "PNG", "TIFF"):
        load_image(encoded(RGB, kind), allow_truncated=True)
    assert not caplog.records
