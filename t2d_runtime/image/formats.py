"""The formats that are read, each by its own plugin of Pillow's: nothing else is tried, whatever a file's name says.

Left out is every format for which Pillow starts another program or needs one's code (PostScript, WMF, GRIB, BUFR,
HDF5), whose pictures may themselves be of any format (IPTC), which Pillow is about to drop (IM), or in which nobody's
photographs come.
"""

from __future__ import annotations

import importlib
import struct
from io import BytesIO
from typing import Final

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
"""Formats in which an image opened by the caller with Pillow is not decoded either: see above."""

_SIGNED: Final = {
    "JPEG": (0, (b"\xff\xd8\xff",)),
    "PNG": (0, (b"\x89PNG\r\n\x1a\n",)),
    "WEBP": (8, (b"WEBPVP8",)),
    "TIFF": (0, (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")),
    "AVIF": (4, (b"ftypavif", b"ftypavis")),
    "GIF": (0, (b"GIF87a", b"GIF89a")),
    "ICO": (0, (b"\0\0\1\0",)),
}
"""Formats that their first bytes tell for certain: where these stand, and what they may be."""

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
"""First bytes, in lower case where they are letters, of what is often taken for a picture."""


def image_suffixes() -> frozenset[str]:
    """Suffixes, in lower case and with their dot, that files of these formats bear, HEIC's among them."""
    registered = Image.registered_extensions().items()
    return frozenset((*(suffix for suffix, kind in registered if kind in (*PLUGINS, "MPO")), *HEIF_SUFFIXES))


def kind_of(content: bytes) -> str | None:
    """The format that the first bytes tell, one of PLUGINS or "HEIF"; None where they do not.

    AVIF's container may bear HEIF's general brands alone; the list of brands behind then tells.
    """
    for kind, (place, signatures) in _SIGNED.items():
        if content[place : place + 16].startswith(signatures):
            return kind
    if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
        brands = content[16 : min(int.from_bytes(content[:4], "big"), 256)]
        return "AVIF" if b"avif" in brands or b"avis" in brands else "HEIF"
    return None


def refuse_others(content: bytes, name: str) -> None:
    """Raises ImageError, with what it is, for what is known not to be a picture of pixels."""
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for signature, what in _OTHERS:
        if start.startswith(signature) or (signature.isascii() and start.lower().startswith(signature.lower())):
            raise ImageError(f"{name} is not an image but {what}; {EXPECTED}")
    if content[4:8] == b"ftyp" and kind_of(content) is None and content[8:11] != b"jp2":
        raise ImageError(f"{name} is not an image but a video, or a camera's raw data; {EXPECTED}")


def open_as(kind: str | None, content: bytes) -> ImageFile.ImageFile:
    """A picture opened by the plugin of its format, or the first that takes it; not yet decoded.

    The plugins are called themselves, since `Image.open` warns of large pictures by a limit of the whole process.
    Raises UnidentifiedImageError where none takes it, and what a plugin raises.
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
