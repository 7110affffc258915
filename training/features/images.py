"""Preparation of training images: short side to the input size, bicubic with antialiasing, centre crop.

Source: `dino_extraction_v2.py` of the released code (torchvision's Resize, CenterCrop on PIL images).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from t2d_runtime.errors import DataError, ImageError, ImageNotFoundError
from t2d_runtime.image.reading import load_image
from training.processes import end_with_parent, signals_to_parent


class LoadedImages(NamedTuple):
    """A batch: positions in the data set, crops (B,3,H,W) uint8 of readable images, and the errors of the others."""

    positions: list[int]
    crops: Tensor
    unreadable: dict[int, str]


def crop(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An RGB image (H,W,3) resized to just cover `size` (height, width) and cut to its centre."""
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    # As in torchvision's Resize, the longer side is rounded down and the other equals the size.
    resized = max(size[0], int(height * scale + 1e-9)), max(size[1], int(width * scale + 1e-9))
    enlarged = Image.fromarray(image).resize((resized[1], resized[0]), Image.Resampling.BICUBIC)
    top, left = (round((have - want) / 2) for have, want in zip(resized, size, strict=True))
    return np.asarray(enlarged)[top : top + size[0], left : left + size[1]]


ENDED_FROM_OUTSIDE = "a process that loads images was ended from outside; is there enough memory? Give fewer --workers"


def image_batches(
    paths: Sequence[Path], batches: Sequence[list[int]], size: tuple[int, int], workers: int
) -> Iterator[LoadedImages]:
    """Crops of the images at the positions that `batches` lists, loaded by `workers` processes (0: this one).

    Use them inside `loading_processes`.
    """
    loader = DataLoader(
        _Crops(paths, size),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        prefetch_factor=2 if workers else None,
        worker_init_fn=end_with_parent,
    )
    with signals_to_parent():
        loaded = iter(loader)
    try:
        yield from loaded
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        raise DataError(ENDED_FROM_OUTSIDE) from error


@contextmanager
def loading_processes() -> Iterator[None]:
    """Raises DataError where a process that loads images for this block is ended from outside.

    PyTorch reports it by a RuntimeError at any place in the block, or by a broken connection.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(ENDED_FROM_OUTSIDE) from error


class _Crops(Dataset[tuple[int, NDArray[np.uint8] | str]]):
    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[int, NDArray[np.uint8] | str]:
        try:
            return position, crop(load_image(self.paths[position]), self.size)
        except (ImageError, ImageNotFoundError) as error:
            return position, " ".join(str(error).split())


def _collate(items: list[tuple[int, NDArray[np.uint8] | str]]) -> LoadedImages:
    unreadable = {position: value for position, value in items if isinstance(value, str)}
    read = [(position, value) for position, value in items if not isinstance(value, str)]
    crops = [torch.from_numpy(np.ascontiguousarray(value.transpose(2, 0, 1))) for _, value in read]
    stacked = torch.stack(crops) if crops else torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    return LoadedImages([position for position, _ in read], stacked, unreadable)
