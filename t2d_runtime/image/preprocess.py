"""From an image of any kind to pixel values: one way of reading, resizing and normalising for everybody."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from t2d_runtime.bundle.manifest import Preprocessing
from t2d_runtime.device.products import matmul
from t2d_runtime.errors import ImageError, ImageNotFoundError

ImageLike = str | PathLike[str] | Image.Image | NDArray[np.uint8]
"""A path, a PIL image, or an RGB array (H,W,3)."""

MAX_PIXELS = 1024**3 // 4 // 3
"""Largest image read from a file: Pillow's own limit, above which it suspects a decompression bomb.

That is 89 megapixels, a quarter of a gibibyte of RGB.
"""

SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
"""Formats whose pictures of Pillow's mode I, which are 32-bit integers, hold 16-bit grey."""

RESIZE_BITS = 11
"""Fractional bits of OpenCV's fixed-point weights (INTER_RESIZE_COEF_BITS)."""

RESIZE_BAND = 32
"""Rows resized at a time, so that the steps between find their numbers in the cache: five times as fast."""

_DECODE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
)
"""What Pillow's decoders raise on damaged files: found by damaging files of its formats at random."""


def load_image(image: ImageLike) -> NDArray[np.uint8]:
    """An image as a new RGB array (H,W,3) uint8, upright.

    Takes a path, a PIL image or such an array. The EXIF orientation is applied, transparency shown on white
    as image viewers do, 16-bit grey scaled to 8 bits, palettes, grey and CMYK converted. Of an animation's file the
    first frame is taken, of a PIL image the frame that it is at.

    Raises ImageNotFoundError for a missing file and ImageError for anything that is not such an image: an
    unreadable or truncated file, none or more than `MAX_PIXELS` pixels, an array of another shape or dtype, pixels of
    unknown range: float, or 32-bit integers of which nothing says that they are 16-bit grey.
    """
    if isinstance(image, np.ndarray):
        return _checked_array(image)
    if isinstance(image, Image.Image):
        with decoding("the image"):
            return _to_rgb(image, "the image")
    if not isinstance(image, str | PathLike):
        raise ImageError(f"expected an image path, a PIL image or an (H,W,3) uint8 array, got {type(image).__name__}")
    name = fspath(image)
    if not isinstance(name, str) or not name:
        raise ImageError(f"expected the path of an image file, as text, got {name!r}")
    path = Path(name)
    try:
        kind = path.stat().st_mode
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"{path}: no such image file") from error
    except ValueError as error:  # NUL, or what the file system's encoding lacks
        raise ImageError(f"{name!r} cannot be a path ({error}); expected that of an image file") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(kind):
        raise ImageError(f"{path} is not a file; expected an image file")
    with decoding(str(path)), Image.open(path) as opened:
        return _to_rgb(opened, str(path))


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns what Pillow raises while it reads a picture into an ImageError that names it."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} has more than {MAX_PIXELS} pixels, the limit; make it smaller") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image; expected JPEG, PNG or another that Pillow reads") from error
    except _DECODE_ERRORS as error:
        raise ImageError(f"{name} cannot be decoded, it may be truncated or damaged: {error}") from error


def _checked_array(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(
            f"expected an RGB array of shape (H, W, 3) and dtype uint8, got {image.shape} and {image.dtype}"
        )
    return np.array(image, order="C")


def _to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.width * image.height == 0:
        raise ImageError(f"{name} has {image.width} x {image.height} pixels, expected at least one")
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {image.width} x {image.height} pixels, more than the limit of {MAX_PIXELS}; make it smaller"
        )
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS)
    image = ImageOps.exif_transpose(image)
    if sixteen_bits:
        return _from_sixteen_bits(np.asarray(image))
    if image.mode in ("I", "F"):
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise ImageError(f"{name} has {kind} pixels of unknown range; convert it to 8 bits a channel")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _from_sixteen_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """RGB of 16-bit grey, rounded to 8 bits; Pillow keeps some of it in 32-bit integers."""
    narrow = ((grey.astype(np.int32) + 128) // 257).astype(np.uint8)
    return np.repeat(narrow[:, :, np.newaxis], 3, axis=2)


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H,W,3) resized to (height, width) with the arithmetic of OpenCV's INTER_LINEAR for uint8.

    Half-pixel centres, no antialiasing, weights of 11 bits. The released code resizes with OpenCV; the
    rounding of its fixed-point steps is repeated, since one level of a pixel moves scores by 2e-4.
    """
    if image.shape[:2] == size:
        return image
    top, bottom, row_weights = _fixed_point_taps(image.shape[0], size[0])
    left, right, column_weights = _fixed_point_taps(image.shape[1], size[1], clamp=True)
    channels = np.arange(3)
    left, right = ((3 * column[:, np.newaxis] + channels).ravel() for column in (left, right))
    column_weights = np.repeat(column_weights, 3, axis=1)
    source = image.reshape(image.shape[0], -1)
    result = np.empty((size[0], 3 * size[1]), np.uint8)
    for first in range(0, size[0], RESIZE_BAND):
        band = slice(first, first + RESIZE_BAND)
        rows, positions = np.unique(np.stack([top[band], bottom[band]]), return_inverse=True)
        pixels = source[rows]
        wide = np.take(pixels, left, axis=1) * column_weights[0]
        wide += np.take(pixels, right, axis=1) * column_weights[1]
        wide >>= 4
        upper, lower = wide[positions]
        upper *= row_weights[0, band, np.newaxis]
        lower *= row_weights[1, band, np.newaxis]
        result[band] = ((upper >> 16) + (lower >> 16) + 2) >> 2
    return result.reshape(*size, 3)


def _fixed_point_taps(
    source: int, target: int, *, clamp: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]:
    """Lower and upper neighbour of each of `target` pixels and their weights (2, target), which sum to 2048.

    OpenCV clamps the weights at the left and right border and the neighbours alone at the top and bottom.
    """
    position = ((np.arange(target) + 0.5) * (1 / (target / source)) - 0.5).astype(np.float32)
    lower = np.floor(position).astype(np.intp)
    fraction = position - lower.astype(np.float32)
    if clamp:
        fraction[(lower < 0) | (lower >= source - 1)] = 0
    one = np.float32(1 << RESIZE_BITS)
    weights = np.rint(np.stack([(1 - fraction) * one, fraction * one])).astype(np.int32)
    return np.clip(lower, 0, source - 1), np.clip(lower + 1, 0, source - 1), weights


def to_pixel_values(
    windows: NDArray[np.uint8], input_size: tuple[int, int], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Normalised pixels (B,3,H,W) float32 of windows (B,h,w,3), resized to `input_size` where they differ.

    The resize is bilinear with antialiasing on float pixels 0-255 with half-pixel centres, the aspect ratio
    not kept, as torchvision's `resize` of a tensor.
    """
    mean, std = np.array(preprocessing.mean, np.float64), np.array(preprocessing.std, np.float64)
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    planes: NDArray[np.float32] = windows.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    if planes.shape[2:] != input_size:
        rows, columns = map(_antialias_matrix, planes.shape[2:], input_size)
        planes = matmul(matmul(rows, planes), columns.T)
    planes *= scale[:, np.newaxis, np.newaxis]
    planes += shift[:, np.newaxis, np.newaxis]
    return planes


def _antialias_matrix(source: int, target: int) -> NDArray[np.float32]:
    """Weights (target, source) of a linear resize; when shrinking, the triangle is as wide as the scale.

    Positions are float32 as PyTorch's are: at 448 to 518 exact ones would differ from it by 0.01 of a level.
    """
    scale = np.float32(source / target)
    reach = np.maximum(scale, np.float32(1))
    centres = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * scale
    distance = np.arange(source, dtype=np.float32) - centres[:, np.newaxis] + np.float32(0.5)
    weights: NDArray[np.float32] = np.maximum(1 - np.abs(distance / reach), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
