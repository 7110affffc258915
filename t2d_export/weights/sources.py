"""Gets weights from a checkpoint file, a hub or a random generator.

They become float32 tensors under the keys of timm's vision transformers, open_clip's text transformer and the released
projections. FILE is a file, an index of shards or a folder, and may name an entry in it: `FILE::teacher.backbone`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from t2d_export.architectures.backbones import Architecture
from t2d_export.architectures.position import resize_positions
from t2d_export.weights import published
from t2d_export.weights.checkpoints import check_weights, read_checkpoint, widened
from t2d_export.weights.entries import Part, find_entry, groups, is_head, split_spec, unwrapped
from t2d_export.weights.hub import HubFile, download
from t2d_export.weights.key_layouts import (
    IMAGE_TOWER,
    backbone_layout,
    check_keys,
    check_shapes,
    is_talk2dino,
    talk2dino_part,
    text_layout,
)
from t2d_export.weights.random_weights import random_tensors
from t2d_export.weights.shards import part_file, sha256_of_weights
from t2d_export.weights.text_facts import OPENAI, Activation, TextFacts, text_facts
from t2d_export.weights.whole_model import (
    Check,
    check_projection_keys,
    check_text_keys,
    is_whole_model,
    whole_model_part,
)
from t2d_runtime.bundle.manifest import Source
from t2d_runtime.storage.hub_names import HubName, is_hub_name

log = logging.getLogger(__name__)

HUB = "hub"
RANDOM = "random"

RANDOM_SOURCE = Source(name=RANDOM, sha256=None)

ROPE_PERIODS = "rope.periods"
"""Key of the rotary embedding's periods. Meta's files of DINOv3 have it; timm's model has no such parameter."""


def backbone_weights(
    spec: str, architecture: Architecture, input_size: tuple[int, int], shapes: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Source]:
    """Weights of a backbone whose timm model has these `shapes`, with positions interpolated to `input_size`.

    `spec` is a file, "hub" or "random". A DINOv3 file may add `ROPE_PERIODS`.
    Raises WeightsError and WeightsNotFoundError.
    """
    if spec == RANDOM:
        return random_tensors(shapes, name="backbone"), RANDOM_SOURCE

    def in_timm_layout(found: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], list[str]]:
        tensors = backbone_layout(found, architecture.family, where)
        heads = [key for key in tensors if key not in shapes and is_head(key)]
        tensors = {key: value for key, value in tensors.items() if key not in heads}
        check_keys(tensors, shapes, where, optional={ROPE_PERIODS})
        check_weights(tensors, where)
        check_shapes(tensors, {key: value for key, value in shapes.items() if key != "pos_embed"}, where)
        return tensors, heads

    def check(found: Mapping[str, Tensor], where: str) -> None:
        in_timm_layout(widened(found), where)

    found, source, _ = _read(spec, "backbone", lambda: published.backbone_file(architecture.name), check)
    where = f"{source.name}, backbone {architecture.name}"
    tensors, heads = in_timm_layout(found, where)
    _tell_left_out(where, groups(heads))
    if "pos_embed" in shapes:
        grid = architecture.grid(input_size)
        prefix = shapes["pos_embed"].shape[1] - grid[0] * grid[1]
        tensors["pos_embed"] = resize_positions(
            tensors["pos_embed"], prefix=prefix, grid=grid, rule=architecture.positions
        )
        check_shapes({"pos_embed": tensors["pos_embed"]}, shapes, where)
    return tensors, source


def text_weights(spec: str, asked: Activation | None = None) -> tuple[dict[str, Tensor], Source, TextFacts]:
    """Weights of a CLIP text tower of any size under open_clip's keys, and further facts about it.

    `asked` is the activation that the user names. "random" is not accepted.
    Raises WeightsError and WeightsNotFoundError.
    """
    found, source, of_authors = _read(spec, "text", lambda: published.CLIP_VITB16, check_text_keys)
    if spec == HUB or of_authors:
        facts = OPENAI
    else:
        facts = text_facts(_located(spec, "text", None)[0], found, source.sha256, asked)
    tensors = text_layout(found)
    left_out = [key for key in tensors if key.startswith(IMAGE_TOWER) or is_head(key)]
    if spec != HUB:  # the published file is known to be a whole CLIP
        _tell_left_out(f"{source.name}, text tower", groups(left_out))
    kept = {key: value for key, value in tensors.items() if key not in left_out}
    check_weights(kept, f"{source.name}, text tower")
    return kept, source, facts


def projection_weights(spec: str, backbone: str) -> tuple[dict[str, Tensor], Source]:
    """Weights of a projection under the authors' keys. "random" is not accepted.

    Raises WeightsError and WeightsNotFoundError.
    """
    tensors, source, _ = _read(spec, "projection", lambda: published.projection_file(backbone), check_projection_keys)
    check_weights(tensors, f"{source.name}, projection")
    return dict(tensors), source


def _split(spec: str) -> tuple[str, str | None]:
    return (spec, None) if Path(spec).exists() else split_spec(spec)


def _located(spec: str, part: Part, hub_file: Callable[[], HubFile] | None) -> tuple[Path, str, str | None]:
    """The path of weights that are not "random", their name for the manifest, and the entry to take from them."""
    if spec == HUB and hub_file is not None:
        path, found = download(hub_file().name, part)
        return path, str(found), None
    file, entry = _split(spec)
    if is_hub_name(file):
        path, found = download(HubName.parse(file), part)
        return path, str(found), entry
    path = part_file(Path(file), part)
    return path, path.name or str(path.resolve().name), entry


def _read(
    spec: str, part: Part, hub_file: Callable[[], HubFile], check: Check
) -> tuple[dict[str, Tensor], Source, bool]:
    """A part's tensors, their origin, and True where that is a file of the authors with all three parts.

    `check` raises WeightsError for tensors that cannot be the part.
    """
    path, name, entry = _located(spec, part, hub_file)
    tensors = unwrapped(read_checkpoint(path), str(path))
    of_authors = entry is None and is_talk2dino(tensors)
    if of_authors:
        tensors = talk2dino_part(tensors, part)
    elif entry is None and is_whole_model(tensors):
        kept = whole_model_part(tensors, part, check, name)
        return widened(kept), Source(name=name, sha256=sha256_of_weights(path)), False
    found = find_entry(tensors, part, str(path), entry)
    if found.entry:
        log.info("%s: the %s is read from its entry %s", path, part, found.entry)
    _tell_left_out(f"{name}, {part}" + (f" from {found.entry}" if found.entry else ""), found.beside)
    return widened(found.tensors), Source(name=name, sha256=sha256_of_weights(path)), of_authors


def _tell_left_out(where: str, beside: tuple[str, ...]) -> None:
    if beside:
        log.warning("%s: left out %s", where, ", ".join(beside))
