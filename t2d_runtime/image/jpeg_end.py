"""JPEGs that end early: a check whether all pixels are there, and an end marker so that they can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from t2d_runtime.image.containers import START_OF_SCAN, jpeg_segments

_END = b"\xff\xd9"

_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of frames. The three left out are tables and a reserved marker."""

_COEFFICIENTS = 64
"""Coefficients of a block of 8 x 8 pixels."""

_CONTINUATIONS = (
    b"\xfe" + bytes(value * 151 % 255 for value in range(1, 600)),
    b"\xfe\xfe" + bytes(value * 89 % 255 for value in range(1, 600)),
)
"""Two ways in which a scan could go on: irregular bytes without a marker, both beginning with one bits."""


def with_end(content: bytes) -> bytes:
    """A JPEG that ends early, with an end marker. libjpeg takes missing blocks as zero: mid-grey in the first scan."""
    return content.rstrip(b"\xff") + _END


def other_endings(content: bytes) -> Iterator[bytes]:
    """The JPEG with various data added at its end. All decode to the same pixels only if no data is missing."""
    content = content.rstrip(b"\xff")
    restarts = re.findall(rb"\xff([\xd0-\xd7])", content)
    # The interval goes on, or the next one begins.
    beginnings = [b"", b"\xff" + bytes([0xD0 + (restarts[-1][0] - 0xD0 + 1) % 8])] if restarts else [b""]
    for beginning in beginnings:
        for continuation in _CONTINUATIONS:
            yield content + beginning + continuation + _END


def has_all_scans(content: bytes) -> bool:
    """True where the scans hold every coefficient of every component to the last bit; a progressive file has many."""
    missing: dict[int, list[int]] = {}
    for marker, start, end in jpeg_segments(content):
        segment = content[start:end]
        if marker in _FRAME_HEADERS and not missing:
            missing = {number: [_COEFFICIENTS] * _COEFFICIENTS for number in segment[10::3]}
        elif marker == START_OF_SCAN and len(segment) >= 8:
            names, (first, last, bits) = segment[5:-3:2], segment[-3:]
            for number in names:
                if number in missing and first <= last < _COEFFICIENTS:
                    missing[number][first : last + 1] = [bits & 15] * (last + 1 - first)
    return bool(missing) and not any(any(bits) for bits in missing.values())
