"""COCO's annotation file of a whole run: images, annotations with exact masks, and categories."""

from __future__ import annotations

import json
import shutil
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO

from t2d_runtime.device.install import needs_extra
from t2d_runtime.results.formats.base import ImageResult, OutputOptions, RunFormat
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY

IN_MEMORY = 1 << 20
"""Most bytes about images that are held in memory; beyond that they wait in a temporary file."""


class CocoWriter:
    """Writes annotations as they come, and at the end the images and categories.

    An annotation is a class in an image, as in COCO-Stuff: its mask as compressed run lengths, area and box, and with
    confidence its mean score. Background has none. Categories are numbered from 1 in the order of the classes.
    """

    def __init__(self, file: BinaryIO, options: OutputOptions) -> None:
        self._file = file
        self._images: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  see close
        self._num_images = self._num_annotations = 0
        self._categories: dict[str, int] = {}
        info = {"description": "Segmentation by words", "version": "1.0"}
        file.write(f'{{"{GENERATOR_KEY}": {json.dumps(GENERATOR)},\n"info": {json.dumps(info)},\n'.encode())
        file.write(b'"licenses": [],\n"annotations": [')

    def add(self, item: ImageResult) -> None:
        """Write the annotations of one result."""
        entries = self._annotations(item)
        height, width = item.segmentation.label_map.shape
        image = {"id": self._num_images + 1, "file_name": item.image, "width": width, "height": height}
        for entry in entries:
            self._file.write(_lines(self._num_annotations, entry))
            self._num_annotations += 1
        self._images.write(_lines(self._num_images, image))
        self._num_images += 1

    def finish(self) -> None:
        """Write the images and the categories."""
        self._file.write(b'\n],\n"images": [')
        self._images.seek(0)
        shutil.copyfileobj(self._images, self._file)
        categories = [{"id": number, "name": name, "supercategory": ""} for name, number in self._categories.items()]
        self._file.write(b"\n],\n" + f'"categories": {json.dumps(categories)}}}\n'.encode())

    def close(self) -> None:
        """Remove the temporary file."""
        self._images.close()

    def _annotations(self, item: ImageResult) -> list[dict[str, Any]]:
        result = item.segmentation
        codes = result.rle()
        entries: list[dict[str, Any]] = []
        for label in result.summary()["labels"][int(result.has_background) :]:
            category = self._categories.setdefault(label["name"], len(self._categories) + 1)
            if label["box"] is None:
                continue
            left, top, right, bottom = label["box"]
            entry = {
                "id": self._num_annotations + len(entries) + 1,
                "image_id": self._num_images + 1,
                "category_id": category,
                "segmentation": codes[label["name"]],
                "area": label["pixels"],
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
            entries.append(entry | ({"score": label["mean_score"]} if "mean_score" in label else {}))
        return entries


def check() -> None:
    """Raise MissingPackageError where pycocotools is missing."""
    with needs_extra("shapes"):
        from pycocotools import mask  # noqa: F401


def _lines(before: int, entry: dict[str, Any]) -> bytes:
    """An element of a JSON array on a line of its own, after as many others."""
    return (("," if before else "") + "\n" + json.dumps(entry)).encode()


FORMAT = RunFormat(
    "coco",
    "coco.json",
    "one file for all images: COCO's images, annotations and categories",
    CocoWriter,
    mean_scores=True,
    check=check,
)
