"""PyTorch's side of the stages of one window, under the names of `t2d_runtime.bench.stages`: plain, float32, eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.contenders.baselines import TorchPipeline, plain_pamr
from t2d_export.model.reference import Reference
from t2d_export.model.reference_masks import clean_official, cosine_similarity, upsample, with_background
from t2d_runtime.bench.stages import WHOLE, WHOLE_REFINED, WORDS, Stages
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.text import build_prompts

T = TypeVar("T")


def torch_stages(
    reference: Reference, window: NDArray[np.uint8], embeds: Tensor, input_ids: Tensor, cleaning_weight: float
) -> Stages:
    """Stages of a window (h,w,3) and classes (N,D), each on what the one before gave; and of token ids (N,T,L)."""
    pipeline = TorchPipeline(reference, plain_pamr)
    size = window.shape[0], window.shape[1]
    pixels = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))
    tokens, attention = pipeline.encode(window)
    similarity = cosine_similarity(tokens, embeds)
    cleaned = clean_official(similarity.sigmoid(), tokens, attention, embeds, cleaning_weight)
    patches = cleaned.reshape(-1, *reference.backbone.grid_size)
    planes = upsample(patches, size, align_corners=True)

    def label(planes: Tensor) -> Tensor:
        return with_background(planes, reference.threshold).argmax(dim=0)

    def whole(*, refine: bool) -> object:
        return pipeline.labels(window, pipeline.encode(window), embeds, background=True, refine=refine)

    stages: Stages = {
        "encode": partial(pipeline.encode, window),
        "similarity": lambda: cosine_similarity(tokens, embeds).sigmoid(),
        "cleaning": lambda: clean_official(similarity.sigmoid(), tokens, attention, embeds, cleaning_weight),
        "labels": lambda: label(upsample(patches, size, align_corners=True)),
        "upsampling": partial(upsample, patches, size, align_corners=True),
        "PAMR": partial(plain_pamr, pixels, planes),
        "labels after PAMR": partial(label, _without_gradients(plain_pamr, pixels, planes)()),
        WHOLE: partial(whole, refine=False),
        WHOLE_REFINED: partial(whole, refine=True),
        WORDS: partial(reference.text_embeds, input_ids),
    }
    return {name: _without_gradients(call) for name, call in stages.items()}


def padded_prompts(segmenter: Segmenter, words: Sequence[str]) -> Tensor:
    """Token ids (N,T,L) of words in the default prompts, as long as the context, which PyTorch's way always is."""
    prompts = build_prompts(words, segmenter.manifest.prompt_sets[DEFAULT_PROMPTS])
    ids = segmenter.encoders.tokenize([prompt for group in prompts for prompt in group])
    padded = np.zeros((len(ids), segmenter.manifest.model.context_length), np.int64)
    padded[:, : ids.shape[1]] = ids
    return torch.from_numpy(padded).reshape(len(words), -1, padded.shape[1])


def _without_gradients(call: Callable[..., T], *arguments: object) -> Callable[[], T]:
    @torch.inference_mode()
    def run() -> T:
        return call(*arguments)

    return run
