"""Cut full golden files (outputs of the authors' released code) down to a repository's size.

    python tests/golden/make_compact.py FOLDER_OF_FULL_FILES

README.md beside this file lists what stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

FILES = (
    "vitb14_reg4_448_astronaut",
    "vits14_448_coffee",
    "vits14_reg4_518_coffee",
    "dinov3_vitb16_448_coffee",
)
IMAGES = {
    "astronaut_resized": (FILES[0], "resized"),
    "coffee": (FILES[1], "image"),
    "coffee_resized": (FILES[1], "resized"),
}
PATCH_TOKEN_STEP = 8, 3
"""Rows and columns kept of a full file's patch_tokens_sample, which is every 13th token."""
MASK_STEP = 3
SLIDE_STEP = 2
MARGIN = 2e-5
"""Labels may differ where the two best scores are this near."""


def compact(full: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = {}
    for key, value in full.items():
        if key in ("image", "resized"):
            continue
        if key == "patch_tokens_sample":
            value = value[:: PATCH_TOKEN_STEP[0], :: PATCH_TOKEN_STEP[1]]
        elif key.endswith("_probs_sample"):
            value = value[:, ::SLIDE_STEP, ::SLIDE_STEP]
        elif key.endswith("_margin"):
            key, value = key.removesuffix("_margin") + "_certain", value > MARGIN
        elif key.startswith("mask_") and value.ndim == 3:
            value = value[:, ::MASK_STEP, ::MASK_STEP]
        kept[key] = value
    return kept


def main(source: Path) -> None:
    target = Path(__file__).parent
    for name in FILES:
        with np.load(source / f"{name}.npz") as file:
            np.savez_compressed(target / f"{name}.npz", **compact(dict(file)))
    for name, (file_name, key) in IMAGES.items():
        with np.load(source / f"{file_name}.npz") as file:
            Image.fromarray(file[key]).save(target / f"{name}.webp", lossless=True, quality=100, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
