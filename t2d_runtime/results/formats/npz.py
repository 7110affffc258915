"""The label map and the names of its labels as NumPy arrays."""

from __future__ import annotations

from typing import BinaryIO

from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write the arrays label_map (H,W), class_names: label -> name, and confidence (H,W) float32 where it is kept."""
    import numpy as np

    arrays = {
        GENERATOR_KEY: np.array(GENERATOR),
        "label_map": item.segmentation.label_map,
        "class_names": np.array(item.segmentation.class_names),
    }
    if item.segmentation.confidence is not None:
        arrays["confidence"] = item.segmentation.confidence
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


FORMAT = FileFormat("npz", ".npz", "the labels and their names as NumPy arrays", write, mean_scores=True)
