"""Seeded noise fields that turn flat colours into sand, leaves, waves, bricks."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]

FIELD_SEED: Final = 20251
# A field's side is this many times a scene's, so that crops at random offsets differ.
FIELD_MARGIN: Final = 2


def _noise(rng: np.random.Generator, side: int, cell_h: float, cell_w: float) -> Field:
    """Smooth noise of mean 0 and deviation 1 whose bumps are about cell_h x cell_w pixels."""
    small = (max(2, round(side / cell_h)), max(2, round(side / cell_w)))
    coarse = Image.fromarray(rng.standard_normal(small).astype(np.float32))
    field = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _courses(side: int, height: float, width: float) -> Field:
    """Rows of bricks or tiles: dark joints, every other row shifted by half a brick."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    row = np.floor(y / height)
    inside_y = (y / height) % 1.0
    inside_x = (x / width + 0.5 * (row % 2)) % 1.0
    joint = (inside_y < 1.3 / height) | (inside_x < 1.0 / width)
    return np.where(joint, -1.8, 0.25 + 0.5 * inside_y).astype(np.float32)


def _planks(side: int, width: float) -> Field:
    """Upright boards with dark gaps."""
    x = np.broadcast_to(np.arange(side, dtype=np.float32), (side, side))
    return np.where((x / width) % 1.0 < 1.4 / width, -2.2, 0.3).astype(np.float32)


@lru_cache(maxsize=4)
def fields(size: int) -> dict[str, Field]:
    """The texture fields for scenes of `size` pixels: name -> (2*size, 2*size) float32 of about unit deviation."""
    rng = np.random.default_rng(FIELD_SEED)
    side = FIELD_MARGIN * size
    unit = size / 224  # cell sizes below are pixels of a 224-pixel scene

    def noise(cell_h: float, cell_w: float) -> Field:
        return _noise(rng, side, max(1.0, cell_h * unit), max(1.0, cell_w * unit))

    grain = noise(1, 1)
    ripples = np.sin(2.0 * noise(3, 26) + 0.9 * noise(9, 60))
    return {
        "grain": 0.8 * grain + 0.5 * noise(6, 6),
        "soft": noise(26, 40) + 0.2 * grain,
        "wave": (ripples + 0.35 * noise(2, 12)).astype(np.float32),
        "blade": 0.7 * noise(5, 1.3) + 0.5 * noise(14, 22) + 0.3 * grain,
        "leaf": 0.8 * noise(4, 4) + 0.6 * noise(10, 10),
        "needle": 0.8 * noise(2, 5) + 0.5 * noise(9, 9),
        "crag": 0.7 * noise(5, 7) + 0.6 * noise(16, 12) + 0.2 * grain,
        "board": _courses(side, 6 * unit, 13 * unit) + 0.3 * grain,
        "tile": _courses(side, 7 * unit, 8 * unit) + 0.3 * noise(5, 5),
        "plank": _planks(side, 9 * unit) + 0.4 * noise(20, 2),
    }
