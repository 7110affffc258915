"""The formats of result files. Each is a module of its name and an entry in `NAMES`.

This imports neither NumPy nor Pillow, since the help of the commands is made from it.
"""

from __future__ import annotations

import importlib
from typing import Final

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions, RunFormat, RunWriter

NAMES: Final = (
    "overlay",
    "png",
    "grey",
    "npz",
    "scores",
    "json",
    "coco",
    "labelme",
    "geojson",
    "csv",
)
"""Formats in the order of the help. Each is the `FORMAT` of the module of its name."""

FORMATS: Final[dict[str, FileFormat | RunFormat]] = {
    name: importlib.import_module(f"{__name__}.{name}").FORMAT for name in NAMES
}
"""Name -> format."""

DEFAULT_FORMATS: Final = ("overlay", "png", "json")

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "NAMES",
    "FileFormat",
    "ImageResult",
    "OutputOptions",
    "RunFormat",
    "RunWriter",
]
