"""The labels in words and numbers: names, areas, boxes, and the settings that made them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY

if TYPE_CHECKING:
    from t2d_runtime.results.segmentation import Segmentation


def json_content(result: Segmentation) -> dict[str, Any]:
    """`Segmentation.summary` after the program's mark, and the origin where it is known."""
    origin = {} if result.origin is None else {"origin": asdict(result.origin)}
    return {GENERATOR_KEY: GENERATOR, **result.summary(), **origin}


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write the content as JSON."""
    import json

    file.write((json.dumps(json_content(item.segmentation), indent=2) + "\n").encode())


FORMAT = FileFormat("json", ".json", "names, areas and boxes of the labels, and the settings", write, mean_scores=True)
