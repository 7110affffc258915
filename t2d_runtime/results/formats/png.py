"""The label map as a PNG whose values are the labels, shown in their colours."""

from __future__ import annotations

from typing import BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.results.formats.own_png import save_png


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write `Segmentation.label_image`: a palette of 8 bits up to 256 labels, else 16-bit grey."""
    save_png(item.segmentation.label_image(), file)


FORMAT = FileFormat("png", ".labels.png", "the labels as colours of a palette, 16-bit grey beyond 256 of them", write)
