"""Converts published key layouts to the keys of timm's vision transformers and open_clip's text transformer.

Keys tell the layouts apart. Other contents of a checkpoint are left out by name, so that an unknown key is reported and
not overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from t2d_export.architectures.backbones import Family
from t2d_export.weights import huggingface
from t2d_export.weights.entries import Part
from t2d_runtime.errors import WeightsError

TALK2DINO_PARTS: Mapping[Part, str] = {"backbone": "model.", "text": "clip_model.", "projection": "proj."}
"""Prefixes in the authors' hub file: the attributes of their class `DINOText` (`hf_model.py`)."""

IMAGE_TOWER = "visual."
"""Prefix of the image tower in OpenAI's layout of CLIP."""

CLIP_OTHERS = ("logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size", "attn_mask")
"""Contents of a whole CLIP beside its towers."""

TEXT_TOWER = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "text.")
"""Beginnings of the text tower's keys in OpenAI's layout and in open_clip's."""

BLOCK_CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")
"""Blocks in chunks, as in DINOv2's training (`BlockChunk`). The second number is the block's number in the model."""

UNUSED: Mapping[Family, tuple[str, ...]] = {
    "dinov2": ("mask_token",),
    "dino": ("head.",),
    "mae": ("mask_token", "decoder_"),
    "clip": ("head.", "fc_norm."),
    "dinov3": ("mask_token", "local_cls_norm."),
}
"""Beginnings of keys that pre-training left in a backbone's checkpoint."""

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
"""OpenAI's names of the image tower's parts -> timm's, replaced in this order."""


def is_talk2dino(tensors: Mapping[str, Tensor]) -> bool:
    """True where these are the keys of the authors' hub file, with backbone, text tower and projection."""
    return all(_with_prefix(tensors, prefix) for prefix in TALK2DINO_PARTS.values())


def talk2dino_part(tensors: Mapping[str, Tensor], part: Part) -> dict[str, Tensor]:
    """The backbone, text tower or projection in the authors' hub file."""
    return _with_prefix(tensors, TALK2DINO_PARTS[part])


def backbone_layout(tensors: Mapping[str, Tensor], family: Family, where: str) -> dict[str, Tensor]:
    """Backbone weights in their authors' layout, transformers' or timm's -> timm's, positions as stored.

    Missing or surplus keys are left for `check_keys` to name. Raises WeightsError where two keys become one; `where`
    names the file.
    """
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = {
        "dinov2": _dinov2, "dino": _as_it_is, "mae": _as_it_is, "clip": _clip, "dinov3": _dinov3
    }[family]  # fmt: skip
    if huggingface.is_vit(tensors):
        tensors = huggingface.from_vit(tensors)
    elif huggingface.is_clip(tensors):
        tensors = huggingface.from_clip(tensors)
    converted = convert(_without_chunks(tensors, where))
    return {key: value for key, value in converted.items() if not key.startswith(UNUSED[family])}


def text_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower in OpenAI's or transformers' layout, of a whole CLIP or alone -> open_clip's text keys.

    An image tower beside it stays, under "visual.".
    """
    if huggingface.is_clip(tensors):
        tensors = huggingface.from_clip(tensors)
    return {key: value for key, value in tensors.items() if not key.startswith(CLIP_OTHERS)}


def check_keys(
    tensors: Mapping[str, Tensor], expected: Iterable[str], where: str, *, optional: Iterable[str] = ()
) -> None:
    """Raise WeightsError, which names missing and surplus keys; `optional` keys are neither."""
    missing = sorted(set(expected) - tensors.keys())
    surplus = sorted(tensors.keys() - set(expected) - set(optional))
    if missing or surplus:
        raise WeightsError(
            f"{where}: {_listed('missing', missing)}, {_listed('surplus', surplus)}; the file is of another model "
            "or incomplete: give the checkpoint of this one, or name the model that the file is of"
        )


def check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise WeightsError for the first tensor of another shape, or with values that are not finite."""
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


def _without_chunks(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """`blocks.0.7.` -> `blocks.7.`. Raises WeightsError where blocks of two chunks have the same number."""
    joined = {BLOCK_CHUNK.sub(r"blocks.\1.", key): value for key, value in tensors.items()}
    if len(joined) < len(tensors):
        raise WeightsError(
            f"{where}: every chunk of blocks counts from 0; expected numbers that continue across chunks, as in "
            "DINOv2's; save the state dict without chunks"
        )
    return joined


def _as_it_is(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors


def _dinov2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's keys -> timm's, which names ViT-g's SwiGLU differently and, with registers, has no position for CLS."""
    renamed = {
        key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): value for key, value in tensors.items()
    }
    if "register_tokens" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
        shapes = [tuple(renamed[key].shape) for key in ("cls_token", "pos_embed") if key in renamed]
        if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes) and shapes[0][2] == shapes[1][2]:
            positions = renamed["pos_embed"]
            renamed["cls_token"] = renamed["cls_token"] + positions[:, :1]
            renamed["pos_embed"] = positions[:, 1:]
    return renamed


def _clip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    visual = _with_prefix(tensors, IMAGE_TOWER)
    if not visual:
        return tensors
    # Keys of neither tower stay, for errors to name.
    converted = {k: v for k, v in tensors.items() if not k.startswith((IMAGE_TOWER, *TEXT_TOWER, *CLIP_OTHERS))}
    for key, value in visual.items():
        for theirs, ours in OPENAI_VISUAL:
            key = key.replace(theirs, ours)
        converted[key] = value
    converted.pop("proj", None)  # it leads into the space shared with text, and does not touch patch tokens
    if "class_embedding" in converted:
        converted["cls_token"] = converted.pop("class_embedding").reshape(1, 1, -1)
    if "positional_embedding" in converted:
        converted["pos_embed"] = converted.pop("positional_embedding")[None]
    return converted


def _dinov3(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Meta's, transformers' or timm's layout, with or without biases -> timm's with biases.

    Meta stores a bias for the keys and a mask that sets it to zero. transformers stores no bias for the keys. Biases
    that a file does not have are zero.
    """
    tensors = _queries_and_values(tensors)
    renamed = {}
    for key, value in tensors.items():
        key = key.replace("storage_tokens", "reg_token").replace("register_tokens", "reg_token")
        key = key.replace("rope_embed.periods", "rope.periods")
        key = re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key)
        if key.endswith(".attn.qkv.bias") and value.ndim == 1 and len(value) % 3 == 0:
            stem = key.removesuffix("qkv.bias")
            renamed[stem + "q_bias"], of_keys, renamed[stem + "v_bias"] = value.chunk(3)
            if f"{key}_mask" not in tensors and of_keys.any():
                renamed[stem + "k_bias"] = of_keys  # the model has no place for it, so an error will name it
        elif not key.endswith(".attn.qkv.bias_mask"):
            renamed[key] = value
    for key, value in list(renamed.items()):
        if key.endswith(".attn.qkv.weight") and value.ndim == 2:
            stem = key.removesuffix("qkv.weight")
            zeros = value.new_zeros(value.shape[0] // 3)
            renamed.setdefault(stem + "q_bias", zeros)
            renamed.setdefault(stem + "v_bias", zeros)
    return renamed


def _queries_and_values(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Separate biases of queries and values, without one of keys -> timm's names."""
    renamed = dict(tensors)
    for key, value in tensors.items():
        stem, mark, _ = key.rpartition("attn.q.bias")
        if mark and f"{stem}attn.v.bias" in renamed and f"{stem}attn.k.bias" not in renamed:
            renamed[f"{stem}attn.q_bias"] = renamed.pop(key, value)
            renamed[f"{stem}attn.v_bias"] = renamed.pop(f"{stem}attn.v.bias")
    return renamed
