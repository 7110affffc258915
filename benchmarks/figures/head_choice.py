"""Which attention head a text means: the one whose embedding is nearest (Talk2DINO, Eq. 3-4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.encoding import ImageEncoding


class HeadChoice(NamedTuple):
    """Heads of one window."""

    maps: NDArray[np.float32]
    """(M,h,w), each adding up to 1 over the patches."""
    cosines: NDArray[np.float32]
    """(N,M), of N texts with the embedding of each head."""

    @property
    def chosen(self) -> NDArray[np.intp]:
        """(N,), the head of each text."""
        heads: NDArray[np.intp] = self.cosines.argmax(axis=1)
        return heads


def choose_heads(encoding: ImageEncoding, text_embeds: NDArray[np.float32]) -> HeadChoice:
    """Heads of an encoding's first window for L2-normalised texts (N,D), as training chooses them."""
    logits, tokens = encoding.cls_attention[0], encoding.patch_tokens[0]
    maps = attention_maps(logits)
    embeds = maps.reshape(len(maps), -1) @ tokens.reshape(-1, tokens.shape[-1])
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    return HeadChoice(maps, text_embeds @ embeds.T)


def attention_maps(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (...,h,w) to their softmax over the patches."""
    maps: NDArray[np.float32] = np.exp(logits - logits.max(axis=(-2, -1), keepdims=True))
    maps /= maps.sum(axis=(-2, -1), keepdims=True)
    return maps
