"""Rows of words: encoding a vocabulary, and finding it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy.layouts import CLASS_NAMES
from benchmarks.pipeline.rows import Row, faster, fastest, medians
from benchmarks.pipeline.setup import CPU_BACKENDS, Setup
from t2d_runtime.bundle.files import TOKENIZER
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.text import Tokenizer, build_prompts, encode_class_names

TORCH = "PyTorch fp32, 77 tokens"
TORCH_CLASSES = 16
"""Classes that PyTorch encodes at a time: 112 prompts; all 1197 at once take no less time a prompt."""

VOCABULARY = "coco_stuff171"
"""The largest vocabulary of the published evaluation."""


def class_names() -> list[str]:
    """Of COCO-Stuff."""
    names: list[str] = json.loads(CLASS_NAMES.read_text(encoding="utf-8"))[VOCABULARY]
    return names


def text_rows(setup: Setup) -> list[Row]:
    """171 classes x 7 prompts, from names to embeddings; PyTorch is given the token ids."""
    names = class_names()
    pairs = [
        (backend, precision)
        for backend in CPU_BACKENDS
        for precision in ("fp32", "fp16", "bf16", "int8")
        if setup.refusal(backend, precision) is None
    ]
    runtime: dict[str, Callable[[], object]] = {
        f"{b} {p}": partial(_encode, setup.segmenter(b, p), names) for b, p in pairs
    }
    timings = setup.time_slow({TORCH: _torch(setup, names), **runtime}, TORCH, rounds=1)
    full = fastest(timings, [f"{backend} fp32" for backend in CPU_BACKENDS])
    best = fastest(timings, list(runtime))
    what = f"{len(names)} classes x 7 prompts"
    return [
        faster(f"{what}, fp32", timings, TORCH, full, bar=5, note=f"by {full}"),
        faster(f"{what}, best precision", timings, TORCH, best, bar=10, note=f"by {best}"),
    ]


def vocabulary_rows(setup: Setup) -> list[Row]:
    """The same words again."""
    names = class_names()
    segmenter = setup.segmenter()
    timings = setup.time({"again": partial(segmenter.encode_classes, names)})
    value = timings["again"].median_ms
    what = f"{len(names)} words again, from the vocabulary cache"
    return [Row(what, value, "ms", 5, at_most=True, medians_ms=medians(timings), rounds=setup.rounds)]


def _encode(segmenter: Segmenter, names: list[str]) -> object:
    tokenizer = Tokenizer.from_file(segmenter.bundle.file(TOKENIZER), segmenter.manifest.model.context_length)
    templates = segmenter.manifest.prompt_sets[DEFAULT_PROMPTS]
    return encode_class_names(names, templates, tokenizer, segmenter.encoders.run_text_encoder)


def _torch(setup: Setup, names: list[str]) -> Callable[[], list[Tensor]]:
    segmenter = setup.segmenter()
    groups = build_prompts(names, segmenter.manifest.prompt_sets[DEFAULT_PROMPTS])
    ids = segmenter.encoders.tokenize([prompt for group in groups for prompt in group])
    padded = np.zeros((len(ids), segmenter.manifest.model.context_length), np.int64)
    padded[:, : ids.shape[1]] = ids
    chunks = torch.split(torch.from_numpy(padded).reshape(len(names), -1, padded.shape[1]), TORCH_CLASSES)

    @torch.inference_mode()
    def encode() -> list[Tensor]:
        return [setup.reference.text_embeds(chunk) for chunk in chunks]

    return encode
