"""Polygons of the labels as labelme opens them, to be corrected by hand."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY

if TYPE_CHECKING:
    from t2d_runtime.results.segmentation import Segmentation
    from t2d_runtime.results.shapes.outlines import Outline

VERSION = "5.5.0"
"""Version of labelme whose fields the file has."""


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write a polygon for each connected part, from the largest to the smallest.

    labelme's polygons have no holes, and later ones lie upon earlier ones. So a part covers its holes, and the parts in
    them come after it. Background is a shape only where it may lie in a hole: where it does not reach the border.
    The image is named by its path from the file's folder; one that came through a pipe is in the file, as PNG.
    """
    result = item.segmentation
    height, width = result.label_map.shape
    head: dict[str, Any] = {GENERATOR_KEY: GENERATOR, "version": VERSION, "flags": {}}
    file.write((json.dumps(head)[:-1] + ', "shapes": [').encode())
    separator = "\n"
    for outline in _in_painting_order(result):
        file.write((separator + json.dumps(_shape(outline))).encode())
        separator = ",\n"
    tail = {"imagePath": _image_path(item), "imageData": None, "imageHeight": height, "imageWidth": width}
    if not isinstance(item.source, Path):
        tail["imageData"] = _png_base64(result)
    file.write(("\n], " + json.dumps(tail)[1:] + "\n").encode())


def _in_painting_order(result: Segmentation) -> list[Outline]:
    """Parts by the area inside their outer rings: what lies in a hole is smaller than what is around it."""
    from t2d_runtime.results.shapes.outlines import outlines_of

    height, width = result.label_map.shape

    def is_shown(outline: Outline) -> bool:
        ring = outline.polygon.exterior
        inside = ring.min() > 0 and ring[:, 0].max() < width and ring[:, 1].max() < height
        return inside or not (result.has_background and outline.label == 0)

    return sorted(filter(is_shown, outlines_of(result)), key=lambda outline: -outline.polygon.outer_area)


def _shape(outline: Outline) -> dict[str, Any]:
    score = outline.mean_score
    return {
        "label": outline.name,
        "points": outline.polygon.exterior.astype(float).tolist(),
        "group_id": None,
        "description": "" if score is None else f"mean score {score:.4f}",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


def _image_path(item: ImageResult) -> str:
    """The image's path from the folder of the file, with slashes; its whole path on another drive."""
    if not isinstance(item.source, Path) or item.folder is None:
        return item.image
    try:
        return Path(os.path.relpath(item.source, item.folder)).as_posix()
    except ValueError:
        return item.source.absolute().as_posix()


def _png_base64(result: Segmentation) -> str:
    from base64 import b64encode

    from PIL import Image

    stream = BytesIO()
    Image.fromarray(result.image).save(stream, "PNG")
    return b64encode(stream.getvalue()).decode("ascii")


FORMAT = FileFormat("labelme", ".labelme.json", "polygons to correct in labelme", write, mean_scores=True)
