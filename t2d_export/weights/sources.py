"""Where weights come from: a published checkpoint file, a hub, or random; given as float32 tensors under the keys of
timm's vision transformers, open_clip's text transformer and the released projections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from t2d_export.architectures.backbones import Architecture
from t2d_export.architectures.position import resize_positions
from t2d_export.weights import published
from t2d_export.weights.checkpoints import read_checkpoint
from t2d_export.weights.hub import HubFile, download
from t2d_export.weights.key_layouts import (
    Part,
    backbone_layout,
    check_keys,
    check_shapes,
    talk2dino_part,
    text_layout,
)
from t2d_export.weights.random_weights import random_tensors
from t2d_runtime.bundle.files import sha256_of
from t2d_runtime.bundle.manifest import Source

HUB = "hub"
RANDOM = "random"

RANDOM_SOURCE = Source(name=RANDOM, sha256=None)

ROPE_PERIODS = "rope.periods"
"""Key of the rotary embedding's periods: in Meta's files of DINOv3, but no parameter of timm's model."""


def backbone_weights(
    spec: str, architecture: Architecture, input_size: tuple[int, int], shapes: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Source]:
    """Weights of a backbone whose timm model has these `shapes`, its positions interpolated to `input_size`.

    `spec` is a file, "hub" or "random". A DINOv3 file may add `ROPE_PERIODS`.
    Raises WeightsError and WeightsNotFoundError.
    """
    if spec == RANDOM:
        return random_tensors(shapes, name="backbone"), RANDOM_SOURCE
    tensors, source = _read(spec, "backbone", lambda: published.backbone_file(architecture.name))
    where = f"{source.name}, backbone {architecture.name}"
    tensors = backbone_layout(tensors, architecture.family)
    check_keys(tensors, shapes, where, optional={ROPE_PERIODS})
    if "pos_embed" in shapes:
        grid = architecture.grid(input_size)
        prefix = shapes["pos_embed"].shape[1] - grid[0] * grid[1]
        tensors["pos_embed"] = resize_positions(
            tensors["pos_embed"], prefix=prefix, grid=grid, rule=architecture.positions
        )
    check_shapes(tensors, shapes, where)
    return _float32(tensors), source


def text_weights(spec: str) -> tuple[dict[str, Tensor], Source]:
    """Weights of a CLIP text tower under open_clip's keys, whatever its size; not for "random".

    Raises WeightsError and WeightsNotFoundError.
    """
    tensors, source = _read(spec, "text", lambda: published.CLIP_VITB16)
    return _float32(text_layout(tensors)), source


def projection_weights(spec: str, backbone: str) -> tuple[dict[str, Tensor], Source]:
    """Weights of a projection under the authors' keys; not for "random".

    Raises WeightsError and WeightsNotFoundError.
    """
    tensors, source = _read(spec, "projection", lambda: published.projection_file(backbone))
    return _float32(tensors), source


def _read(spec: str, part: Part, hub_file: Callable[[], HubFile]) -> tuple[dict[str, Tensor], Source]:
    if spec == HUB:
        file = hub_file()
        path, name = download(file), str(file)
    else:
        path, name = Path(spec), Path(spec).name
    return talk2dino_part(read_checkpoint(path), part), Source(name=name, sha256=sha256_of(path))


def _float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.float().contiguous() for key, value in tensors.items()}
