"""The formats that results are written in: a file of its name for each, and a line in `NAMES`.

Importing this costs neither NumPy nor Pillow: the help of the commands is made from it.
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
)
"""Formats in the order of the help: each is the `FORMAT` of the module of that name."""

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
