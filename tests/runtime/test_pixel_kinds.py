"""Grey of more than 8 bits, palettes, transparency, arrays: right, or one clear error, however they are given."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime.errors import ImageError
from t2d_runtime.image.reading import load_image
from tests.runtime.picture_files import (
    LONG,
    SHORT,
    encoded,
    grey_tiff,
    orientation,
    packed_twelve_bits,
    picture,
    png_chunk,
    png_with,
    short,
)

GREY = picture()[..., 0]
WIDE = GREY.astype(np.uint16) * 257
RGB = picture()


def shown(content: bytes) -> list[NDArray[np.uint8]]:
    """As bytes, as an image opened by Pillow, and as one already decoded by it."""
    decoded = Image.open(io.BytesIO(content))
    decoded.load()
    return [load_image(given) for given in (content, Image.open(io.BytesIO(content)), decoded)]


def thrice(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[..., np.newaxis], 3, -1)


@pytest.mark.parametrize("width", [32, 31])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_twelve_bits_are_scaled(width: int, photometric: int, order: str) -> None:
    wide = WIDE[:, :width] >> 4
    stored = packed_twelve_bits(4095 - wide if photometric == 0 else wide)
    content = grey_tiff(stored, (24, width), 12, photometric, order)
    given = [load_image(content)]
    if (photometric, order) == (1, "<"):  # Pillow itself opens no other
        given = shown(content)
    for pixels in given:
        assert np.abs(pixels.astype(int) - thrice(GREY[:, :width])).max() <= 1


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_either_order_and_sense_are_scaled(photometric: int, order: str) -> None:
    stored = (65535 - WIDE if photometric == 0 else WIDE).astype(f"{order}u2").tobytes()
    content = grey_tiff(stored, GREY.shape, 16, photometric, order)
    for pixels in [load_image(content)] if (photometric, order) == (0, ">") else shown(content):
        np.testing.assert_array_equal(pixels, thrice(GREY))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_sixteen_bits_are_scaled_in_any_compression(compression: str | None) -> None:
    for pixels in shown(encoded(WIDE, "TIFF", compression=compression)):
        np.testing.assert_array_equal(pixels, thrice(GREY))


@pytest.mark.parametrize(("bits", "order"), [(1, "<"), (2, "<"), (4, ">"), (8, "<"), (8, ">")])
@pytest.mark.parametrize("photometric", [0, 1])
def test_few_bits_of_either_sense_are_read(bits: int, order: str, photometric: int) -> None:
    levels = GREY >> (8 - bits)
    stored = (1 << bits) - 1 - levels if photometric == 0 else levels
    digits = np.unpackbits(stored[..., np.newaxis], axis=-1)[..., 8 - bits :]
    packed = np.packbits(digits.reshape(24, -1), axis=1).tobytes()
    for pixels in shown(grey_tiff(packed, GREY.shape, bits, photometric, order)):
        np.testing.assert_array_equal(pixels[..., 0], levels.astype(int) * 255 // ((1 << bits) - 1))


def test_a_turned_tiff_of_wide_grey_is_upright() -> None:
    content = grey_tiff((65535 - WIDE).tobytes(), GREY.shape, 16, 0, "<", orientation(6))
    np.testing.assert_array_equal(load_image(content), thrice(np.rot90(GREY, -1)))


def test_a_big_tiff_is_read() -> None:
    tags = {256: 32, 257: 24, 258: 16, 259: 1, 262: 0, 273: 16 + 8 + 20 * 9 + 8, 277: 1, 278: 24, 279: 2 * GREY.size}
    directory = b"".join(struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in tags.items())
    content = b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(tags)) + directory + bytes(8) + (65535 - WIDE).tobytes()
    np.testing.assert_array_equal(load_image(content), thrice(GREY))


def sample_format(value: int) -> tuple[int, int, int, bytes]:
    return (339, SHORT, 1, short(value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (grey_tiff(GREY.astype("<f4").tobytes(), GREY.shape, 32, 1, "<", sample_format(3)), "float pixels of unknown"),
        (grey_tiff(GREY.astype("<f4").tobytes(), GREY.shape, 32, 0, "<", sample_format(3)), "float pixels of unknown"),
        (grey_tiff(GREY.astype("<u4").tobytes(), GREY.shape, 32, 1), "32-bit integer pixels of unknown range"),
        (grey_tiff(GREY.astype("<i2").tobytes(), GREY.shape, 16, 1, "<", sample_format(2)), "32-bit integer pixels"),
        (
            grey_tiff(GREY.astype(np.int8).tobytes(), GREY.shape, 8, 1, "<", sample_format(2)),
            "signed pixels of unknown",
        ),
        (grey_tiff(WIDE.tobytes(), GREY.shape, 10, 1), "is a TIFF with pixels of a kind that Pillow does not decode"),
    ],
)
def test_pixels_of_unknown_range_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=f"the image data .*{message}"):
        load_image(content)


def test_a_tiff_of_many_samples_and_one_without_size_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    content = grey_tiff(GREY.tobytes(), GREY.shape, 8, 1)
    many = content.replace(struct.pack("<HHI", 277, SHORT, 1) + short(1), struct.pack("<HHI", 277, SHORT, 1) + short(9))
    with pytest.raises(ImageError, match="9 samples a pixel, expected up to 6; convert it to RGB"):
        load_image(many)
    with pytest.raises(ImageError, match="a TIFF without width and height"):
        load_image(content.replace(struct.pack("<HHI", 256, SHORT, 1), struct.pack("<HHI", 9, SHORT, 1)))
    with pytest.raises(ImageError, match="its tag 273 lies beyond its end"):
        load_image(content.replace(struct.pack("<HHI", 273, LONG, 1), struct.pack("<HHI", 273, LONG, 10**6)))
    assert capfd.readouterr() == ("", "")


def test_the_preview_of_a_camera_s_raw_data_is_told(caplog: pytest.LogCaptureFixture) -> None:
    content = grey_tiff(GREY.tobytes(), GREY.shape, 8, 1, "<", (254, LONG, 1, struct.pack("<I", 1)))
    np.testing.assert_array_equal(load_image(content), thrice(GREY))
    assert "the first picture is a reduced one" in caplog.text


# Transparency: on white.


def on_white(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[np.uint8]:
    share = alpha[..., np.newaxis] / 255
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)


ALPHA = np.linspace(0, 255, GREY.size).reshape(GREY.shape).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_an_alpha_channel_is_shown_on_white(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    rgba = np.concatenate([RGB, ALPHA[..., np.newaxis]], -1)
    for pixels in shown(encoded(rgba, kind, **options)):
        assert np.abs(pixels.astype(int) - on_white(RGB, ALPHA)).max() <= 1
    if kind != "WEBP":
        for pixels in shown(encoded(np.stack([GREY, ALPHA], -1), kind)):
            assert np.abs(pixels.astype(int) - on_white(thrice(GREY), ALPHA)).max() <= 1


def test_premultiplied_pixels_are_shown_on_white() -> None:
    rgba = Image.fromarray(np.concatenate([RGB, ALPHA[..., np.newaxis]], -1))
    for mode in ("RGBa", "La"):
        image = rgba.convert("LA" if mode == "La" else "RGBA").convert(mode)
        straight = np.asarray(rgba.convert("LA").convert("RGBA") if mode == "La" else rgba)
        # What is nearly transparent has lost its colour, which shows hardly at all.
        assert np.abs(load_image(image).astype(int) - on_white(straight[..., :3], ALPHA)).max() <= 2


@pytest.mark.parametrize("colours", [256, 16])
def test_transparent_entries_of_a_palette_are_shown_on_white(colours: int) -> None:
    image = Image.fromarray(RGB).quantize(colours)
    indices, solid = np.asarray(image), np.asarray(image.convert("RGB"))
    for pixels in shown(encoded(image, "PNG", transparency=3)):
        np.testing.assert_array_equal(pixels, np.where(indices[..., np.newaxis] == 3, 255, solid))
    entries = bytes(range(0, colours, max(1, colours // 256)))
    for pixels in shown(encoded(image, "PNG", transparency=entries)):
        alpha = np.array([*entries, *[255] * 256], np.uint8)[indices]
        assert np.abs(pixels.astype(int) - on_white(solid, alpha)).max() <= 1
    image.putalpha(Image.fromarray(ALPHA))
    assert image.mode == "PA"
    assert np.abs(load_image(image).astype(int) - on_white(solid, ALPHA)).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_a_png_is_shown_on_white(bits: int) -> None:
    levels = GREY.astype(np.uint16) >> (8 - bits) if bits <= 8 else WIDE
    digits = np.unpackbits(levels.astype(">u2").view(np.uint8).reshape(24, 32, 2), axis=-1)[..., 16 - bits :]
    rows = np.packbits(digits.reshape(24, -1), axis=1)
    chosen = int(levels[12, 12])
    content = _png(rows, bits, 0, struct.pack(">H", chosen))
    expected = np.where(levels == chosen, 255, levels.astype(int) * 255 // ((1 << bits) - 1))
    np.testing.assert_array_equal(load_image(content)[..., 0], expected)


def test_a_transparent_colour_of_a_png_is_shown_on_white() -> None:
    for bits in (8, 16):
        rows = RGB.reshape(24, -1) if bits == 8 else (RGB.astype(">u2") * 257).view(np.uint8).reshape(24, -1)
        one = RGB[3, 4]
        chosen = (one * np.uint16(1 if bits == 8 else 257)).astype(">u2")
        expected = np.where((one == RGB).all(-1, keepdims=True), 255, RGB)
        np.testing.assert_array_equal(load_image(_png(rows, bits, 2, chosen.tobytes())), expected)


def test_a_damaged_transparency_is_left_aside() -> None:
    png = encoded(RGB, "PNG")
    for chunk in (png_chunk(b"tRNS", b"\0"), png_chunk(b"tRNS", bytes(6))[:-1] + b"?"):
        np.testing.assert_array_equal(load_image(png_with(png, chunk)), RGB)
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_image(_png(RGB.reshape(24, -1), 8, 11, bytes(6)))  # no such type of colour


def _png(rows: NDArray[np.uint8], bits: int, colour: int, transparent: bytes) -> bytes:
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 24, bits, colour, 0, 0, 0))
    chunks = [header, png_chunk(b"tRNS", transparent), png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# Arrays


def test_arrays_of_grey_and_rgba_are_taken() -> None:
    np.testing.assert_array_equal(load_image(GREY), thrice(GREY))
    np.testing.assert_array_equal(load_image(GREY[..., np.newaxis]), thrice(GREY))
    rgba = np.concatenate([RGB, ALPHA[..., np.newaxis]], -1)
    np.testing.assert_array_equal(load_image(rgba), load_image(Image.fromarray(rgba)))
    np.testing.assert_array_equal(load_image(rgba[::-1, ::-1]), load_image(rgba)[::-1, ::-1])


@pytest.mark.parametrize("array", [GREY, GREY[..., np.newaxis], RGB, RGB[:, ::-1], np.asfortranarray(RGB)])
def test_an_array_s_memory_is_not_shared(array: NDArray[np.uint8]) -> None:
    loaded = load_image(array)
    assert not np.shares_memory(loaded, array)
    assert loaded.flags.c_contiguous
    assert loaded.flags.writeable


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((8, 9, 3), np.float32), r"give \(255 \* array\)\.round\(\)\.astype\(np\.uint8\)"),
        (np.zeros((3, 8, 9), np.uint8), r"put the channels last: array\.transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 9, 3), np.uint8), "give one, or all of them to segment_batch"),
        (np.zeros(100, np.uint8), r"give its bytes: array\.tobytes\(\)"),
        (np.zeros((8, 9, 2), np.uint8), r"RGBA \(H, W, 4\) are taken too$"),
    ],
)
def test_an_array_of_another_shape_or_type_says_what_to_do(array: NDArray[Any], advice: str) -> None:
    with pytest.raises(ImageError, match=advice):
        load_image(array)
