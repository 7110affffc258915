"""Reads a picture in any form to RGB pixels; all code reads images here."""

from __future__ import annotations

from os import PathLike
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from t2d_runtime.errors import ImageError
from t2d_runtime.image.containers import check_scans
from t2d_runtime.image.encoded import DECODE_ERRORS, decode, decoding, warn_of_missing
from t2d_runtime.image.formats import NOT_DECODED
from t2d_runtime.image.orientation import exif_in_text, orientation_of, upright
from t2d_runtime.image.pixels import levels_of, on_white, rgb_of_grey, rgb_of_image
from t2d_runtime.image.sizes import check_size, pixel_limit
from t2d_runtime.image.sources import BinaryFile, lock_of, read_file, read_path

ImageLike = str | PathLike[str] | bytes | bytearray | memoryview | BinaryFile | Image.Image | NDArray[np.uint8]
"""A path; an encoded picture's bytes, or a binary file open for reading; a PIL image; an array (H,W,3) of RGB, (H,W) or
(H,W,1) of grey, (H,W,4) of RGBA."""

NAMELESS = "the image"

_CLEANED = ("JPEG", "MPO", "PNG", "TIFF")
"""Formats whose metadata may keep Pillow from decoding an image that it has opened."""

_FAILED = "_t2d_runtime_failed"
"""Attribute of a PIL image that failed to decode. Pillow forgets the failure, and would next give a partial image."""


def load_image(image: ImageLike, *, allow_truncated: bool = False, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """An image as a new RGB array (H,W,3) uint8, upright.

    `image`: a path; bytes, bytearray or memoryview of an encoded picture; a binary file open for reading, from its
    beginning where it can be sought; a PIL image; or an array uint8 of RGB (H,W,3), grey (H,W) or (H,W,1), RGBA
    (H,W,4). One PIL image or open file may be given by several threads at once.
    The EXIF orientation is applied where it can be read; all other metadata is ignored. Transparency is shown on white,
    as in image viewers. Grey of 9 to 16 bits is scaled to 8. Palettes, grey and CMYK are converted. Colours of 16 bits
    keep their upper eight. An animation gives its first frame, a PIL image its current frame. HEIC is read where
    pi-heif is installed. No other program is ever started.

    `allow_truncated` reads a damaged or truncated picture as far as it goes, with a warning in the log; the rest is
    grey or black. A JPEG that lacks only the end marker is always read, with a warning.
    `max_pixels` limits a picture's pixels (width x height); None takes the environment variable T2D_MAX_PIXELS, else
    `MAX_PIXELS`. Arrays are not limited.

    Raises ImageNotFoundError for a missing file, OptionError for a limit that is no whole number, and ImageError for
    anything else: an unreadable or truncated file, no pixels or too many, an array of another shape or dtype, pixels of
    unknown range (float, signed, or 32-bit integers not known to be 16-bit grey).
    """
    limit = pixel_limit(max_pixels)
    if isinstance(image, np.ndarray):
        return _rgb_of_array(image)
    if isinstance(image, Image.Image):
        return _rgb_of_pil(image, limit, allow_truncated=allow_truncated)
    if isinstance(image, str | PathLike):
        content, name = read_path(image, limit)
    elif isinstance(image, bytes | bytearray | memoryview):
        content, name = bytes(image), "the image data"
    elif hasattr(image, "read"):
        content, name = read_file(image, limit)
    else:
        raise ImageError(
            "expected an image path, a PIL image or an (H,W,3) uint8 array, or bytes or a binary file of an encoded "
            f"image, got {type(image).__name__}"
        )
    return decode(content, name, limit, allow_truncated=allow_truncated)


def _rgb_of_array(image: NDArray[Any]) -> NDArray[np.uint8]:
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.size == 0:
        raise ImageError(
            f"expected an RGB array of shape (H, W, 3) and dtype uint8, got {image.shape} and {image.dtype}; grey "
            f"(H, W) or (H, W, 1) and RGBA (H, W, 4) are taken too{_advice(image)}"
        )
    if channels == 1:
        return rgb_of_grey(image.reshape(image.shape[:2]))
    if channels == 4:
        return on_white(Image.fromarray(np.ascontiguousarray(image)))
    return np.array(image, order="C")


def _advice(array: NDArray[Any]) -> str:
    """Advice on an array that is no image here, where its shape or dtype tells what it is."""
    if array.dtype.kind == "f":
        return "; where its values are 0 to 1, give (255 * array).round().astype(np.uint8)"
    if array.ndim == 1:
        return "; for an encoded image give its bytes: array.tobytes()"
    if array.ndim == 4:
        return "; of several images give one, or all of them to segment_batch"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        return "; put the channels last: array.transpose(1, 2, 0)"
    return ""


def _rgb_of_pil(image: Image.Image, limit: int, *, allow_truncated: bool) -> NDArray[np.uint8]:
    check_size(image.width, image.height, NAMELESS, limit)
    if image.format in NOT_DECODED and getattr(image, "tile", None):
        raise ImageError(f"{NAMELESS} is {image.format}, which needs another program to decode; give it as PNG")
    with lock_of(image):
        file = _file_behind(image)
        content = _read_again(file) if image.format in ("JPEG", "MPO", "TIFF") else b""
        if image.format != "TIFF" or not content:
            check_scans(content, NAMELESS)
            return _rgb_of_opened(image, file, limit, allow_truncated=allow_truncated)
    # Pillow would read all metadata of a TIFF before its pixels, and give warnings about it.
    return decode(content, NAMELESS, limit, allow_truncated=allow_truncated)


def _rgb_of_opened(
    image: Image.Image, file: IO[bytes] | None, limit: int, *, allow_truncated: bool
) -> NDArray[np.uint8]:
    """Pixels of a PIL image as Pillow decodes it; where that fails, those of its file, if it has one."""
    try:
        return _rgb_of_loaded(image, allow_truncated=allow_truncated and file is None)
    except ImageError as error:
        vars(image)[_FAILED] = str(error)
        content = _read_again(file)
        if not content:
            raise
    try:
        pixels = decode(content, NAMELESS, limit, allow_truncated=False)
    except ImageError:
        if not allow_truncated:
            raise
        return decode(content, NAMELESS, limit, allow_truncated=True)
    del vars(image)[_FAILED]  # only its metadata, or a missing end, kept Pillow from the pixels
    return pixels


def _rgb_of_loaded(image: Image.Image, *, allow_truncated: bool) -> NDArray[np.uint8]:
    """Pixels of a PIL image, which Pillow decodes now if it has not yet."""
    with decoding(NAMELESS):
        if _FAILED in vars(image) and not allow_truncated:
            raise ImageError(vars(image)[_FAILED])
        try:
            image.load()
        except DECODE_ERRORS as error:
            if not (allow_truncated and isinstance(image, ImageFile.ImageFile) and image.tile):
                raise
            image.tile = []
            vars(image)[_FAILED] = f"{NAMELESS} cannot be decoded, it may be truncated or damaged: {error}"
            warn_of_missing(NAMELESS, error)
        pixels = rgb_of_image(image, NAMELESS, levels_of(image))
    return upright(pixels, _orientation_of_pil(image))


def _orientation_of_pil(image: Image.Image) -> int:
    """The orientation of a PIL image. Pillow rotates a TIFF itself, and then drops the orientation."""
    if image.format == "TIFF":
        return 1
    exif, text = image.info.get("exif"), image.info.get("Raw profile type exif")
    if not isinstance(exif, bytes) and isinstance(text, str):
        exif = exif_in_text(b"Raw profile type exif", text.encode("latin-1", "replace"))
    return orientation_of(exif) if isinstance(exif, bytes) else 1


def _file_behind(image: Image.Image) -> IO[bytes] | None:
    """The open file of a PIL image that is not decoded, not moved to another frame and not in draft mode."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in _CLEANED:
        return None
    untouched = image.tile and not image.decoderconfig and image.tell() == 0
    return image.fp if untouched else None


def _read_again(file: IO[bytes] | None) -> bytes:
    """The whole content of an open file; empty where it is closed."""
    if file is None:
        return b""
    try:
        place = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(place)
    except (OSError, ValueError):
        return b""
    return content
