"""Finds the parts of a whole model in one file whose prefixes are not known: every plausible one is tried.

A prefix is plausible where a part's first layer follows it. It is taken where keys and shapes below it are the part's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from t2d_export.weights.entries import ANCHORS, Part, groups, same_bits
from t2d_export.weights.key_layouts import IMAGE_TOWER, TEXT_TOWER, text_layout
from t2d_runtime.errors import WeightsError

Check = Callable[[Mapping[str, Tensor], str], object]
"""Raises WeightsError for tensors that cannot be a part; its second argument names them."""


def is_whole_model(tensors: Mapping[str, Tensor]) -> bool:
    """True where the file may hold a backbone, a text tower and a projection, each below a prefix of its own."""
    return all(_candidates(tensors, part) for part in ANCHORS)


def whole_model_part(tensors: Mapping[str, Tensor], part: Part, check: Check, where: str) -> dict[str, Tensor]:
    """The tensors of a part, by their keys in it. Raises WeightsError, which lists all that was found and tried."""
    fitting: dict[str, dict[str, Tensor]] = {}
    faults = {}
    for prefix in _candidates(tensors, part):
        inside = _inside(tensors, prefix, part)
        try:
            check(inside, f"below {_shown(prefix)}")
        except WeightsError as error:
            faults[prefix] = str(error)
        else:
            fitting[prefix] = inside
    if fitting:
        first, *others = fitting.values()
        if all(_equal(first, other) for other in others):
            return first
    found = ", ".join(groups(tensors))
    if fitting:
        raise WeightsError(
            f"{where} holds the {part} {len(fitting)} times, with different values: {', '.join(map(_shown, fitting))}; "
            f"choose one, as {where}::{next(prefix.rstrip('.') for prefix in reversed(fitting))}"
        )
    reasons = (reason.removeprefix(f"below {_shown(prefix)}: ") for prefix, reason in faults.items())
    tried = "; ".join(
        f"{_shown(prefix)} ({reason.partition(';')[0]})" for prefix, reason in zip(faults, reasons, strict=True)
    )
    raise WeightsError(
        f"{where} holds no {part} of this model: it holds {found}; tried {tried}; name the model that it is of, or "
        f"give the {part} as a file of its own"
    )


def check_text_keys(found: Mapping[str, Tensor], where: str) -> None:
    """Raise WeightsError for tensors that are no text tower of a CLIP."""
    tensors = text_layout(found)
    missing = [key for key in ("token_embedding.weight", "text_projection", "ln_final.weight") if key not in tensors]
    surplus = [key for key in tensors if not key.startswith((*TEXT_TOWER, IMAGE_TOWER))]
    if missing or surplus:
        raise WeightsError(f"{where}: no text tower of CLIP: missing {missing}, surplus {surplus[:3]}")


def check_projection_keys(found: Mapping[str, Tensor], where: str) -> None:
    """Raise WeightsError for tensors that are no projection."""
    odd = [key for key, value in found.items() if "linear" not in key and "hidden" not in key and value.ndim == 2]
    if not found or odd:
        raise WeightsError(f"{where}: no projection: surplus {odd[:3]}")


def _candidates(tensors: Mapping[str, Tensor], part: Part) -> list[str]:
    """Prefixes below which a part may be, with their last dot, the shortest first."""
    found = {
        key.removesuffix(anchor) for anchor in ANCHORS[part] for key in tensors if f".{key}".endswith(f".{anchor}")
    }
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _inside(tensors: Mapping[str, Tensor], prefix: str, part: Part) -> dict[str, Tensor]:
    """The tensors below a prefix, without those of other parts deeper in it, and without single numbers."""
    others = tuple(
        other
        for name in ANCHORS
        if name != part
        for other in _candidates(tensors, name)
        if len(other) > len(prefix) and other.startswith(prefix)
    )
    return {
        key.removeprefix(prefix): value
        for key, value in tensors.items()
        if key.startswith(prefix) and not (others and key.startswith(others)) and value.numel() > 1
    }


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(same_bits(value, other[key]) for key, value in one.items())


def _shown(prefix: str) -> str:
    return prefix.rstrip(".") or "(the file itself)"
