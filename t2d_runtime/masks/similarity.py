"""Similarity of patches and class names, and the scores made from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.products import matmul

NORM_EPS = 1e-6
"""Smallest norm that a vector is divided by, from the released code's `us.normalize`."""


def cosine_similarity(patch_tokens: NDArray[np.float32], text_embeds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines (W,N,P), -1..1, of the patch tokens (W,P,D) of W windows with L2-normalised texts (N,D).

    Talk2DINO, Eq. 5. The tokens are not normalised one by one: the product is divided by their norms.
    """
    similarity = matmul(text_embeds, patch_tokens.transpose(0, 2, 1))
    norms = np.sqrt(np.einsum("wpd,wpd->wp", patch_tokens, patch_tokens))
    similarity /= np.maximum(norms, np.float32(NORM_EPS))[:, np.newaxis, :]
    return similarity


def scores_of(similarity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores 0..1 of similarities -1..1 of any shape: the sigmoid without temperature. Thresholds apply to these.

    As in the released code.
    """
    scores = np.exp(-similarity)
    scores += 1
    return np.reciprocal(scores, out=scores)
