"""Limit of a picture's pixels, checked before memory is used for them."""

from __future__ import annotations

import os

from t2d_runtime.checks import is_whole
from t2d_runtime.errors import ImageError, ImageSizeError, OptionError

MAX_PIXELS = 1024**3 // 4 // 3
"""Largest picture read by default: Pillow's own limit, above which it suspects a decompression bomb.

That is 89 megapixels, a quarter of a gibibyte of RGB.
"""

MAX_PIXELS_VARIABLE = "T2D_MAX_PIXELS"
"""Environment variable that replaces `MAX_PIXELS` in a whole process."""

BYTES_PER_PIXEL = 16
"""A file with more bytes than this for each allowed pixel is not read. Uncompressed 16-bit RGBA has 8."""


MOST_DIGITS = 18
"""Most digits of T2D_MAX_PIXELS."""


def pixel_limit(max_pixels: int | None) -> int:
    """The most pixels a picture may have: `max_pixels`, else T2D_MAX_PIXELS, else MAX_PIXELS.

    Raises OptionError for anything but a whole number from 1.
    """
    if max_pixels is not None:
        if not is_whole(max_pixels, 1):
            raise OptionError(f"max_pixels is {max_pixels!r:.80}, expected a whole number from 1")
        return int(max_pixels)
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    # Python reads no number of thousands of digits.
    if not (text.isascii() and text.isdigit()) or len(text) > MOST_DIGITS or int(text) < 1:
        raise OptionError(f"{MAX_PIXELS_VARIABLE} is {text!r:.40}, expected a whole number from 1")
    return int(text)


def check_size(width: int, height: int, name: str, limit: int) -> None:
    """Raises ImageError for a picture without pixels, ImageSizeError for one with more than the limit."""
    if width * height == 0:
        raise ImageError(f"{name} has {width} x {height} pixels, expected at least one")
    if width * height > limit:
        raise ImageSizeError(
            f"{name} has {width} x {height} pixels, more than the limit of {limit}; make it smaller, or raise the "
            f"limit with max_pixels or {MAX_PIXELS_VARIABLE} where you know the file"
        )
