"""The label map and the names of its labels as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from t2d_runtime.results.formats.base import FileFormat, OutputOptions
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY

if TYPE_CHECKING:
    from t2d_runtime.results.segmentation import Segmentation


def write(file: BinaryIO, result: Segmentation, options: OutputOptions) -> None:
    """Write the arrays label_map (H,W), and class_names: label -> name."""
    import numpy as np

    arrays = {
        GENERATOR_KEY: np.array(GENERATOR),
        "label_map": result.label_map,
        "class_names": np.array(result.class_names),
    }
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


FORMAT = FileFormat("npz", ".npz", "the labels and their names as NumPy arrays", write)
