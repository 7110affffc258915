"""Builds the frozen towers and the projection, with their weights."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, TypeVar

import torch
from open_clip.transformer import QuickGELU, TextTransformer
from timm.models.eva import Eva
from torch import Tensor, nn

from t2d_export.architectures.backbones import Architecture
from t2d_export.architectures.folder_model import TextConfig
from t2d_export.model.projection import Projection, TextProjection, projection_from_state_dict
from t2d_export.model.towers import Backbone, RotaryBackbone, TextTower
from t2d_export.weights.key_layouts import check_keys, check_shapes
from t2d_export.weights.random_weights import random_tensors
from t2d_export.weights.sources import (
    RANDOM,
    RANDOM_SOURCE,
    ROPE_PERIODS,
    backbone_weights,
    projection_weights,
    text_weights,
)
from t2d_export.weights.text_facts import Activation, TextFacts
from t2d_runtime.bundle.manifest import Source
from t2d_runtime.errors import WeightsError

ModuleT = TypeVar("ModuleT", bound=nn.Module)

log = logging.getLogger(__name__)

CLIP_VOCABULARY = 49408
"""Size of CLIP's vocabulary; the end token is the last entry."""

CLIP_TEXT = TextConfig(width=512, layers=12, heads=8, context_length=77, embed_dim=512, activation="quick_gelu")
"""The text tower of OpenAI's CLIP ViT-B/16, for which every published projection was trained."""

CLIP_HEAD_WIDTH = 64
"""Width of an attention head in every CLIP (`build_model` of OpenAI's code: heads = width // 64)."""


def load_backbone(architecture: Architecture, weights: str, input_size: tuple[int, int]) -> tuple[Backbone, Source]:
    """A frozen backbone in eval mode; `weights` is a file, "hub" or "random".

    Raises OptionError for an input size off the patch grid, WeightsError and WeightsNotFoundError.
    """
    vit = architecture.build(input_size)
    tensors, source = backbone_weights(weights, architecture, input_size, vit.state_dict())
    periods = tensors.pop(ROPE_PERIODS, None)
    vit.load_state_dict(tensors, assign=True)
    if isinstance(vit, Eva):
        _fill_buffers(vit, periods, architecture.grid(input_size), source.name)
    kind = RotaryBackbone if isinstance(vit, Eva) else Backbone
    backbone = kind(vit, name=architecture.name, input_size=input_size, mean=architecture.mean, std=architecture.std)
    return _frozen(backbone), source


def _fill_buffers(vit: Eva, periods: Tensor | None, grid: tuple[int, int], where: str) -> None:
    """Fill the buffers that timm computes at construction, which no state dict holds; with the file's periods, if any.

    Raises WeightsError where the periods do not fit this model.
    """
    for name, buffer in vit.named_buffers():
        module, _, leaf = name.rpartition(".")
        vit.get_submodule(module).register_buffer(leaf, torch.zeros_like(buffer, device="cpu"), persistent=False)
    rope: Any = vit.rope
    rope.init_non_persistent_buffers()
    # Meta's files hold the periods, rounded to bfloat16. timm's layout has none: timm computes them in float32, as does
    # the released Talk2DINO code.
    if periods is not None:
        if periods.shape != rope.periods.shape or not bool((periods > 0).all()):
            raise WeightsError(
                f"{where}: {ROPE_PERIODS} are {tuple(periods.shape)}, expected {tuple(rope.periods.shape)} positive "
                "numbers; the file is of another model"
            )
        rope.periods.copy_(periods)
    rope.pos_embed_cached.copy_(rope.get_embed(shape=list(grid)))


def load_text_tower(
    weights: str, config: TextConfig | None = None, activation: Activation | None = None
) -> tuple[TextTower, Source]:
    """A frozen text tower in eval mode; `weights` is a file, "hub" or "random".

    Without a `config`, the weights give the sizes, and heads are 64 wide as in every CLIP unless settings beside the
    weights say otherwise. The activation is the given one; else the one that the source of the weights tells (see
    `t2d_export.weights.text_facts`); else the config's; else QuickGELU as in OpenAI's CLIP. The last two give a warning
    where the weights are not the config's own. Raises WeightsError and WeightsNotFoundError.
    """
    if weights == RANDOM:
        config = config or CLIP_TEXT
        transformer = _empty_text_transformer(replace(config, activation=activation or config.activation))
        tensors, source = random_tensors(transformer.state_dict(), name="text"), RANDOM_SOURCE
    else:
        tensors, source, facts = text_weights(weights, activation)
        _check_projected(tensors, source.name)
        taken = _activation(activation, facts, config, source.name)
        transformer = _empty_text_transformer(
            replace(config or _config_of(tensors, facts, source.name), activation=taken)
        )
    check_keys(tensors, transformer.state_dict(), f"{source.name}, text tower")
    check_shapes(tensors, transformer.state_dict(), f"{source.name}, text tower")
    transformer.load_state_dict(tensors, assign=True)
    return _frozen(TextTower(transformer)), source


def _activation(asked: Activation | None, facts: TextFacts, config: TextConfig | None, name: str) -> str:
    """The activation of a text tower that is read from a file."""
    if asked is not None:
        if facts.activation not in (None, asked):
            log.warning("%s: using %s as given, although %s says %s", name, asked, facts.told_by, facts.activation)
        return asked
    if facts.activation is not None:
        if config is not None and config.activation != facts.activation:
            log.warning("%s: using %s, as %s says, not the model folder's", name, facts.activation, facts.told_by)
        return facts.activation
    taken = config.activation if config is not None else CLIP_TEXT.activation
    log.warning(
        "%s: the activation of this text tower is unknown; using %s, as in %s. LAION's, DataComp's and OpenCLIP's own "
        "towers have gelu: give --text-activation for these",
        name,
        taken,
        "the model folder" if config is not None else "OpenAI's CLIP",
    )
    return taken


def _check_projected(tensors: dict[str, Tensor], name: str) -> None:
    """Raise WeightsError for a tower without the projection into the space shared with images."""
    if "token_embedding.weight" in tensors and not any(key.startswith("text_projection") for key in tensors):
        raise WeightsError(
            f"{name}: a text tower without its text_projection, as transformers' CLIPTextModel is saved; expected that "
            "of CLIPTextModelWithProjection or of a whole CLIP: give its file"
        )


def _empty_text_transformer(config: TextConfig) -> TextTransformer:
    with torch.device("meta"):
        return TextTransformer(
            context_length=config.context_length,
            vocab_size=CLIP_VOCABULARY,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            output_dim=config.embed_dim,
            act_layer=QuickGELU if config.activation == "quick_gelu" else nn.GELU,
            no_causal_mask=True,  # the tower makes its own mask, as long as its input
        )


def _config_of(tensors: dict[str, Tensor], facts: TextFacts, name: str) -> TextConfig:
    """Sizes of a text tower from the shapes of its weights; its heads from the other facts."""
    for key in ("positional_embedding", "text_projection"):
        if key not in tensors or tensors[key].ndim != 2 or 0 in tensors[key].shape:
            raise WeightsError(
                f"{name}: no matrix {key}; expected the text tower of OpenAI's CLIP ViT-B/16, in OpenAI's layout or "
                "open_clip's"
            )
    context_length, width = tensors["positional_embedding"].shape
    heads = facts.heads or max(1, width // CLIP_HEAD_WIDTH)
    if width % heads:
        raise WeightsError(
            f"{name}: {heads} heads do not divide the width {width}; the settings beside it are another's"
        )
    blocks = {key.split(".")[2] for key in tensors if key.startswith("transformer.resblocks.")}
    return TextConfig(
        width=width,
        layers=len(blocks),
        heads=heads,
        context_length=context_length,
        embed_dim=tensors["text_projection"].shape[1],
        activation=CLIP_TEXT.activation,
    )


def load_projection(weights: str, backbone: Backbone, text_tower: TextTower) -> tuple[Projection, Source]:
    """A frozen projection in eval mode between these two towers; `weights` is a file, "hub" or "random".

    Raises WeightsError, also for a projection trained for another backbone, and WeightsNotFoundError.
    """
    if weights == RANDOM:
        with torch.device("meta"):
            empty = TextProjection(text_tower.output_dim, backbone.embed_dim)
        tensors, source = random_tensors(empty.state_dict(), name="projection"), RANDOM_SOURCE
    else:
        tensors, source = projection_weights(weights, backbone.name)
    projection = projection_from_state_dict(
        tensors,
        text_dim=text_tower.output_dim,
        embed_dim=backbone.embed_dim,
        text_heads=text_tower.heads,
        quick_gelu=text_tower.activation == "quick_gelu",
    )
    return _frozen(projection), source


def _frozen(module: ModuleT) -> ModuleT:
    return module.eval().requires_grad_(False)
