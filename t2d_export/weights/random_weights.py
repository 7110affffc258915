"""Reproducible random weights with realistic scales, to try bundles without a checkpoint. Masks mean nothing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

SEED = 0


def random_tensors(shapes: Mapping[str, Tensor], *, name: str) -> dict[str, Tensor]:
    """Draw a tensor for every key of a state dict, each from a generator seeded by `name` and its key.

    The scales keep tokens of order one, and attention neither flat nor a single peak. Usual initialisations do not.
    `shapes` may be on the meta device.
    """
    return {key: _draw(f"{name}/{key}", key, value.shape) for key, value in shapes.items()}


def _draw(seed: str, key: str, shape: torch.Size) -> Tensor:
    generator = torch.Generator().manual_seed(SEED + zlib.crc32(seed.encode()))
    noise = torch.randn(shape, generator=generator)
    mean, scale = _distribution(key, shape)
    return noise.mul_(scale).add_(mean)


def _distribution(key: str, shape: torch.Size) -> tuple[float, float]:
    """Mean and standard deviation."""
    leaf = key.rpartition(".")[2]
    if "gamma" in leaf:  # LayerScale
        return 0.35, 0.05
    if "norm" in key or ".ln_" in key or key.startswith("ln_"):
        return (1.0, 0.1) if leaf == "weight" else (0.0, 0.05)
    if "bias" in leaf:
        return 0.0, 0.05
    if "token" in key or "pos" in leaf:
        return 0.0, 0.3
    inputs = shape[0] if leaf == "text_projection" else shape[1:].numel()
    return 0.0, inputs**-0.5
