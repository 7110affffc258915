"""Images of every kind, resizing as OpenCV does it, and pixel values."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from t2d_runtime.bundle.manifest import Preprocessing
from t2d_runtime.errors import ImageError, ImageNotFoundError
from t2d_runtime.image.preprocess import resize, to_pixel_values
from t2d_runtime.image.reading import load_image
from t2d_runtime.image.sizes import MAX_PIXELS

GOLDEN = Path(__file__).parents[1] / "golden"
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PLAIN = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))

sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def golden_pixels(name: str) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        stored = dict(file)
    stem = "astronaut" if "astronaut" in name else "coffee"
    return load_image(GOLDEN / f"{stem}_resized.webp"), stored


# Reading


def test_an_array_is_copied() -> None:
    image = picture(3, 4)
    loaded = load_image(image)
    np.testing.assert_array_equal(loaded, image)
    assert not np.shares_memory(loaded, image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_a_file_and_its_pil_image_give_its_pixels(tmp_path: Path, suffix: str) -> None:
    image = picture(30, 40)
    Image.fromarray(image).save(tmp_path / f"image.{suffix}", lossless=True)
    for given_image in (tmp_path / f"image.{suffix}", str(tmp_path / f"image.{suffix}"), Image.fromarray(image)):
        np.testing.assert_array_equal(load_image(given_image), image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(picture(5, 7)).convert("L" if mode in ("LA", "PA") else "RGB").convert(mode)
    loaded = load_image(image)
    assert loaded.shape == (5, 7, 3)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, np.asarray(image.convert("RGB")))


def test_transparency_is_shown_on_white() -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = [0, 128, 255]
    np.testing.assert_array_equal(load_image(Image.fromarray(pixels))[0, :, 0], [255, 127, 0])
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 200, 10, 10])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 0
    np.testing.assert_array_equal(load_image(palette)[0], [[255, 255, 255], [200, 10, 10]])


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    grey = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    for name in ("grey.png", "grey.tif", "grey.pgm"):
        Image.fromarray(grey).save(tmp_path / name)
        np.testing.assert_array_equal(load_image(tmp_path / name)[0, :, 0], [0, 0, 1, 1, 128, 255])


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(picture(20, 30))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise to see it
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "turned.png"), np.rot90(np.asarray(image), -1))


def test_of_an_animation_s_file_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(load_image(tmp_path / "moving.gif")[0, 0], [255, 0, 0])
    with Image.open(tmp_path / "moving.gif") as moving:
        moving.seek(1)
        np.testing.assert_array_equal(load_image(moving)[0, 0], [0, 0, 255])


# Refusing


@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\) and uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"\(3, 4, 5\) and uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\) and uint8"),
        (np.zeros((4, 4), np.uint16), r"\(4, 4\) and uint16"),
        (np.zeros((4, 0), np.uint8), r"\(4, 0\) and uint8"),
        (np.zeros(9, np.uint8), r"\(9,\) and uint8; .* its bytes: array\.tobytes\(\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\) and uint8"),
        (np.zeros((4, 4, 3), np.float32), r"\(4, 4, 3\) and float32"),
    ],
)
def test_another_array_is_refused(array: Any, got: str) -> None:
    with pytest.raises(ImageError, match=r"expected an RGB array of shape \(H, W, 3\) and dtype uint8, got " + got):
        load_image(array)


def test_another_object_is_refused() -> None:
    with pytest.raises(ImageError, match=r"expected an image path, a PIL image or .* got list"):
        load_image([1, 2, 3])  # type: ignore[arg-type]


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png: no such image file"):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="is not a file"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "expected the path of an image file, as text, got ''"),
        ("a\0b.png", r"'a\\x00b\.png' cannot be a path \(.*embedded null"),
        ("\ud800.png", r"cannot be a path .*expected that of an image file"),
    ],
)
def test_text_that_is_no_path_is_refused(path: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(path)


def test_a_path_of_any_kind_is_taken(tmp_path: Path) -> None:
    class Own:
        def __init__(self, path: str | bytes) -> None:
            self.path = path

        def __fspath__(self) -> Any:
            return self.path

    Image.fromarray(picture(3, 4)).save(tmp_path / "image.png")
    np.testing.assert_array_equal(load_image(Own(str(tmp_path / "image.png"))), picture(3, 4))
    with pytest.raises(ImageError, match=r"as text, got b'image\.png'"):
        load_image(Own(b"image.png"))


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="the image has 0 x 4 pixels, expected at least one"):
        load_image(Image.new("RGB", (0, 4)))


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image", encoding="utf-8")
    with pytest.raises(ImageError, match=r"text\.jpg is not an image; expected JPEG, PNG"):
        load_image(tmp_path / "text.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp", "ppm", "avif"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(picture(60, 50)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"cut\.{suffix} ") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 1, 3 * MAX_PIXELS // 1000])
def test_a_decompression_bomb_is_refused(tmp_path: Path, width: int) -> None:
    """Pillow warns of the first width and refuses the second; a small file claims to hold so many pixels."""
    path = tmp_path / "bomb.png"
    Image.new("1", (1, 1)).save(path)
    content = path.read_bytes()
    header = content[12:16] + struct.pack(">II", width, 1000) + content[24:29]
    path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    with pytest.raises(ImageError, match=f"more than .*{MAX_PIXELS}"):
        load_image(path)


def test_a_pil_image_above_the_limit_is_refused() -> None:
    with pytest.raises(ImageError, match=f"the image has 89479 x 1000 pixels, more than the limit of {MAX_PIXELS}"):
        load_image(Image.new("1", (89479, 1000)))


def test_pixels_of_unknown_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="float pixels of unknown range"):
        load_image(Image.new("F", (2, 2)))
    for value in (200, 70000):  # nothing says whether 200 is of 255 or of 65535
        with pytest.raises(ImageError, match="32-bit integer pixels of unknown range; convert it to 8 bits"):
            load_image(Image.new("I", (2, 2), value))
    Image.new("I", (2, 2), 200).save(tmp_path / "wide.tif")
    with pytest.raises(ImageError, match=r"wide\.tif has 32-bit integer pixels of unknown range"):
        load_image(tmp_path / "wide.tif")


# Resizing


def test_the_resize_equals_opencv_on_photographs() -> None:
    coffee = load_image(GOLDEN / "coffee.webp")
    np.testing.assert_array_equal(resize(coffee, (448, 672)), load_image(GOLDEN / "coffee_resized.webp"))


@given(sizes, sizes, st.integers(0, 255))
@settings(deadline=None)
def test_a_constant_image_stays_constant(size: tuple[int, int], target: tuple[int, int], value: int) -> None:
    resized = resize(np.full((*size, 3), value, np.uint8), target)
    assert resized.shape == (*target, 3)
    assert np.abs(resized.astype(int) - value).max() <= 1


@given(sizes, sizes)
@settings(deadline=None)
def test_the_resize_keeps_channels_and_columns_apart(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = picture(*size)
    resized = resize(image, target)
    np.testing.assert_array_equal(resized[..., ::-1], resize(np.ascontiguousarray(image[..., ::-1]), target))
    assert (resized.min(axis=(0, 1)) >= np.maximum(image.min(axis=(0, 1)).astype(int) - 1, 0)).all()
    assert (resized.max(axis=(0, 1)) <= image.max(axis=(0, 1))).all()


def test_the_same_size_is_left_alone() -> None:
    image = picture(20, 30)
    np.testing.assert_array_equal(resize(image, (20, 30)), image)


# Pixel values


@pytest.mark.parametrize("name", ["vitb14_reg4_448_astronaut", "vits14_448_coffee", "vits14_reg4_518_coffee"])
def test_pixel_values_equal_the_released_code(name: str) -> None:
    image, golden = golden_pixels(name)
    side = json.loads(str(golden["meta"]))["input_size"]
    values = to_pixel_values(image[np.newaxis, :448, :448], (side, side), IMAGENET)
    assert values.shape == (1, 3, side, side)
    assert values.dtype == np.float32
    # Float rounding of values up to 2.7.
    np.testing.assert_allclose(values[0, :, ::37, ::37], golden["pixel_values_sample"], rtol=0, atol=2e-6)


@given(st.integers(1, 3), sizes, sizes)
@settings(deadline=None)
def test_a_batch_is_its_windows(batch: int, size: tuple[int, int], target: tuple[int, int]) -> None:
    windows = np.stack([picture(*size, seed=i) for i in range(batch)])
    values = to_pixel_values(windows, target, IMAGENET)
    assert values.shape == (batch, 3, *target)
    for window, own in zip(windows, values, strict=True):
        np.testing.assert_allclose(to_pixel_values(window[np.newaxis], target, IMAGENET)[0], own, atol=1e-5)


def test_shrinking_averages() -> None:
    """Each pixel weighs as much as another: of one white column in four, a quarter of white but at the border."""
    stripes = np.zeros((1, 32, 32, 3), np.uint8)
    stripes[:, :, ::4] = 255
    values = to_pixel_values(stripes, (8, 8), PLAIN)
    np.testing.assert_allclose(values[:, :, :, 1:-1], 0.25, atol=1e-5)
