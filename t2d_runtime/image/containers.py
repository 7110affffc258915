"""JPEG, PNG, WebP, AVIF and HEIF without their metadata.

Pillow refuses pictures with damaged or large metadata, or warns of it, and its switches for that apply to the whole
process. So all metadata is removed before Pillow reads: EXIF, XMP, colour profiles, texts, comments, indexes of other
pictures. The block of EXIF is returned for its orientation.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from t2d_runtime.errors import ImageError
from t2d_runtime.image.orientation import EXIF_PREFIX, exif_in_text, unpacked

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

START_OF_SCAN, END_OF_IMAGE, APP0, APP1, APP14, COMMENT = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xFE
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
"""A JPEG marker with a length: not a stuffed zero, TEM, a restart marker or another start of image."""

MOST_SCANS = 100
"""Most scans of a JPEG, as in libtiff. Encoders write about ten. A scan may be a few bytes, but costs a whole pass."""

_TRANSPARENT_SAMPLES = {0: 1, 2: 3}
"""PNG's colour types that may have one transparent colour -> number of its samples: grey, RGB."""


class Plain(NamedTuple):
    """An encoded picture without its metadata, and its EXIF."""

    content: bytes
    exif: bytes = b""


def plain_jpeg(content: bytes) -> Plain:
    """The first picture of a JPEG; the JPEG unchanged where it has no scan."""
    kept, exif = [content[:2]], b""
    for marker, start, end in jpeg_segments(content):
        segment = content[start:end]
        if marker == START_OF_SCAN:
            return Plain(b"".join([*kept, content[start:]]), exif)
        if marker == APP1 and segment[4:].startswith(EXIF_PREFIX):
            exif += segment[4 + len(EXIF_PREFIX) :]  # a large block goes on in the next segment
        if _shapes_the_pixels(marker, segment):
            kept.append(segment)
    return Plain(content, exif)


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of the first picture, those between scans too.

    Skips the scans' data and other bytes between segments, as libjpeg does. Ends before a segment that is cut short.
    """
    place = 2
    while found := _MARKER.search(content, place):
        marker, start, place = found[1][0], found.start(), found.end()
        place += int.from_bytes(content[place : place + 2], "big")
        if marker == END_OF_IMAGE or place < start + 4 or place > len(content):
            return
        yield marker, start, place


def check_scans(content: bytes, name: str) -> None:
    """Raise ImageError for a JPEG with more than MOST_SCANS scans."""
    scans = sum(marker == START_OF_SCAN for marker, _, _ in jpeg_segments(content))
    if scans > MOST_SCANS:
        raise ImageError(f"{name} is a JPEG of {scans} scans, expected at most {MOST_SCANS}; save it again")


def _shapes_the_pixels(marker: int, segment: bytes) -> bool:
    """True where the decoder needs a segment. JFIF's and Adobe's give the colours; libjpeg needs their full length."""
    if marker == APP0:
        return segment[4:9] == b"JFIF\0" and len(segment) >= 18
    if marker == APP14:
        return segment[4:9] == b"Adobe" and len(segment) >= 16
    return not (APP0 <= marker < APP0 + 16 or marker == COMMENT)


def plain_png(content: bytes) -> Plain:
    """A PNG reduced to the chunks of its picture; for an animation, of the picture that every program shows."""
    kept, exif, header = [content[:8]], b"", b""
    place = 8
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        start, end = place + 8, place + 12 + length
        data = content[start : start + length] if kind not in (b"IDAT", b"fdAT") else b""
        if not kind.isalpha() or end > len(content):
            if not (kind.isalpha() and kind[:1].islower()):
                kept.append(content[place:])  # damaged or cut: left for the decoder to report
            break
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            header = header or data
            kept.append(content[place:end])
        elif kind[:1].islower() and zlib.crc32(kind + data) == struct.unpack_from(">I", content, start + length)[0]:
            if kind == b"tRNS":
                kept.append(_transparency(header, data))
            exif = exif or _exif_of_chunk(kind, data)
        place = end
        if kind == b"IEND":
            break
    return Plain(b"".join(kept), exif)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _transparency(header: bytes, data: bytes) -> bytes:
    """The chunk tRNS as Pillow uses it: 8 bits a sample, except for 16-bit grey. Empty where it is too short."""
    bits, colour = header[8:10].ljust(2, b"\0")
    if colour == 3:
        return png_chunk(b"tRNS", data[:256]) if data else b""
    samples = _TRANSPARENT_SAMPLES.get(colour, 0)
    if not samples or len(data) < 2 * samples:
        return b""
    values = struct.unpack_from(f">{samples}H", data)
    if colour == 2 and bits == 16:
        values = tuple(value >> 8 for value in values)
    elif colour == 0 and bits in (2, 4):
        values = tuple((value & (1 << bits) - 1) * 255 // ((1 << bits) - 1) for value in values)
    return png_chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def _exif_of_chunk(kind: bytes, data: bytes) -> bytes:
    if kind == b"eXIf":
        return data
    keyword, _, text = data.partition(b"\0")
    if kind == b"tEXt":
        return exif_in_text(keyword, text)
    if kind == b"zTXt":
        return exif_in_text(keyword, unpacked(text[1:]))
    if kind == b"iTXt":
        packed, text = text[:1], text[2:].split(b"\0", 2)[-1]
        return exif_in_text(keyword, unpacked(text) if packed == b"\1" else text)
    return b""


def plain_webp(content: bytes) -> Plain:
    """A WebP reduced to the chunks of its picture."""
    kept, exif = [], b""
    place = 12
    while place + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, place)
        end = place + 8 + length + length % 2
        chunk = content[place:end]
        if kind == b"EXIF":
            exif = exif or chunk[8 : 8 + length]
        elif kind == b"VP8X" and len(chunk) > 8:
            kept.append(chunk[:8] + bytes([chunk[8] & ~0x2C]) + chunk[9:])  # no profile, no EXIF, no XMP
        elif kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            kept.append(chunk)
        place = end
    body = b"WEBP" + b"".join(kept)
    return Plain(b"RIFF" + struct.pack("<I", len(body)) + body, exif)


def plain_heif(content: bytes) -> Plain:
    """An AVIF or HEIF with its EXIF items renamed, so that they are ignored. Boxes of the picture give its rotation."""
    return Plain(re.sub(rb"(infe[\2\3]\0\0.(?:..|....)..)Exif", rb"\1none", content, flags=re.DOTALL))


def declared_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Widths and heights for which decoders would take memory before Pillow knows the picture's size."""
    if content[:4] == b"RIFF":
        yield from _webp_sizes(content)
    elif content[:4] in (b"\0\0\1\0", b"icns"):  # icons: PNG, JPEG 2000 or bitmaps inside
        if content[:1] == b"\0":
            yield from _icon_sizes(content)
        for found in re.finditer(rb"\x89PNG\r\n\x1a\n....IHDR(........)", content, re.DOTALL):
            yield struct.unpack(">II", found[1])
        for found in re.finditer(rb"\xff\x4f\xff\x51....(................)", content, re.DOTALL):
            right, bottom, left, top = struct.unpack(">IIII", found[1])
            yield max(0, right - left), max(0, bottom - top)
    elif content[:3] == b"GIF":
        yield from _gif_sizes(content)


def _icon_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    for entry in range(6, min(6 + 16 * int.from_bytes(content[4:6], "little"), len(content) - 15), 16):
        (place,) = struct.unpack_from("<I", content, entry + 12)
        if content[place : place + 4] != b"\x89PNG" and place + 12 <= len(content):
            width, height = struct.unpack_from("<ii", content, place + 4)
            yield abs(width), abs(height) // 2


def _gif_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Right and bottom of the first frame, which may reach beyond the screen."""
    flags = int.from_bytes(content[10:11], "big")
    place = 13 + (6 << (flags & 7) if flags & 128 else 0)  # behind the palette
    while content[place : place + 1] == b"!":  # an extension: its blocks end with an empty one
        place += 2
        while place < len(content) and content[place]:
            place += 1 + content[place]
        place += 1
    if content[place : place + 1] == b"," and place + 9 <= len(content):
        left, top, width, height = struct.unpack_from("<HHHH", content, place + 1)
        yield left + width, top + height


def _webp_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    kind, header = content[12:16], content[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        yield tuple(1 + int.from_bytes(header[start : start + 3], "little") for start in (4, 7))  # type: ignore[misc]
    elif kind == b"VP8 ":
        yield tuple(int.from_bytes(header[start : start + 2], "little") & 0x3FFF for start in (6, 8))  # type: ignore[misc]
    elif kind == b"VP8L":
        bits = int.from_bytes(header[1:5], "little")
        yield 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
