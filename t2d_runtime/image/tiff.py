"""TIFF: writes a new directory of the first picture, with only the tags that its pixels need.

So neither Pillow nor libtiff sees tags that they refuse or warn of. Pillow decodes two kinds of grey wrongly, so they
are corrected after decoding: 12-bit grey, and grey of more than 8 bits where 0 is white.
"""

from __future__ import annotations

import logging
import mmap
import struct
from collections.abc import Collection
from typing import NamedTuple

from t2d_runtime.errors import ImageError
from t2d_runtime.image.orientation import ORIENTATION_TAG
from t2d_runtime.image.sizes import check_size

logger = logging.getLogger(__name__)

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, SAMPLES, ROWS_PER_STRIP, PLANAR, PREDICTOR = 266, 277, 278, 284, 317
TILE_WIDTH, TILE_HEIGHT, INK_SET, SAMPLE_FORMAT = 322, 323, 332, 339
_SINGLE = (
    WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, ROWS_PER_STRIP, PLANAR, PREDICTOR, TILE_WIDTH,
    TILE_HEIGHT, INK_SET,
)  # fmt: skip
STRIP_OFFSETS, STRIP_BYTES, COLOUR_MAP, TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES = 273, 279, 320, 324, 325, 338
_LISTS = (BITS, STRIP_OFFSETS, STRIP_BYTES, COLOUR_MAP, TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT, 530)
_AS_THEY_ARE = (347, *range(512, 522), 529, 532)
"""Tags copied unchanged: JPEG's tables, the parts of old JPEG, and the coefficients of YCbCr."""

SUBFILE_TYPE, REDUCED = 254, 1

_NEEDED = frozenset((*_SINGLE, *_LISTS, *_AS_THEY_ARE, ORIENTATION_TAG, SUBFILE_TYPE))

_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_DOUBLE = 12
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
SIGNED = 2
"""Value of SAMPLE_FORMAT for signed integers."""

_MOST_SAMPLES = 6
"""Most samples a pixel that Pillow decodes."""


Content = bytes | mmap.mmap
"""A whole file."""


class Levels(NamedTuple):
    """Storage of grey of more than 8 bits."""

    bits: int = 16
    white_is_zero: bool = False


class PlainTiff(NamedTuple):
    """A TIFF without its metadata; its orientation; and the storage of its grey."""

    content: bytes
    orientation: int
    levels: Levels


class _Entry(NamedTuple):
    kind: int
    number: int
    value: bytes


def plain_tiff(content: bytes, name: str, limit: int) -> PlainTiff:
    """A TIFF with a new directory for its first picture at its end.

    Raises ImageError for a directory that does not describe a picture, signed samples, and tiles above the limit.
    """
    order = "<" if content[:2] == b"II" else ">"
    entries = _directory(content, order, name)
    (orientation,) = _numbers(entries.pop(ORIENTATION_TAG, _packed((1,), order)), order)[:1] or (1,)
    if SUBFILE_TYPE in entries and (_numbers(entries[SUBFILE_TYPE], order) or (0,))[0] & REDUCED:
        logger.warning("%s: the first picture is a reduced one, as in a camera's raw data; that is read", name)
    numbers = {tag: _numbers(entry, order) for tag, entry in entries.items() if tag in (*_SINGLE, *_LISTS)}
    numbers = {tag: values[:1] if tag in _SINGLE else values for tag, values in numbers.items() if values}
    _check(numbers, name, limit)
    levels = _grey_levels(numbers)
    if levels.bits == 12:
        order = "<"  # the bits are the same in either order, but Pillow only accepts this one
    if levels.white_is_zero:
        numbers[PHOTOMETRIC] = (BLACK_IS_ZERO,)
    kept = {tag: entry for tag, entry in entries.items() if tag in _AS_THEY_ARE}
    kept |= {tag: _packed(values, order) for tag, values in numbers.items()}
    place = len(content) + len(content) % 2
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", place)
    parts = [header, content[8:], bytes(place - len(content)), _written(kept, place, order)]
    return PlainTiff(b"".join(parts), orientation if 1 <= orientation <= 8 else 1, levels)


def numbers_of_tags(content: Content, tags: Collection[int]) -> dict[int, tuple[float, ...]]:
    """The numbers of some tags of a TIFF's first picture: whole ones, or those of 8 bytes with a point."""
    order = "<" if content[:2] == b"II" else ">"
    entries = _directory(content, order, "", tags)
    letters = {**_WHOLE_NUMBERS, _DOUBLE: "d"}
    return {
        tag: struct.unpack(f"{order}{entry.number}{letters[entry.kind]}", entry.value)
        for tag, entry in entries.items()
        if entry.kind in letters
    }


def _directory(content: Content, order: str, name: str, tags: Collection[int] = _NEEDED) -> dict[int, _Entry]:
    """Entries of the first directory with some tags, those that the pixels need, as far as the file goes."""
    big = 43 in content[2:4]
    head, inside = struct.Struct(f"{order}HHQ" if big else f"{order}HHI"), 8 if big else 4
    count, offset = (
        struct.Struct(f"{order}Q" if big else f"{order}H"),
        struct.Struct(f"{order}Q" if big else f"{order}I"),
    )
    entries: dict[int, _Entry] = {}
    try:
        (place,) = offset.unpack_from(content, 8 if big else 4)
        (number,) = count.unpack_from(content, place)
        first, step = place + count.size, head.size + inside
        for start in range(first, min(first + step * number, len(content)), step):
            tag, kind, values = head.unpack_from(content, start)
            if tag not in tags or tag in entries or kind not in _BYTES_OF_TYPE:
                continue
            size, value_place = values * _BYTES_OF_TYPE[kind], start + head.size
            if size > inside:
                (value_place,) = offset.unpack_from(content, value_place)
            value = content[value_place : value_place + size]
            if len(value) == size:
                entries[tag] = _Entry(kind, values, value)
            elif tag in _LISTS:
                raise ImageError(
                    f"{name} cannot be decoded, it may be truncated or damaged: its tag {tag} lies beyond its end"
                )
    except struct.error:  # beyond the file's end: the entries found so far may be enough
        pass
    return entries


def _numbers(entry: _Entry, order: str) -> tuple[int, ...]:
    letter = _WHOLE_NUMBERS.get(entry.kind)
    return struct.unpack(f"{order}{entry.number}{letter}", entry.value) if letter else ()


def _check(numbers: dict[int, tuple[int, ...]], name: str, limit: int) -> None:
    if WIDTH not in numbers or HEIGHT not in numbers:
        raise ImageError(f"{name} cannot be decoded, it may be truncated or damaged: a TIFF without width and height")
    ((width,), (height,)) = numbers[WIDTH], numbers[HEIGHT]
    check_size(width, height, name, limit)
    if TILE_WIDTH in numbers and TILE_HEIGHT in numbers:
        check_size(numbers[TILE_WIDTH][0], numbers[TILE_HEIGHT][0], f"{name}: one of its tiles", limit)
    if ROWS_PER_STRIP in numbers:
        numbers[ROWS_PER_STRIP] = (min(numbers[ROWS_PER_STRIP][0], height),)
    samples = numbers.get(SAMPLES, (1,))[0]
    if samples > _MOST_SAMPLES:
        raise ImageError(f"{name} has {samples} samples a pixel, expected up to {_MOST_SAMPLES}; convert it to RGB")
    if SIGNED in numbers.get(SAMPLE_FORMAT, ()) and numbers.get(BITS, (1,))[0] <= 8:  # Pillow takes these as unsigned
        raise ImageError(f"{name} has signed pixels of unknown range; convert it to 8 bits a channel")


def _grey_levels(numbers: dict[int, tuple[int, ...]]) -> Levels:
    bits, photometric = numbers.get(BITS, (1,))[0], numbers.get(PHOTOMETRIC, (WHITE_IS_ZERO,))[0]
    if numbers.get(SAMPLES, (1,)) != (1,) or bits <= 8 or photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        return Levels()
    return Levels(bits, photometric == WHITE_IS_ZERO)


def _packed(values: tuple[int, ...], order: str) -> _Entry:
    """Whole numbers as an entry. Numbers too large for a TIFF become the largest, which points beyond its end."""
    largest = max(values)
    kind = 3 if largest < 2**16 else 4
    numbers = (min(value, 2**32 - 1) for value in values) if largest >= 2**32 else values
    return _Entry(kind, len(values), struct.pack(f"{order}{len(values)}{_WHOLE_NUMBERS[kind]}", *numbers))


def _written(entries: dict[int, _Entry], place: int, order: str) -> bytes:
    """A directory at `place`, followed by the values that do not fit into it."""
    head, tail = struct.pack(f"{order}H", len(entries)), b""
    behind = place + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        value = entry.value
        if len(value) > 4:
            value = struct.pack(f"{order}I", behind + len(tail))
            tail += entry.value + bytes(len(entry.value) % 2)
        head += struct.pack(f"{order}HHI", tag, entry.kind, entry.number) + value.ljust(4, b"\0")
    return head + bytes(4) + tail
