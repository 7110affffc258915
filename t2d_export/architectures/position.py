"""Interpolates position embeddings to other input sizes, as each backbone's authors do.

This is done once at load, in float32, and stored in the model, since an antialiased bicubic resize cannot be exported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from t2d_runtime.errors import WeightsError


@dataclass(frozen=True)
class PositionRule:
    """Settings of the bicubic interpolation of positions."""

    antialias: bool
    offset: float
    """Added to the number of patches and passed as a scale factor; 0 interpolates to the exact size."""


EXACT_SIZE = PositionRule(antialias=True, offset=0.0)
"""DINOv2 with registers (`dinov2/hub/backbones.py`: interpolate_offset 0, antialias) and every timm model."""

OFFSET_SCALE = PositionRule(antialias=False, offset=0.1)
"""DINOv2 without registers (`interpolate_pos_encoding`: offset 0.1 against rounding, no antialias)."""


def resize_positions(positions: Tensor, *, prefix: int, grid: tuple[int, int], rule: PositionRule) -> Tensor:
    """Position embeddings (1, prefix + h0*w0, D) of a square grid -> (1, prefix + h*w, D) for `grid` (h, w).

    The first `prefix` positions belong to other tokens than patches and stay as they are. Nothing changes where the
    grid equals the stored one.
    Raises WeightsError where the stored positions do not form a square grid.
    """
    if positions.ndim != 3 or positions.shape[0] != 1:
        raise WeightsError(f"pos_embed is {tuple(positions.shape)}, expected (1, positions, width)")
    side = math.isqrt(max(positions.shape[1] - prefix, 0))
    if side == 0 or side * side != positions.shape[1] - prefix:
        raise WeightsError(
            f"pos_embed holds {positions.shape[1]} positions, expected {prefix} and a square number of patches; "
            "the file is of another model"
        )
    if (side, side) == grid:
        return positions.float()
    patches = positions[:, prefix:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if rule.offset:
        scale = [(length + rule.offset) / side for length in grid]
        patches = functional.interpolate(patches, scale_factor=scale, mode="bicubic", antialias=rule.antialias)
    else:
        patches = functional.interpolate(patches, size=grid, mode="bicubic", antialias=rule.antialias)
    patches = patches.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1)
    return torch.cat([positions[:, :prefix].float(), patches], dim=1)
