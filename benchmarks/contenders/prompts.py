"""Token ids of words in the default prompts, for contenders that take ids instead of words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.text import build_prompts


def prompt_ids(segmenter: Segmenter, words: Sequence[str]) -> NDArray[np.int64]:
    """Ids (N,T,L) of N words in T prompts, padded to the longest."""
    prompts = build_prompts(words, segmenter.manifest.prompt_sets[DEFAULT_PROMPTS])
    ids = segmenter.encoders.tokenize([prompt for group in prompts for prompt in group])
    return ids.reshape(len(words), -1, ids.shape[1])
