"""A table of a whole run: a row for each label in each image."""

from __future__ import annotations

from typing import BinaryIO

from t2d_runtime.results.formats.base import ImageResult, OutputOptions, RunFormat
from t2d_runtime.results.shapes.table import COLUMNS, csv_of

IMAGE = "image"
"""First column: the image's name in the run."""


class CsvWriter:
    """Writes rows as they come. Nothing marks the file as this program's, so that only `overwrite` replaces it."""

    def __init__(self, file: BinaryIO, options: OutputOptions) -> None:
        self._file = file
        file.write(csv_of([], (IMAGE, *COLUMNS)).encode())

    def add(self, item: ImageResult) -> None:
        """Write a row for each label that has pixels."""
        rows = [{IMAGE: item.image, **record} for record in item.segmentation.to_records() if record["pixels"]]
        self._file.write(csv_of(rows, (IMAGE, *COLUMNS), header=False).encode())

    def finish(self) -> None:
        """Do nothing: no line follows the rows."""

    def close(self) -> None:
        """Do nothing: the writer holds no file of its own."""


FORMAT = RunFormat(
    "csv", "labels.csv", "one table for all images: names, areas and boxes of the labels", CsvWriter, mean_scores=True
)
