"""Writing results: overlay and label pictures, npz and JSON, each file whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from t2d_runtime.errors import OptionError
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.storage.whole_file import whole_file

SUFFIXES = {"overlay": ".overlay.png", "png": ".labels.png", "npz": ".npz", "json": ".json"}
"""Output format -> what is appended to the image's name."""


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Known output formats, in order. Raises OptionError."""
    unknown = [name for name in formats if name not in SUFFIXES]
    if unknown or not formats:
        raise OptionError(f"unknown output format {unknown}, expected some of {','.join(SUFFIXES)}")
    return tuple(dict.fromkeys(formats))


def check_distinct(images: Sequence[Path]) -> None:
    """Raise OptionError where the outputs of two images would have one name."""
    seen: dict[str, Path] = {}
    for image in images:
        other = seen.setdefault(image.stem, image)
        if other is not image:
            raise OptionError(
                f"{other} and {image} would both be written as {image.stem}.*; segment them into two --output folders"
            )


def write_segmentation(result: Segmentation, folder: Path, stem: str, formats: Sequence[str]) -> list[Path]:
    """Write a result in every format into a folder; returns the paths in the order of `formats`.

    overlay: PNG with legend. png: the labels, as palette indices up to 256 labels, else 16-bit grey. npz:
    label_map, class_names and, where kept, scores. json: `Segmentation.summary`.
    """
    writers: dict[str, Callable[[BinaryIO], object]] = {
        "overlay": lambda file: result.overlay().save(file, "PNG"),
        "png": lambda file: result.label_image().save(file, "PNG"),
        "npz": lambda file: _save_npz(file, result),
        "json": lambda file: file.write((json.dumps(result.summary(), indent=2) + "\n").encode()),
    }
    paths = [folder / (stem + SUFFIXES[name]) for name in formats]
    for name, path in zip(formats, paths, strict=True):
        with whole_file(path) as file:
            writers[name](file)
    return paths


def _save_npz(file: BinaryIO, result: Segmentation) -> None:
    arrays = {"label_map": result.label_map, "class_names": np.array(result.class_names)}
    if result.scores is not None:
        arrays["scores"] = result.scores
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
