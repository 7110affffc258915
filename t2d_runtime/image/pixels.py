"""Converts a decoded picture of any Pillow mode to RGB, with one rule for each kind of pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime.errors import ImageError
from t2d_runtime.image.tiff import Levels

SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
"""Formats whose pictures of Pillow's mode I, which are 32-bit integers, hold 16-bit grey."""

_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


def rgb_of_image(image: Image.Image, name: str, levels: Levels) -> NDArray[np.uint8]:
    """A loaded picture as a new array (H,W,3) uint8, not rotated.

    Transparency is shown on white. Grey of more than 8 bits is scaled from the range that `levels` gives.
    Raises ImageError for pixels of unknown range.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS):
        return _rgb_of_wide_grey(np.asarray(image), levels, image.info.get("transparency"))
    if image.mode in ("I", "F"):
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise ImageError(f"{name} has {kind} pixels of unknown range; convert it to 8 bits a channel")
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode in ("P", "PA") and image.palette is None:  # from an icon of Apple's
        image = image.copy()
    if image.has_transparency_data:
        return on_white(image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def on_white(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of mode RGBA over white, as image viewers show it."""
    return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def rgb_of_grey(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (H,W,3) of grey (H,W)."""
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def levels_of(image: Image.Image) -> Levels:
    """Storage of a picture's grey, from a TIFF's tags. Pillow keeps them until the picture is copied or converted."""
    tags: Any = getattr(image, "tag_v2", None) or {}
    bits, photometric = tags.get(258, ()), tags.get(262)
    bits = bits[0] if isinstance(bits, tuple) and bits else bits
    white_is_zero = photometric == 0 and image.mode.startswith("I;16")
    return Levels(bits if isinstance(bits, int) and 8 < bits <= 16 else 16, white_is_zero)


def _rgb_of_wide_grey(grey: NDArray[Any], levels: Levels, transparent: object) -> NDArray[np.uint8]:
    """RGB of grey of 9 to 16 bits, rounded to 8; Pillow keeps some of it in 32-bit integers."""
    largest = (1 << levels.bits) - 1
    values = np.minimum(np.arange(2**16), largest)
    if levels.white_is_zero:
        values = largest - values
    narrow = ((values * 255 + largest // 2) // largest).astype(np.uint8)
    if isinstance(transparent, int) and 0 <= transparent < 2**16:
        narrow[transparent] = 255
    return rgb_of_grey(narrow[grey if grey.dtype.itemsize == 2 else np.clip(grey, 0, 2**16 - 1)])
