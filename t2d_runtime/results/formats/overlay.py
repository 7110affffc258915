"""The image under the colours of its labels, with a legend, as PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from t2d_runtime.results.formats.base import FileFormat, OutputOptions
from t2d_runtime.results.formats.own_png import save_png

if TYPE_CHECKING:
    from t2d_runtime.results.segmentation import Segmentation


def write(file: BinaryIO, result: Segmentation, options: OutputOptions) -> None:
    """Write `Segmentation.overlay`."""
    save_png(result.overlay(legend=options.legend, font=options.font), file)


FORMAT = FileFormat("overlay", ".overlay.png", "the image in its labels' colours, with a legend", write)
