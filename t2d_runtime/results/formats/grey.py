"""The label map as a plain grey PNG, for readers that turn a palette into colours."""

from __future__ import annotations

from typing import BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.results.formats.own_png import save_png


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write the labels as grey values: 8 bits up to 256 labels, else 16."""
    from PIL import Image

    save_png(Image.fromarray(item.segmentation.label_map), file)


FORMAT = FileFormat("grey", ".grey.png", "the labels as grey values of 8 bits, 16 beyond 256 labels", write)
