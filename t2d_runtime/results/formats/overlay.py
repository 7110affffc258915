"""The image under the colours of its labels, with a legend, as PNG."""

from __future__ import annotations

from typing import BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.results.formats.own_png import save_png


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write `Segmentation.overlay`."""
    save_png(item.segmentation.overlay(legend=options.legend, font=options.font), file)


FORMAT = FileFormat("overlay", ".overlay.png", "the image in its labels' colours, with a legend", write)
