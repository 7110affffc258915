"""Reads the EXIF orientation alone, so that nothing else in the metadata, damaged or not, matters."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

ORIENTATION_TAG = 0x0112

EXIF_PREFIX = b"Exif\0\0"

_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""TIFF's types of whole numbers -> struct's letters. The standard requires 3 here; some programs write others."""

_MOST_ENTRIES = 1000
"""Limit of the directory entries that are read; cameras write some tens."""

_MOST_TEXT = 2**20
"""Limit of the bytes unpacked from a compressed text; the orientation is near the beginning."""


def orientation_of(exif: bytes) -> int:
    """The orientation, 1 to 8, in a block of EXIF; 1, as stored, where there is none or it cannot be read."""
    while exif.startswith(EXIF_PREFIX):  # some programs write it twice
        exif = exif[len(EXIF_PREFIX) :]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, place)
        for start in range(place + 2, place + 2 + 12 * min(count, _MOST_ENTRIES), 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, start)
            if tag == ORIENTATION_TAG and kind in _WHOLE_NUMBERS and values >= 1:
                (value,) = struct.unpack_from(f"{order}{_WHOLE_NUMBERS[kind]}", exif, start + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the block ends too early
        pass
    return 1


def exif_in_text(keyword: bytes, text: bytes) -> bytes:
    """The block of EXIF in a text of a PNG, which ImageMagick writes in hexadecimal; empty without one."""
    if keyword.lower() not in (b"raw profile type exif", b"raw profile type app1"):
        return b""
    words = text.split()
    try:
        digits = b"".join(words[2:])  # after the profile's name and its length
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except ValueError:
        return b""


def unpacked(text: bytes) -> bytes:
    """The beginning of a text compressed by zlib; nothing where it is damaged."""
    try:
        return zlib.decompressobj().decompress(text, _MOST_TEXT)
    except zlib.error:
        return b""


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels (H,W,3) rotated or mirrored by an EXIF orientation, contiguous in memory."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
