"""Golden files: outputs of the authors' released code at every stage.

A file is either a complete one, as stored from runs of the released code, or a compact copy (tests/golden), which has
fewer samples of the large stages and separate image files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.parity.golden_weights import (
    clip_text_weights,
    dinov2_weights,
    dinov3_weights,
    projection_weights,
)
from t2d_runtime.errors import DataError

WINDOW = 448
"""Side of the window of the single-window stages: `resized[:448, :448]`."""

RANDOM_PROJECTION = "rand"

DINOV3 = "dinov3_"
"""Beginning of the names of DINOv3 backbones, whose files have the backbone's whole name."""


@dataclass(frozen=True)
class Sampling:
    """The stored part of a large stage: steps of patches, channels and pixels."""

    patches: int
    channels: int
    window_pixels: int
    image_pixels: int


WHOLE_FILE = Sampling(patches=13, channels=1, window_pixels=4, image_pixels=5)
COMPACT_FILE = Sampling(patches=104, channels=3, window_pixels=12, image_pixels=10)


@dataclass(frozen=True, eq=False)
class Golden:
    """One golden file."""

    name: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    image: NDArray[np.uint8]
    """(H,W,3) RGB, the original."""
    resized: NDArray[np.uint8]
    """(H',W',3), short side 448, by OpenCV."""
    sampling: Sampling

    @property
    def window(self) -> NDArray[np.uint8]:
        """(448,448,3)."""
        return self.resized[:WINDOW, :WINDOW]

    @property
    def backbone(self) -> str:
        """Name of the backbone, such as dinov2_vitb14_reg."""
        arch = str(self.meta["arch"])
        if arch.startswith(DINOV3):
            return arch
        return f"dinov2_{arch}" + ("_reg" if self.meta["registers"] else "")

    @property
    def has_random_projection(self) -> bool:
        """True where the projection is random like the other weights. A published one is a separate file."""
        return bool(self.meta["projection"] == RANDOM_PROJECTION)

    def certain(self, stage: str, margin: float) -> NDArray[np.bool_]:
        """Pixels whose two best scores differ by more than `margin`, for `<stage>_labels`."""
        if f"{stage}_certain" in self.arrays:
            stored: NDArray[np.bool_] = self.arrays[f"{stage}_certain"]
            return stored
        return np.asarray(self.arrays[f"{stage}_margin"].astype(np.float32) > margin)


def read_golden(path: Path) -> Golden:
    """Read a golden file. Raises DataError where it is not one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        meta = json.loads(str(arrays.pop("meta")))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a golden file: {error}") from error
    if "image" in arrays:
        image, resized, sampling = arrays.pop("image"), arrays.pop("resized"), WHOLE_FILE
    else:
        subject = path.stem.rsplit("_", 1)[-1]
        image, resized = _picture(path.parent, subject), _picture(path.parent, f"{subject}_resized")
        sampling = COMPACT_FILE
    return Golden(path.stem, meta, arrays, image, resized, sampling)


def _picture(folder: Path, name: str) -> NDArray[np.uint8]:
    path = folder / f"{name}.webp"
    if path.is_file():
        with Image.open(path) as opened:
            return np.asarray(opened.convert("RGB"))
    from skimage import data

    picture: NDArray[np.uint8] = getattr(data, name)()
    return picture


def write_weights(golden: Golden, folder: Path) -> dict[str, str]:
    """Draw a file's random weights and save them as checkpoints in the published layouts.

    Returns the paths by the names of `load_reference`'s arguments, without the projection where it is published.
    """
    arch, seed = golden.meta["arch"], golden.meta["seed"]
    if golden.backbone.startswith(DINOV3):
        backbone = dinov3_weights(arch, seed)
    else:
        backbone = dinov2_weights(arch, golden.meta["registers"], seed)
    files = {"backbone_weights": backbone, "text_weights": clip_text_weights(seed)}
    if golden.has_random_projection:
        files["projection"] = projection_weights(arch, golden.meta["projection_seed"])
    paths = {}
    for name, tensors in files.items():
        paths[name] = str(folder / f"{name}.pth")
        torch.save(tensors, paths[name])
    return paths
