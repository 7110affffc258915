"""JPEGs of very many scans, each a few bytes and a pass over the whole picture: refused before they are decoded."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from t2d_runtime.errors import ImageError
from t2d_runtime.image.containers import MOST_SCANS, START_OF_SCAN, jpeg_segments
from t2d_runtime.image.reading import load_image
from tests.runtime.picture_files import LONG, SHORT, encoded, jpeg_with, picture, short, tiff_block

RGB = picture(64, 64)
JPEG = encoded(RGB, "JPEG", progressive=True)
END = b"\xff\xd9"


def scans_of(content: bytes) -> list[int]:
    return [start for marker, start, _ in jpeg_segments(content) if marker == START_OF_SCAN]


def with_scans(number: int, between: bytes = b"", jpeg: bytes = JPEG) -> bytes:
    """The JPEG with its second scan again and again, until it has so many; other bytes may stand before each.

    That scan is the first of its coefficients, so that it changes nothing the next time.
    """
    start = scans_of(jpeg)[1]
    end = min(place for _, place, _ in jpeg_segments(jpeg) if place > start)
    return jpeg[:end] + (between + jpeg[start:end]) * (number - len(scans_of(jpeg))) + jpeg[end:]


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: object) -> None:
        pytest.fail("it was decoded")

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", load)


def test_scans_are_counted() -> None:
    assert len(scans_of(JPEG)) == 10
    assert len(scans_of(encoded(RGB, "JPEG"))) == 1
    assert len(scans_of(with_scans(MOST_SCANS))) == MOST_SCANS


def test_as_many_as_may_be_are_read() -> None:
    content = with_scans(MOST_SCANS)
    for given in (content, Image.open(io.BytesIO(content))):
        np.testing.assert_array_equal(load_image(given), load_image(JPEG))


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "between",
    [b"", b"\xff\x01", b"\xff\xd0", b"\x00\xff\x00", b"\xff\xff", b"\xff\xfe\x00\x04" + END],
    ids=["nothing", "TEM", "restart", "stuffed", "fill", "an end in a comment"],
)
def test_more_are_refused_whatever_stands_between_them(between: bytes) -> None:
    content = with_scans(MOST_SCANS + 1, between)
    assert len(content) < 20_000
    for given in (content, Image.open(io.BytesIO(content))):
        with pytest.raises(ImageError, match=r"is a JPEG of 101 scans, expected at most 100; save it again"):
            load_image(given, allow_truncated=True)


def test_bytes_that_only_look_like_scans_are_not_counted() -> None:
    many = b"\xff\xda\x00\x08" * 200
    for content in (JPEG + many, jpeg_with(JPEG, 0xE1, many), jpeg_with(JPEG, 0xFE, many)):
        np.testing.assert_array_equal(load_image(content), load_image(JPEG))


@pytest.mark.parametrize("number", [20, 2 * MOST_SCANS])
def test_libtiff_has_the_same_limit(number: int) -> None:
    strip = with_scans(number, jpeg=encoded(RGB, "JPEG", progressive=True, subsampling=0))
    tags = {256: 64, 257: 64, 259: 7, 262: 6, 277: 3, 278: 64}
    place = 8 + 2 + 12 * (len(tags) + 3) + 4
    entries = [(tag, SHORT, 1, short(value)) for tag, value in tags.items()]
    entries += [
        (258, SHORT, 3, struct.pack("<I", place)),
        (273, LONG, 1, struct.pack("<I", place + 6)),
        (279, LONG, 1, struct.pack("<I", len(strip))),
    ]
    content = tiff_block(*sorted(entries), tail=struct.pack("<3H", 8, 8, 8) + strip)
    if number <= MOST_SCANS:
        assert load_image(content).shape == (64, 64, 3)
    else:
        with pytest.raises(ImageError, match="cannot be decoded"):
            load_image(content)
