"""The formats that results are written in: a file each, and its line in `FORMATS`.

Importing this costs neither NumPy nor Pillow: the help of the commands is made from it.
"""

from __future__ import annotations

from typing import Final

from t2d_runtime.results.formats import grey, json, npz, overlay, png, scores
from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions, RunFormat, RunWriter

FORMATS: Final[dict[str, FileFormat | RunFormat]] = {
    found.name: found
    for found in (
        overlay.FORMAT,
        png.FORMAT,
        grey.FORMAT,
        npz.FORMAT,
        scores.FORMAT,
        json.FORMAT,
    )
}
"""Name -> format."""

DEFAULT_FORMATS: Final = ("overlay", "png", "json")

__all__ = ["DEFAULT_FORMATS", "FORMATS", "FileFormat", "ImageResult", "OutputOptions", "RunFormat", "RunWriter"]
