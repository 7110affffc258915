"""The scores of all classes as a NumPy array: large."""

from __future__ import annotations

import zipfile
from typing import Any, BinaryIO

from t2d_runtime.errors import OptionError
from t2d_runtime.results.formats.base import FileFormat, ImageResult, OutputOptions, Planes
from t2d_runtime.storage.own_files import GENERATOR, GENERATOR_KEY

DTYPE = "float16"
"""Half of float32's size; its steps are at most 0.0005 between 0 and 1."""

PIECE = 1 << 20
"""Scores converted and written at a time."""


def write(file: BinaryIO, item: ImageResult, options: OutputOptions) -> None:
    """Write the arrays scores (N,H,W) float16 of the N classes without background, and class_names of these classes.

    They are stored uncompressed: compressing a few hundred megabytes takes a minute and saves little.
    """
    import numpy as np

    result = item.segmentation
    scores = result.scores if item.scores is None else item.scores
    if scores is None:
        raise OptionError("the result has no scores; segment with keep_scores=True")
    names = result.class_names[1:] if result.has_background else result.class_names
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in ((GENERATOR_KEY, np.array(GENERATOR)), ("class_names", np.array(names))):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
        with archive.open("scores.npy", "w", force_zip64=True) as member:
            _write_scores(member, scores)


def _write_scores(member: Any, scores: Planes) -> None:
    """Write an .npy plane by plane and in pieces, so that no second array of this size is needed."""
    import numpy as np

    dtype = np.dtype(DTYPE)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": scores.shape}
    np.lib.format.write_array_header_1_0(member, header)
    for plane in scores:
        flat = plane.reshape(-1)
        for start in range(0, len(flat), PIECE):
            member.write(flat[start : start + PIECE].astype(dtype).tobytes())


FORMAT = FileFormat("scores", ".scores.npz", f"the scores of all classes as a NumPy array of {DTYPE}", write)
