"""The image formats that are read, each by its own plugin of Pillow. A file's name decides nothing.

Some formats are not read: those for which Pillow starts another program or needs its code (PostScript, WMF, GRIB, BUFR,
HDF5), whose pictures may be of any other format (IPTC), which Pillow is about to drop (IM), or in which nobody stores
photographs.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import Final, cast

from PIL import Image, ImageFile, UnidentifiedImageError, __version__

from t2d_runtime.errors import ImageError

PLUGINS: Final = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "TIFF": "TiffImagePlugin",
    "AVIF": "AvifImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "PPM": "PpmImagePlugin",
    "ICO": "IcoImagePlugin",
    "CUR": "CurImagePlugin",
    "ICNS": "IcnsImagePlugin",
    "PSD": "PsdImagePlugin",
    "QOI": "QoiImagePlugin",
    "DDS": "DdsImagePlugin",
    "SGI": "SgiImagePlugin",
    "SUN": "SunImagePlugin",
    "PCX": "PcxImagePlugin",
    "MSP": "MspImagePlugin",
    "XBM": "XbmImagePlugin",
    "XPM": "XpmImagePlugin",
    "TGA": "TgaImagePlugin",
}
"""Pillow's formats -> the modules that read them. TGA comes last: it has no signature."""

NOT_DECODED: Final = ("EPS", "WMF", "EMF", "BUFR", "GRIB", "HDF5", "IPTC")
"""Formats that are refused even where the caller opened the image with Pillow: see above."""

_SIGNED: Final = {
    "JPEG": (0, (b"\xff\xd8\xff",)),
    "PNG": (0, (b"\x89PNG\r\n\x1a\n",)),
    "WEBP": (8, (b"WEBPVP8",)),
    "TIFF": (0, (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")),
    "AVIF": (4, (b"ftypavif", b"ftypavis")),
    "GIF": (0, (b"GIF87a", b"GIF89a")),
    "ICO": (0, (b"\0\0\1\0",)),
}
"""Formats that their first bytes tell for certain -> the position of these bytes, and their possible values."""

HEIF_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")

HEIF_SUFFIXES: Final = (".heic", ".heics", ".heif", ".heifs", ".hif")

EXPECTED: Final = "expected JPEG, PNG or another that Pillow reads"

_OTHERS: Final = (
    (b"%!PS", "PostScript, a program, which is never run"),
    (b"\xc5\xd0\xd3\xc6", "PostScript, a program, which is never run"),
    (b"%PDF", "a PDF: export its pages as PNG"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile, drawing commands: export it as PNG"),
    (b"<svg", "SVG, drawing commands: export it as PNG"),
    (b"<?xml", "XML: where that is a drawing, export it as PNG"),
    (b"<!doctype html", "a web page: download the picture itself"),
    (b"<html", "a web page: download the picture itself"),
    (b"\xff\x0a", "JPEG XL, which Pillow does not read: convert it to PNG"),
    (b"\0\0\0\x0cjxl ", "JPEG XL, which Pillow does not read: convert it to PNG"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"PK\3\4", "a zip archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself with 'git lfs pull'"),
)
"""First bytes, letters in lower case, of files that are often mistaken for pictures."""


def image_suffixes() -> frozenset[str]:
    """Suffixes of files of these formats and of HEIC, in lower case and with their dot."""
    registered = Image.registered_extensions().items()
    return frozenset((*(suffix for suffix, kind in registered if kind in (*PLUGINS, "MPO")), *HEIF_SUFFIXES))


def kind_of(content: bytes) -> str | None:
    """The format that the first bytes tell, one of PLUGINS or "HEIF"; None where they tell none.

    An AVIF may begin with HEIF's general brands; then the list of brands after them decides.
    """
    for kind, (place, signatures) in _SIGNED.items():
        if content[place : place + 16].startswith(signatures):
            return kind
    if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
        brands = content[16 : min(int.from_bytes(content[:4], "big"), 256)]
        return "AVIF" if b"avif" in brands or b"avis" in brands else "HEIF"
    return None


def refuse_others(content: bytes, name: str) -> None:
    """Raises ImageError for content known not to be a picture of pixels; the message says what it is."""
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, what in _OTHERS:
        if start.startswith(signature) or (signature.isascii() and start.lower().startswith(signature.lower())):
            raise ImageError(f"{name} is not an image but {what}; {EXPECTED}")
    if content[4:8] == b"ftyp" and kind_of(content) is None and content[8:11] != b"jp2":
        raise ImageError(f"{name} is not an image but a video, or a camera's raw data; {EXPECTED}")


def open_as(kind: str | None, content: bytes) -> ImageFile.ImageFile:
    """A picture opened by the plugin of its format, or the first that takes it; not yet decoded.

    The plugins are called directly, since `Image.open` warns of large pictures by a limit of the whole process.
    Raises UnidentifiedImageError where no plugin takes it, and the errors of the plugins.
    """
    reason: Exception | None = None
    for format_name in (kind,) if kind else [name for name in PLUGINS if name not in _SIGNED]:
        try:
            importlib.import_module(f"PIL.{PLUGINS[format_name]}")
            factory, accepts = Image.OPEN[format_name]
            accepted = accepts is None or accepts(content[:16])
            if accepted and not isinstance(accepted, str):  # a text says that Pillow was built without the decoder
                return factory(BytesIO(content), "")
            reason = ValueError(accepted) if accepted else reason
        except ImportError:
            reason = OSError(f"Pillow {__version__} has no decoder for {format_name}; install a newer one")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            reason = error
    if kind:
        raise OSError(str(reason or "unknown structure"))
    raise UnidentifiedImageError


@contextmanager
def without_process_limit(image: Image.Image) -> Iterator[None]:
    """Let a picture load that has more pixels than Pillow's limit of the whole process.

    Pillow applies it again when it loads a TIFF; other pictures from `open_as` are not affected.
    """
    if image.format == "TIFF":
        vars(image)["load_prepare"] = partial(ImageFile.ImageFile.load_prepare, cast("ImageFile.ImageFile", image))
    try:
        yield
    finally:
        vars(image).pop("load_prepare", None)  # breaks a reference cycle, so that memory is freed at once
