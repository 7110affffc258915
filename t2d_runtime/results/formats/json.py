"""The labels in words and numbers: names, areas, boxes, and the settings that made them."""

from __future__ import annotations

from typing import BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write `Segmentation.summary`, and the origin where it is known."""
    import json
    from dataclasses import asdict

    origin = item.segmentation.origin
    content = {GENERATOR_KEY: GENERATOR, **item.segmentation.summary()}
    if origin is not None:
        content["origin"] = asdict(origin)
    file.write((json.dumps(content, indent=2) + "\n").encode())


FORMAT = FileFormat("json", ".json", "names, areas and boxes of the labels, and the settings", write, mean_scores=True)
