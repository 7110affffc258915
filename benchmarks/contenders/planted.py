"""Words for weights that know none: class embeddings taken from an image's own patches.

Random weights give every word the same score all over an image, so that one class or none would win and PAMR would
skip the rest. A vector near a patch's token wins there, so none of these classes can be skipped.
"""

from __future__ import annotations

import numpy as np

from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings

NOISE = 0.3
"""Norm of what is added to a patch's unit vector, so that two classes of one patch differ."""


def planted_classes(segmenter: Segmenter, encoding: ImageEncoding, count: int) -> ClassEmbeddings:
    """`count` classes, each at a patch of its own as far as there are patches."""
    tokens = encoding.patch_tokens.reshape(-1, encoding.patch_tokens.shape[-1])
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(len(tokens)) for _ in range(-(-count // len(tokens)))])[:count]
    vectors = tokens[order] / np.linalg.norm(tokens[order], axis=1, keepdims=True)
    vectors += rng.normal(0, NOISE / tokens.shape[1] ** 0.5, vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = tuple(f"class {index}" for index in range(count))
    return ClassEmbeddings(names, vectors, segmenter.vocabulary_digest)
