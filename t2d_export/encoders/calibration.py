"""Windows of images to calibrate int8 on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import Manifest
from t2d_runtime.errors import OptionError
from t2d_runtime.image.formats import image_suffixes
from t2d_runtime.image.preprocess import resize, to_pixel_values
from t2d_runtime.image.reading import load_image
from t2d_runtime.image.windows import cut_windows, resized_size, size_of, window_boxes


def calibration_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name. Raises OptionError where there are none."""
    suffixes = image_suffixes()
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in suffixes)
    if not found:
        raise OptionError(f"--calibration {folder} holds no image; expected a folder with some tens of photographs")
    return found


def calibration_windows(
    images: list[Path] | list[NDArray[np.uint8]], manifest: Manifest
) -> Iterator[NDArray[np.float32]]:
    """Normalised windows (1,3,H,W) of every image, cut as for segmentation."""
    for image in images:
        pixels = load_image(image)
        size = resized_size(size_of(pixels), manifest.windows)
        crops = cut_windows(resize(pixels, size), window_boxes(size, manifest.windows))
        for crop in crops:
            yield to_pixel_values(crop[None], manifest.model.input_size, manifest.preprocessing)
