"""Background cleaning: mixes a window's scores with the attention that the heads pay to each class.

There are two variants. "official" is the released code, which made the published figures. "paper"
follows Eq. 8-10 of the paper as printed.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.products import matmul
from t2d_runtime.errors import OptionError
from t2d_runtime.masks.similarity import NORM_EPS, scores_of
from t2d_runtime.results.options import Cleaning


def clean_scores(
    scores: NDArray[np.float32],
    patch_tokens: NDArray[np.float32],
    cls_attention: NDArray[np.float32],
    text_embeds: NDArray[np.float32],
    *,
    method: Cleaning,
    weight: float,
) -> NDArray[np.float32]:
    """Cleaned scores (N,P), 0..1, of one window.

    Takes the sigmoid `scores` (N,P) of its patches and classes, its `patch_tokens` (P,D) after the final
    LayerNorm and not normalised, the logits `cls_attention` (M,P) of the M heads of the last block, the
    L2-normalised `text_embeds` (N,D), and the share `weight` (lambda) of the attention.

    "official" mixes the scores. "paper" mixes their cosines, as printed, and takes the sigmoid again, so that a
    threshold means the same for both.

    Extrema are this window's own: windows are cleaned one by one.
    Raises OptionError for another method or a negative weight.
    """
    if not weight >= 0:
        raise OptionError(f"the cleaning weight is {weight}, expected 0 or more")
    if method == "official":
        return _clean_official(scores, patch_tokens, cls_attention, text_embeds, weight)
    if method == "paper":
        similarity = np.log(scores / (1 - scores))
        return scores_of(_clean_paper(similarity, patch_tokens, cls_attention, text_embeds, weight))
    raise OptionError(f"the cleaning method is {method!r}, expected one of {list(get_args(Cleaning))}")


def _clean_official(
    scores: NDArray[np.float32],
    patch_tokens: NDArray[np.float32],
    logits: NDArray[np.float32],
    text_embeds: NDArray[np.float32],
    weight: float,
) -> NDArray[np.float32]:
    """Released code: raw logits as weights, one range over all classes and patches."""
    relevance = _head_relevance(logits, patch_tokens, text_embeds)
    attention = _softmax(matmul(relevance, logits))
    lowest, highest = attention.min(), attention.max()
    # The released code divides by max(highest, highest - lowest): `highest`, since a softmax is positive.
    attention = (attention - lowest) / highest
    attention = attention * (scores.max() - scores.min()) + scores.min()
    return _mix(scores, attention, weight)


def _clean_paper(
    similarity: NDArray[np.float32],
    patch_tokens: NDArray[np.float32],
    logits: NDArray[np.float32],
    text_embeds: NDArray[np.float32],
    weight: float,
) -> NDArray[np.float32]:
    """Eq. 8-10: softmaxed maps as weights, as in training; each class is scaled to its own range."""
    maps = _softmax(logits)
    relevance = _head_relevance(maps, patch_tokens, text_embeds)
    attention = matmul(relevance, maps)
    lowest, highest = (extreme(attention, axis=1, keepdims=True) for extreme in (np.min, np.max))
    span = highest - lowest
    # A map that is flat over the patches does not show where a class is: it stays at the lower end.
    attention = np.divide(attention - lowest, span, out=np.zeros_like(attention), where=span > 0)
    attention = attention * (similarity.max() - similarity.min()) + similarity.min()
    return _mix(similarity, attention, weight)


def _head_relevance(
    maps: NDArray[np.float32], patch_tokens: NDArray[np.float32], text_embeds: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Relevance (N,M) of each head to each class; rows add up to one (Eq. 8)."""
    embeds = matmul(maps, patch_tokens)
    embeds /= maps.shape[1]
    norms = np.linalg.norm(embeds, axis=1, keepdims=True)
    embeds /= np.maximum(norms, np.float32(NORM_EPS))
    return _softmax(matmul(text_embeds, embeds.T))


def _mix(scores: NDArray[np.float32], attention: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Eq. 10: (S + lambda F) / (1 + lambda)."""
    mixed = scores + np.float32(weight) * attention
    mixed /= 1 + weight
    return mixed


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    result: NDArray[np.float32] = np.exp(values - values.max(axis=-1, keepdims=True))
    result /= result.sum(axis=-1, keepdims=True)
    return result
