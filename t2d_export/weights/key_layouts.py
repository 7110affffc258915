"""Published key layouts -> the keys of timm's vision transformers and of open_clip's text transformer.

Layouts are told apart by their keys. What a checkpoint holds beside the model is left out by name, so that a key
nobody knows is reported and not overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from torch import Tensor

from t2d_export.architectures.backbones import Family
from t2d_runtime.errors import WeightsError

WRAPPING_MODULE = "module."
"""Prefix of every key that a data-parallel training run saved."""

Part = Literal["backbone", "text", "projection"]

TALK2DINO_PARTS: Mapping[Part, str] = {"backbone": "model.", "text": "clip_model.", "projection": "proj."}
"""Prefixes in the authors' hub file: the attributes of their class `DINOText` (`hf_model.py`)."""

CLIP_OTHERS = (
    "visual.", "logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size", "attn_mask"
)  # fmt: skip
"""What a whole CLIP holds beside its text tower."""

UNUSED: Mapping[Family, tuple[str, ...]] = {
    "dinov2": ("mask_token",),
    "dino": ("head.",),
    "mae": ("mask_token", "decoder_"),
    "clip": ("head.", "fc_norm."),
    "dinov3": ("mask_token", "local_cls_norm."),
}
"""First letters of keys that pre-training left in a backbone's checkpoint."""

OPENAI_VISUAL = (
    ("conv1.", "patch_embed.proj."),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre.", "norm_pre."),
    ("ln_post.", "norm."),
    (".ln_", ".norm"),
    (".attn.in_proj_", ".attn.qkv."),
    (".attn.out_proj.", ".attn.proj."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)
"""OpenAI's names of the image tower's parts -> timm's, one after the other."""


def talk2dino_part(tensors: Mapping[str, Tensor], part: Part) -> dict[str, Tensor]:
    """One of backbone, text and projection out of the authors' hub file; any other file as it is."""
    if not all(_with_prefix(tensors, prefix) for prefix in TALK2DINO_PARTS.values()):
        return dict(tensors)
    return _with_prefix(tensors, TALK2DINO_PARTS[part])


def backbone_layout(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Backbone weights in their authors' layout or timm's -> timm's, positions as stored.

    A layout's missing or surplus keys pass through, to be named by `check_keys`.
    """
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = {
        "dinov2": _dinov2, "dino": _as_it_is, "mae": _as_it_is, "clip": _clip, "dinov3": _dinov3
    }[family]  # fmt: skip
    converted = convert(_unwrapped(tensors))
    return {key: value for key, value in converted.items() if not key.startswith(UNUSED[family])}


def text_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower of OpenAI's layout, whole or text tower only, or of open_clip's -> open_clip's text keys."""
    tensors = _unwrapped(tensors)
    if text := _with_prefix(tensors, "text."):
        return text  # open_clip's custom-text models keep the tower in a module of its own
    return {key: value for key, value in tensors.items() if not key.startswith(CLIP_OTHERS)}


def check_keys(
    tensors: Mapping[str, Tensor], expected: Iterable[str], where: str, *, optional: Iterable[str] = ()
) -> None:
    """Raise WeightsError that names what is missing and surplus; `optional` keys are neither."""
    missing = sorted(set(expected) - tensors.keys())
    surplus = sorted(tensors.keys() - set(expected) - set(optional))
    if missing or surplus:
        raise WeightsError(
            f"{where}: {_listed('missing', missing)}, {_listed('surplus', surplus)}; the file is of another model "
            "or incomplete: give the checkpoint of this one, or name the model that the file is of"
        )


def check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise WeightsError for the first tensor of another shape, or one that holds values that are not finite."""
    for key, value in tensors.items():
        if key in expected and value.shape != expected[key].shape:
            raise WeightsError(
                f"{where}: {key} is {tuple(value.shape)}, expected {tuple(expected[key].shape)}; the file is of "
                "another model"
            )
        if not value.isfinite().all():
            raise WeightsError(f"{where}: {key} holds values that are not finite; get the file again")


def _listed(kind: str, keys: list[str], shown: int = 3) -> str:
    if not keys:
        return f"no {kind} keys"
    more = ", ..." if len(keys) > shown else ""
    return f"{len(keys)} {kind} keys ({', '.join(keys[:shown])}{more})"


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if all(key.startswith(WRAPPING_MODULE) for key in tensors):
        return _with_prefix(tensors, WRAPPING_MODULE)
    return dict(tensors)


def _as_it_is(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors


def _dinov2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm names ViT-g's SwiGLU as other feed-forwards, and with registers keeps no position for CLS."""
    renamed = {
        key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): value for key, value in tensors.items()
    }
    if "register_tokens" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
        if {"cls_token", "pos_embed"} <= renamed.keys():
            positions = renamed["pos_embed"]
            renamed["cls_token"] = renamed["cls_token"] + positions[:, :1]
            renamed["pos_embed"] = positions[:, 1:]
    return renamed


def _clip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    visual = _with_prefix(tensors, "visual.")
    if not visual:
        return tensors
    converted = {}
    for key, value in visual.items():
        for theirs, ours in OPENAI_VISUAL:
            key = key.replace(theirs, ours)
        converted[key] = value
    converted.pop("proj", None)  # into the space shared with text: no part of the patch tokens
    if "class_embedding" in converted:
        converted["cls_token"] = converted.pop("class_embedding").reshape(1, 1, -1)
    if "positional_embedding" in converted:
        converted["pos_embed"] = converted.pop("positional_embedding")[None]
    return converted


def _dinov3(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Meta's layout or timm's, either with or without biases -> timm's with biases.

    Meta stores a bias for the keys and a mask that sets it to zero; where a file has no biases they are zero.
    """
    renamed = {}
    for key, value in tensors.items():
        key = key.replace("storage_tokens", "reg_token").replace("rope_embed.periods", "rope.periods")
        key = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key)
        if key.endswith(".attn.qkv.bias"):
            stem = key.removesuffix("qkv.bias")
            renamed[stem + "q_bias"], _, renamed[stem + "v_bias"] = value.chunk(3)
        elif not key.endswith(".attn.qkv.bias_mask"):
            renamed[key] = value
    for key, value in list(renamed.items()):
        if key.endswith(".attn.qkv.weight"):
            stem = key.removesuffix("qkv.weight")
            zeros = value.new_zeros(value.shape[0] // 3)
            renamed.setdefault(stem + "q_bias", zeros)
            renamed.setdefault(stem + "v_bias", zeros)
    return renamed
