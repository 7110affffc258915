"""Encoded pictures, written by hand where Pillow would refuse to write them so."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHORT, LONG, ASCII, FLOAT = 3, 4, 2, 11

Entry = tuple[int, int, int, bytes]
"""Tag, type, number of values, and four bytes of values or of an offset."""


def picture(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """RGB that survives JPEG and shows how it is turned: smooth, all four corners different."""
    down, along = np.linspace(0, 1, height)[:, np.newaxis], np.linspace(0, 1, width)[np.newaxis]
    planes = (40 + 200 * down + 0 * along, 230 - 200 * along + 0 * down, 60 + 120 * down * along)
    return np.stack(planes, -1).astype(np.uint8)


def encoded(image: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file of a format of Pillow's."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, kind, **options)
    return stream.getvalue()


def short(value: int, order: str = "<") -> bytes:
    """A 16-bit number in the first half of an entry's four bytes."""
    return struct.pack(f"{order}H", value).ljust(4, b"\0")


def tiff_block(*entries: Entry, tail: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of one directory at offset 8, as EXIF is one too; `tail` follows it."""
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    directory = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return header + directory + bytes(4) + tail


def orientation(value: int, order: str = "<") -> Entry:
    """The entry of a directory that says how a picture is turned."""
    return (0x0112, SHORT, 1, short(value, order))


def jpeg_with(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """A JPEG with one more segment at its beginning."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def jpeg_with_exif(jpeg: bytes, block: bytes) -> bytes:
    """A JPEG with a block of EXIF."""
    return jpeg_with(jpeg, 0xE1, b"Exif\0\0" + block)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(png: bytes, *chunks: bytes, last: bool = False) -> bytes:
    """A PNG with more chunks, behind its header or before its end."""
    place = len(png) - 12 if last else 33
    return png[:place] + b"".join(chunks) + png[place:]


def webp_with(webp: bytes, width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A simple WebP made an extended one, with more chunks at its end and flags for all metadata."""
    extended = struct.pack("<I", 0x2C)[:4] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + extended + webp[12:]
    for kind, data in chunks:
        body += kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def grey_tiff(
    pixels: bytes, size: tuple[int, int], bits: int, photometric: int, order: str = "<", *more: Entry
) -> bytes:
    """One strip of uncompressed grey of a (height, width)."""
    height, width = size
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1, 278: height}
    entries = [(tag, SHORT, 1, short(value, order)) for tag, value in tags.items()]
    entries += [(279, LONG, 1, struct.pack(f"{order}I", len(pixels))), *more]
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries.append((273, LONG, 1, struct.pack(f"{order}I", start)))
    return tiff_block(*sorted(entries), tail=pixels, order=order)


def packed_twelve_bits(values: NDArray[np.uint16]) -> bytes:
    """Rows of 12-bit numbers, two in three bytes, high bits first; a row ends with a whole byte."""
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=-1)[..., 4:]
    return np.packbits(bits.reshape(len(values), -1), axis=1).tobytes()
