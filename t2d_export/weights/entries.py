"""Finds the wanted weights in a checkpoint, where training wraps them, keeps copies, and saves heads beside them.

An entry is named by the beginning of its keys ("teacher.backbone", or "" for a plain state dict). It is found by the
first layer's key under any prefix, so that the wrappers of any framework are read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from t2d_runtime.errors import WeightsError

log = logging.getLogger(__name__)

Part = Literal["backbone", "text", "projection"]

ENTRY_MARK = "::"
"""Separates a file and the entry to take from it: `FILE::teacher.backbone`."""

WRAPPERS = frozenset(
    ("_orig_mod", "module", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
)  # fmt: skip
"""Names that torch.compile, data parallelism, DeepSpeed, FSDP and activation checkpointing put into keys."""

ANCHORS: Mapping[Part, tuple[str, ...]] = {
    "backbone": (
        "patch_embed.proj.weight",  # timm and the authors
        "embeddings.patch_embeddings.projection.weight",  # transformers: DINOv2, ViT
        "embeddings.patch_embeddings.weight",  # transformers: DINOv3
        "vision_model.embeddings.patch_embedding.weight",  # transformers: CLIP
        "embeddings.patch_embedding.weight",
        "visual.conv1.weight",  # OpenAI
        "cls_token",
    ),
    "text": (
        "text_model.embeddings.token_embedding.weight",  # transformers
        "embeddings.token_embedding.weight",
        "token_embedding.weight",  # OpenAI and open_clip
        "text_projection",
    ),
    "projection": ("projection_layer.linear_layer.weight", "linear_layer.weight"),
}
"""Keys of a part's first layer in each library. The first key that a file has tells the part's place."""

HEAD = re.compile(
    r"heads?|\w+_heads?|head_\w+|\w*classifier\w*|fc|fc_norm|linear|necks?|fpn|rpn|pooler|pre_logits|bottleneck"
    r"|\w*decoder\w*|decode\w*|aux(iliary)?(_\w+)?|\w*predictor\w*|\w*projectors?|\w*loss(es)?|criterion\w*|centers?|prototypes?"
)
"""Names of heads and other layers trained with a backbone that are not part of it."""

TRAINING_STATE = re.compile(
    r"\w*optim\w*|\w*sched\w*|\w*scaler\w*|amp\w*|callbacks|loops|rng\w*|\w*random\w*|hyper_parameters|hparams\w*"
    r"|meta|message_hub|args|config|cfg|state|n_averaged|initted|steps?|\w*metrics?|pixel_mean|pixel_std"
)
"""Names of a training run's own state."""

OTHER_TOWERS: Mapping[Part, frozenset[str]] = {
    "backbone": frozenset(
        ("text", "text_model", "transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection",
         "visual_projection", "logit_scale", "logit_bias", "attn_mask")
    ),
    "text": frozenset(("visual", "vision_model", "visual_projection", "logit_scale", "logit_bias")),
    "projection": frozenset(),
}  # fmt: skip
"""Names of the other parts of a CLIP, beside one of its towers."""

NOT_THE_TEACHER = frozenset(("student", "gram"))
"""Words in the names of a teacher's student, and of the frozen earlier teacher in DINOv3's training."""


@dataclass(frozen=True)
class Found:
    """The weights of an entry, and the names of the others."""

    entry: str
    """The beginning of the keys, without the last dot."""
    tensors: Mapping[str, Tensor]
    """Tensors by their keys without the entry."""
    beside: tuple[str, ...]
    """Names of the groups of tensors that were left out."""


def split_spec(spec: str) -> tuple[str, str | None]:
    """ "FILE::ENTRY" -> (FILE, ENTRY), "FILE" -> (FILE, None)."""
    file, mark, entry = spec.rpartition(ENTRY_MARK)
    return (file, entry.strip(".")) if mark and file else (spec, None)


def unwrapped(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Keys without the names that wrappers add. Raises WeightsError where two keys become one."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        bare = ".".join(name for name in key.split(".") if name not in WRAPPERS)
        if bare in found:
            raise WeightsError(f"{where}: {bare} is there twice, wrapped and not; save one state dict alone")
        found[bare] = value
    return found


def find_entry(tensors: Mapping[str, Tensor], part: Part, where: str, chosen: str | None = None) -> Found:
    """The weights of a part out of a checkpoint's tensors; `chosen` names the entry to look in.

    A teacher is preferred to its student, and equal copies count as one. A file without the part's first layer is
    returned whole, so that an error can name its keys.
    Raises WeightsError where several entries are possible, or where something unknown is beside the chosen one.
    """
    if chosen is not None:
        within = {key: value for key, value in tensors.items() if f"{key}.".startswith(f"{chosen}.")}
        if not within:
            known = ", ".join(sorted({_shown(prefix) for prefix in _prefixes(tensors, part)})) or "none"
            raise WeightsError(f"{where} has no entry {chosen!r}; entries that begin a {part}: {known}")
        tensors = within
    prefixes = _prefixes(tensors, part)
    prefix = _the_one(tensors, prefixes, part, where) if prefixes else ""
    inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    inside = {key: value for key, value in inside.items() if not (value.ndim == 0 and TRAINING_STATE.fullmatch(key))}
    beside = _beside(tensors, prefix, prefixes, part, where) if chosen is None else ()
    return Found(prefix.rstrip("."), inside, beside)


def is_head(key: str) -> bool:
    """True where a key of a part belongs to a head that was trained on it."""
    return HEAD.fullmatch(key.partition(".")[0]) is not None


def groups(keys: Iterable[str]) -> tuple[str, ...]:
    """Keys grouped by their first names, with their numbers: "decode_head (2 tensors)"."""
    counts: dict[str, int] = {}
    for key in keys:
        name = key.partition(".")[0]
        counts[name] = counts.get(name, 0) + 1
    return tuple(f"{name} ({count} tensor{'s' if count > 1 else ''})" for name, count in counts.items())


def _prefixes(tensors: Mapping[str, Tensor], part: Part) -> list[str]:
    """All prefixes of a part's first layer, with their last dot."""
    for anchor in ANCHORS[part]:
        found = [key.removesuffix(anchor) for key in tensors if f".{key}".endswith(f".{anchor}")]
        if found:
            return found
    return []


def _the_one(tensors: Mapping[str, Tensor], prefixes: list[str], part: Part, where: str) -> str:
    """The prefix to use. Raises WeightsError where several are possible."""
    left = prefixes
    if any("teacher" in _words(prefix) for prefix in left):
        left = [prefix for prefix in left if not NOT_THE_TEACHER & _words(prefix)]
    first, *others = left
    if all(_equal(tensors, first, other) for other in others):
        return first
    named = [_shown(prefix) for prefix in left]
    raise WeightsError(
        f"{where} holds the {part} {len(named)} times, with different values: {', '.join(named)}; choose one, as "
        f"{where}{ENTRY_MARK}{next(name for name in reversed(named) if name != _shown(''))}"
    )


def _words(name: str) -> set[str]:
    """The words of a key or prefix: "student_backbone.norm" has student, backbone and norm."""
    return set(re.split(r"[._]", name))


def _shown(prefix: str) -> str:
    return prefix.rstrip(".") or "(the file itself)"


def _equal(tensors: Mapping[str, Tensor], prefix: str, other: str) -> bool:
    """True where another prefix holds all tensors of this one, with equal values."""
    for key, value in tensors.items():
        if not key.startswith(prefix) or (not prefix and key.startswith(other)):
            continue
        twin = tensors.get(other + key.removeprefix(prefix))
        if twin is None or not same_bits(twin, value):
            return False
    return True


def same_bits(one: Tensor, other: Tensor) -> bool:
    """True where two tensors are equal byte by byte, since not every type can be compared by value."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if any(tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized for tensor in (one, other)):
        return False
    ours, theirs = (tensor.reshape(-1).contiguous().view(torch.uint8) for tensor in (one, other))
    return torch.equal(ours, theirs)


def _beside(tensors: Mapping[str, Tensor], prefix: str, prefixes: list[str], part: Part, where: str) -> tuple[str, ...]:
    """Names of the groups outside the entry. Raises WeightsError for a group that is not known."""
    rivals = tuple(other for other in prefixes if other != prefix)
    others = tuple(
        found for name in ANCHORS if name != part for found in _prefixes(tensors, name) if not prefix.startswith(found)
    )
    known: list[str] = []
    unknown: list[str] = []
    for key, value in tensors.items():
        if key.startswith(prefix):
            continue
        rest = _beyond(prefix, key)
        names = rest.split(".")
        if value.numel() == 1 or TRAINING_STATE.fullmatch(names[0]):
            continue
        expected = (
            key.startswith(rivals + others)
            or names[0] in OTHER_TOWERS[part]
            or any(HEAD.fullmatch(name) for name in names[:-1])
            or NOT_THE_TEACHER & _words(rest)
        )
        (known if expected else unknown).append(rest)
    if unknown:
        raise WeightsError(
            f"{where}: beside {_shown(prefix)} the file holds {', '.join(groups(unknown)[:5])}, which is no known "
            f"head; to read that entry alone give {where}{ENTRY_MARK}{_shown(prefix)}"
        )
    return groups(known)


def _beyond(prefix: str, key: str) -> str:
    """A key without the names that it shares with the prefix."""
    for name in prefix.split("."):
        if not name or not key.startswith(f"{name}."):
            break
        key = key.removeprefix(f"{name}.")
    return key
