"""Metadata never costs the pixels: only the EXIF orientation is read, and where it cannot be, nothing is turned."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, features

from t2d_runtime.errors import ImageError
from t2d_runtime.image.orientation import orientation_of, upright
from t2d_runtime.image.reading import load_image
from tests.runtime.picture_files import (
    ASCII,
    FLOAT,
    LONG,
    SHORT,
    encoded,
    jpeg_with,
    jpeg_with_exif,
    orientation,
    picture,
    png_chunk,
    png_with,
    short,
    tiff_block,
    webp_with,
)

STORED = picture()
TURNED = np.rot90(STORED, -1)
"""As orientation 6 shows it."""

JPEG = encoded(STORED, "JPEG", quality=95, subsampling=0)
JPEG_PIXELS = np.asarray(Image.open(io.BytesIO(JPEG)))
PNG = encoded(STORED, "PNG")
WEBP = encoded(STORED, "WEBP", lossless=True)

FAULTS = {
    "none": tiff_block(orientation(6)),
    "big-endian": tiff_block(orientation(6, ">"), order=">"),
    "a number that is text": tiff_block((0x0100, ASCII, 2, b"a\0\0\0"), orientation(6)),
    "a resolution that is not a number": tiff_block(
        orientation(6), (0x011A, FLOAT, 1, struct.pack("<f", float("nan")))
    ),
    "a pointer to garbage": tiff_block(orientation(6), (0x8769, LONG, 1, struct.pack("<I", 38)), tail=b"\xff" * 40),
    "a pointer behind the end": tiff_block((0x0110, ASCII, 10**6, b"\xff\xff\xff\x7f"), orientation(6)),
    "more entries than there are": tiff_block(orientation(6)).replace(b"\x08\0\0\0\1\0", b"\x08\0\0\0\xff\xff"),
    "cut behind the orientation": tiff_block(orientation(6))[:22],
    "the prefix twice": b"Exif\0\0" + tiff_block(orientation(6)),
    "orientation as a long": tiff_block((0x0112, LONG, 1, struct.pack("<I", 6))),
}
UNREADABLE = {
    "nothing": b"",
    "no TIFF at all": b"no TIFF block at all",
    "cut in its header": b"II*\0\x08",
    "a directory behind the end": b"II*\0\xff\xff\xff\x7f",
    "an orientation of 0": tiff_block(orientation(0)),
    "an orientation of 9": tiff_block(orientation(9)),
    "an orientation in words": tiff_block((0x0112, ASCII, 4, b"top\0")),
    "an orientation without value": tiff_block((0x0112, SHORT, 0, short(6))),
}
BLOCKS = [pytest.param(block, True, id=name) for name, block in FAULTS.items()]
BLOCKS += [pytest.param(block, False, id=name) for name, block in UNREADABLE.items()]


@pytest.mark.parametrize(("block", "turned"), BLOCKS)
def test_of_exif_the_orientation_alone_is_read(block: bytes, turned: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def expected(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.rot90(pixels, -1) if turned else pixels

    np.testing.assert_array_equal(load_image(jpeg_with_exif(JPEG, block)), expected(JPEG_PIXELS))
    np.testing.assert_array_equal(load_image(png_with(PNG, png_chunk(b"eXIf", block))), expected(STORED))
    np.testing.assert_array_equal(load_image(png_with(PNG, png_chunk(b"eXIf", block), last=True)), expected(STORED))
    np.testing.assert_array_equal(load_image(webp_with(WEBP, 32, 24, (b"EXIF", block))), expected(STORED))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("block", "turned"), BLOCKS)
def test_an_image_opened_by_pillow_is_turned_alike(block: bytes, turned: bool) -> None:
    for content in (png_with(PNG, png_chunk(b"eXIf", block)), webp_with(WEBP, 32, 24, (b"EXIF", block))):
        np.testing.assert_array_equal(load_image(Image.open(io.BytesIO(content))), TURNED if turned else STORED)


@pytest.mark.parametrize("text", [b"tEXt", b"zTXt", b"iTXt", b"iTXt packed"])
@pytest.mark.parametrize("keyword", [b"Raw profile type exif", b"Raw profile type APP1"])
def test_exif_in_a_text_of_a_png_is_read(text: bytes, keyword: bytes) -> None:
    block = b"Exif\0\0" + tiff_block(orientation(6))
    digits = block.hex().encode()
    profile = b"\nexif\n%8d\n" % len(block) + b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72)) + b"\n"
    data = {
        b"tEXt": profile,
        b"zTXt": b"\0" + zlib.compress(profile),
        b"iTXt": b"\0\0\0\0" + profile,
        b"iTXt packed": b"\1\0\0\0" + zlib.compress(profile),
    }[text]
    content = png_with(PNG, png_chunk(text[:4], keyword + b"\0" + data))
    np.testing.assert_array_equal(load_image(content), TURNED)
    broken = png_with(PNG, png_chunk(text[:4], keyword + b"\0" + data[:20] + b"\xff" + data[21:]))
    np.testing.assert_array_equal(load_image(broken), STORED)


@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_shows_what_pillow_shows(value: int) -> None:
    image = Image.fromarray(STORED)
    image.getexif()[0x0112] = value
    shown = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(upright(STORED, value), np.asarray(shown))
    assert orientation_of(tiff_block(orientation(value))) == value


def test_a_large_block_of_exif_goes_on_in_the_next_segment() -> None:
    entries = [(tag, SHORT, 1, short(1)) for tag in range(10)]
    block = tiff_block(*entries, orientation(6))
    halves = jpeg_with_exif(jpeg_with_exif(JPEG, block[60:]), block[:60])
    np.testing.assert_array_equal(load_image(halves), np.rot90(JPEG_PIXELS, -1))


def test_texts_and_profiles_of_any_size_are_left_aside() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "node " * 400_000, zip=True)
    packed = encoded(STORED, "PNG", pnginfo=info)
    profile = b"ICC\0\0" + zlib.compress(bytes(2**21))
    chunks = {
        "a large profile": png_chunk(b"iCCP", profile),
        "an unknown compression": png_chunk(b"zTXt", b"key\0\7text"),
        "a damaged checksum": png_chunk(b"tEXt", b"key\0text")[:-1] + b"?",
        "a short gamma": png_chunk(b"gAMA", b"\0"),
        "a short resolution": png_chunk(b"pHYs", b"\0\0"),
        "a faulty animation": png_chunk(b"acTL", bytes(8)) + png_chunk(b"fcTL", bytes(3)),
        "a large text": png_chunk(b"tEXt", b"key\0" + bytes(2**21)),
    }
    for content in (packed, *(png_with(PNG, chunk) for chunk in chunks.values())):
        np.testing.assert_array_equal(load_image(content), STORED)
    np.testing.assert_array_equal(load_image(png_with(PNG, *chunks.values(), last=True)), STORED)


@pytest.mark.parametrize(
    ("marker", "payload"),
    [
        (0xE0, b"JFIF\0"),  # too short
        (0xE0, b"JFIF\0\1\2\0\0\1\0\1\0"),
        (0xEE, b"Adobe"),
        (0xE2, b"MPF\0no directory at all"),
        (0xE2, b"ICC_PROFILE\0\1\2" + bytes(100)),
        (0xED, b"Photoshop 3.0\x008BIM\4\4\xff"),
        (0xFE, b"a comment \xff\xd8\xff"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"),
    ],
)
def test_segments_of_a_jpeg_are_left_aside(marker: int, payload: bytes) -> None:
    np.testing.assert_array_equal(load_image(jpeg_with(JPEG, marker, payload)), JPEG_PIXELS)


def test_what_says_the_colours_of_a_jpeg_is_kept() -> None:
    for options in ({"keep_rgb": True}, {}):
        image = Image.fromarray(STORED)
        for mode in ("RGB", "CMYK"):
            content = encoded(image.convert(mode), "JPEG", quality=95, **options)
            np.testing.assert_array_equal(
                load_image(content), np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            )


def test_of_several_pictures_in_a_file_the_first_is_read() -> None:
    first, second = Image.fromarray(STORED), Image.new("RGB", (32, 24))
    content = encoded(first, "MPO", save_all=True, append_images=[second], quality=95, subsampling=0)
    np.testing.assert_array_equal(load_image(content), JPEG_PIXELS)
    np.testing.assert_array_equal(load_image(Image.open(io.BytesIO(content))), JPEG_PIXELS)
    animated = encoded(first, "PNG", save_all=True, append_images=[second])
    np.testing.assert_array_equal(load_image(animated), STORED)


def test_a_cut_in_the_metadata_behind_the_pixels_does_not_matter() -> None:
    content = webp_with(WEBP, 32, 24, (b"XMP ", bytes(100)))
    np.testing.assert_array_equal(load_image(content[:-50]), STORED)
    np.testing.assert_array_equal(load_image(png_with(PNG, png_chunk(b"tEXt", bytes(50)), last=True)[:-30]), STORED)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tags_of_a_tiff_that_its_pixels_do_not_need_are_left_aside(
    compression: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = encoded(STORED, "TIFF", compression=compression)
    count, place = _tags_of(plain)
    more = [
        struct.pack("<HHI", 0x0112, SHORT, 1) + short(6),
        struct.pack("<HHI", 700, 1, 10**6) + b"\xff\xff\xff\x7f",  # XMP behind the end
        struct.pack("<HHI", 34665, LONG, 1) + b"\x02\0\0\0",  # EXIF that points into the header
        struct.pack("<HHI", 34675, 7, 2**31) + b"\x08\0\0\0",  # a profile of two gigabytes
        struct.pack("<HHI", 282, 12, 1) + b"\x08\0\0\0",
    ]
    entries = [plain[place + 12 * number :][:12] for number in range(count)]
    tags = b"".join(sorted(entries + more, key=lambda entry: struct.unpack("<H", entry[:2])))
    content = plain[:4] + struct.pack("<I", len(plain)) + plain[8:] + struct.pack("<H", count + len(more)) + tags
    for given in (content, content + bytes(4), Image.open(io.BytesIO(plain))):
        expected = STORED if isinstance(given, Image.Image) else TURNED
        np.testing.assert_array_equal(load_image(given), expected)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        opened = Image.open(io.BytesIO(content + bytes(4)))  # the caller's own
    np.testing.assert_array_equal(load_image(opened), TURNED)
    assert capfd.readouterr() == ("", "")


def _tags_of(tiff: bytes) -> tuple[int, int]:
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    return count, start + 2


def test_a_text_behind_the_pixels_does_not_keep_pillow_s_own_image_from_them() -> None:
    late = png_with(PNG, png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**21))), last=True)
    for first in (False, True):
        image = Image.open(io.BytesIO(late))
        for allowed in (first, False, True):
            np.testing.assert_array_equal(load_image(image, allow_truncated=allowed), STORED)


def test_avif_is_turned_by_its_boxes(tmp_path: Path) -> None:
    image = Image.fromarray(STORED)
    if "avif" not in features.get_supported():  # Pillow's own wheels have it from 11.3
        with pytest.raises(ImageError, match="AVIF"):
            load_image(b"\0\0\0\x1cftypavif" + bytes(50))
        return
    image.save(tmp_path / "turned.avif", exif=_described(6), quality=100)
    content = (tmp_path / "turned.avif").read_bytes()
    assert b"Exif" in content
    for given in (content, content.replace(b"II*\0", b"????"), tmp_path / "turned.avif"):
        loaded = load_image(given)
        assert loaded.shape == TURNED.shape
        assert np.abs(loaded.astype(int) - TURNED).max() < 16


def _described(value: int) -> bytes:
    """EXIF with more than the orientation, which alone becomes a box."""
    return b"Exif\0\0" + tiff_block((0x010E, ASCII, 4, b"sky\0"), orientation(value))


def test_pillow_s_settings_stay_as_they_were() -> None:
    def settings() -> tuple[object, ...]:
        return PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS, warnings.filters[:], sorted(Image.OPEN)

    load_image(PNG)
    before, threads = settings(), threading.active_count()
    load_image(png_with(PNG, png_chunk(b"iCCP", b"x")), max_pixels=10**9, allow_truncated=True)
    assert settings() == before
    assert threading.active_count() == threads
