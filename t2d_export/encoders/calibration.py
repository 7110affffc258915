"""Windows of images and prompts to calibrate int8 on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, Manifest
from t2d_runtime.errors import OptionError
from t2d_runtime.image.formats import image_suffixes
from t2d_runtime.image.preprocess import resize, to_pixel_values
from t2d_runtime.image.reading import load_image
from t2d_runtime.image.windows import cut_windows, resized_size, size_of, window_boxes
from t2d_runtime.words.text import Tokenizer, build_prompts

CALIBRATION_WORDS = (
    *("dog", "tree", "house", "boat", "sea", "red apple", "wooden table", "glass bottle", "mountain", "old woman"),
    *("water", "snow", "brick wall", "metal", "white cloud", "flower", "bicycle", "book", "computer", "road sign"),
    *("3 people", "cloth", "fire", "food", "horse", "window", "night", "shadow", "number 7", "man on the left"),
)
"""Things, stuff, materials, colours and numbers. With the self-test's words alone the scales of the small model cut off
what other words give, and these then differed twice as much."""


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


def calibration_prompts(class_names: Sequence[str], manifest: Manifest, tokenizer: Path) -> NDArray[np.int64]:
    """Token ids (N,T,L) of the default prompts of the class names and of CALIBRATION_WORDS."""
    templates = manifest.prompt_sets[DEFAULT_PROMPTS]
    names = tuple(dict.fromkeys([*class_names, *CALIBRATION_WORDS]))
    texts = [prompt for of_name in build_prompts(names, templates) for prompt in of_name]
    ids = Tokenizer.from_file(tokenizer, manifest.model.context_length).encode(texts)
    return ids.reshape(len(names), len(templates), -1)
