"""Class embeddings from an image's own patches, for random weights.

With random weights every word has nearly the same score all over an image, so one class or none would win, and PAMR
would skip the others. An embedding near a patch's token wins at that patch, so none of these classes is skipped.
"""

from __future__ import annotations

import numpy as np

from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings

NOISE = 0.3
"""Norm of the noise added to a patch's unit vector, so that two classes of one patch differ."""


def planted_classes(segmenter: Segmenter, encoding: ImageEncoding, count: int) -> ClassEmbeddings:
    """`count` classes, each at another patch as long as there are enough patches."""
    tokens = encoding.patch_tokens.reshape(-1, encoding.patch_tokens.shape[-1])
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(len(tokens)) for _ in range(-(-count // len(tokens)))])[:count]
    vectors = tokens[order] / np.linalg.norm(tokens[order], axis=1, keepdims=True)
    vectors += rng.normal(0, NOISE / tokens.shape[1] ** 0.5, vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = tuple(f"class {index}" for index in range(count))
    return ClassEmbeddings(names, vectors, segmenter.vocabulary_digest)
