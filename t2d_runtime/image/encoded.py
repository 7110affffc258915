"""Decodes encoded pictures, as files hold them, to RGB."""

from __future__ import annotations

import importlib
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from t2d_runtime.errors import ImageError
from t2d_runtime.image.containers import check_scans, declared_sizes, plain_heif, plain_jpeg, plain_png, plain_webp
from t2d_runtime.image.formats import EXPECTED, kind_of, open_as, refuse_others, without_process_limit
from t2d_runtime.image.jpeg_end import has_all_scans, other_endings, with_end
from t2d_runtime.image.orientation import orientation_of, upright
from t2d_runtime.image.pixels import rgb_of_image
from t2d_runtime.image.sizes import MAX_PIXELS_VARIABLE, check_size
from t2d_runtime.image.tiff import Levels, plain_tiff

logger = logging.getLogger(__name__)

DECODE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
)
"""Errors that Pillow's decoders raise on damaged files, found by damaging files of its formats at random."""

HEIF_READERS = ("pi_heif", "pillow_heif")
"""Modules that decode HEIC: the first only reads, the second writes too."""


class _Picture(NamedTuple):
    kind: str | None
    content: bytes
    """The picture's bytes without its metadata."""
    orientation: int = 1
    levels: Levels = Levels()


def decode(content: bytes, name: str, limit: int, *, allow_truncated: bool) -> NDArray[np.uint8]:
    """An encoded picture as an upright RGB array (H,W,3) uint8. Raises ImageError, which begins with `name`."""
    if not content:
        raise ImageError(f"{name} is empty; expected an image")
    kind = kind_of(content)
    refuse_others(content, name)
    with decoding(name):
        for width, height in declared_sizes(content):
            check_size(max(1, width), max(1, height), name, limit)
        picture = _without_metadata(kind, content, name, limit)
        try:
            pixels = _decoded(picture, name, limit)
        except DECODE_ERRORS as error:
            if isinstance(error, ImageError | UnidentifiedImageError | MemoryError):
                raise
            pixels = _mended(picture, name, limit, error, allow_truncated=allow_truncated)
    return upright(pixels, picture.orientation)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns errors of Pillow while it reads a picture into an ImageError that names the picture."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name} has more pixels than Pillow reads in this format; make it smaller, or raise "
            f"PIL.Image.MAX_IMAGE_PIXELS too, beside {MAX_PIXELS_VARIABLE}"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image; {EXPECTED}") from error
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than there is; make it smaller") from error
    except DECODE_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} cannot be decoded, it may be truncated or damaged: {reason}") from error


def _without_metadata(kind: str | None, content: bytes, name: str, limit: int) -> _Picture:
    if kind == "TIFF":
        return _Picture(kind, *plain_tiff(content, name, limit))
    if kind in ("AVIF", "HEIF"):
        return _Picture(kind, plain_heif(content).content)
    if kind == "JPEG":
        check_scans(content, name)
    if kind in ("JPEG", "PNG", "WEBP"):
        plain = {"JPEG": plain_jpeg, "PNG": plain_png, "WEBP": plain_webp}[kind](content)
        return _Picture(kind, plain.content, orientation_of(plain.exif))
    return _Picture(kind, content)


def _decoded(picture: _Picture, name: str, limit: int, *, allow_truncated: bool = False) -> NDArray[np.uint8]:
    """Pixels as they are stored. With `allow_truncated`, as many as a picture that is cut short has."""
    if picture.kind == "HEIF":
        return _heif(picture.content, name, limit)
    image = _opened(picture, name)
    check_size(image.width, image.height, name, limit)
    try:
        with without_process_limit(image):
            image.load()
    except DECODE_ERRORS:
        if not (allow_truncated and vars(image).get("tile")):
            raise
        vars(image)["tile"] = []  # the decoded part is in the image's memory, the rest is black
    pixels = rgb_of_image(image, name, picture.levels)
    if picture.kind == "AVIF":  # Pillow makes EXIF from the boxes that give the picture's rotation
        return upright(pixels, orientation_of(image.info.get("exif", b"")))
    return pixels


def _opened(picture: _Picture, name: str) -> Image.Image:
    try:
        return _icon(picture.content) if picture.kind == "ICO" else open_as(picture.kind, picture.content)
    except OSError as error:
        if picture.kind != "TIFF" or "pixel mode" not in str(error):
            raise
        raise ImageError(
            f"{name} is a TIFF with pixels of a kind that Pillow does not decode, such as colours in float, or 16-bit "
            "grey with transparency; convert it to 8 bits a channel"
        ) from error


def _mended(picture: _Picture, name: str, limit: int, error: Exception, *, allow_truncated: bool) -> NDArray[np.uint8]:
    """Pixels of a picture that failed to decode, if all of them are there; with `allow_truncated`, those there are.

    Raises `error` otherwise.
    """
    if picture.kind == "JPEG":
        pixels = _decoded(picture._replace(content=with_end(picture.content)), name, limit)
        others = (picture._replace(content=content) for content in other_endings(picture.content))
        if has_all_scans(picture.content) and all(
            np.array_equal(pixels, _decoded(other, name, limit)) for other in others
        ):
            logger.warning("%s has no end marker; every pixel is there, so it is read", name)
            return pixels
        if not allow_truncated:
            raise error
    else:
        if not allow_truncated:
            raise error
        pixels = _decoded(picture, name, limit, allow_truncated=True)
    warn_of_missing(name, error)
    return pixels


def warn_of_missing(name: str, error: Exception) -> None:
    """Log a warning that a picture is damaged or cut short, and was read as far as it goes."""
    logger.warning("%s is truncated or damaged (%s); what is missing is grey or black", name, error)


def _icon(content: bytes) -> Image.Image:
    """The largest picture of an icon. Pillow's class for icons is not used: it warns of sizes other than announced."""
    from PIL.IcoImagePlugin import IcoFile

    icon = IcoFile(BytesIO(content))
    entry = icon.entry[0]
    data = content[entry.offset : entry.offset + entry.size]
    if kind_of(data) == "PNG":
        return open_as("PNG", plain_png(data).content)
    return icon.frame(0)


def _heif(content: bytes, name: str, limit: int) -> NDArray[np.uint8]:
    """A picture of HEIC or another HEIF, rotated as its boxes say."""
    for module in HEIF_READERS:
        try:
            reader: Any = importlib.import_module(module)
        except ImportError:
            continue
        opened = reader.open_heif(BytesIO(content))
        width, height = opened.size
        check_size(width, height, name, limit)
        return rgb_of_image(opened.to_pillow(), name, Levels())
    raise ImageError(
        f"{name} is HEIC (HEIF), which Pillow does not read; install pi-heif ('pip install pi-heif'), or convert "
        "it to JPEG"
    )
