"""The stages from an image to its labels, each as a call that works on the result of the stage before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.files import TOKENIZER
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.reading import ImageLike, load_image
from t2d_runtime.image.windows import WindowMode, cut_windows, size_of, stitch
from t2d_runtime.masks.cleaning import clean_scores
from t2d_runtime.masks.labels import labels_from_patch_scores, labels_from_planes, possible_winners
from t2d_runtime.masks.pamr.refine import refine
from t2d_runtime.masks.phrases import labels_of_classes, row_thresholds
from t2d_runtime.masks.postprocess import competition, window_scores
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.results.label_map import LabelMap
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.words.class_list import ClassList, ClassNames, checked_classes
from t2d_runtime.words.text import Tokenizer, encode_class_names

if TYPE_CHECKING:
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.vocabulary import ClassEmbeddings

Stages = dict[str, Callable[[], object]]

SHARED = ("decode", "resize", "encode", "similarity", "cleaning")
PLAIN_WAY = (*SHARED, "labels")
"""Stages of an image without PAMR: upsampling and labels are one step, tile by tile."""

REFINED_WAY = (*SHARED, "upsampling", "PAMR", "labels after PAMR")

WHOLE, WHOLE_REFINED = "image to labels", "image to labels, PAMR"
"""All stages in one call: the time that an application waits."""

WORDS, KNOWN_WORDS = "words", "words, known"
"""Class names to embeddings: new names, and the same names again from the cache."""


def stages_of(
    segmenter: Segmenter,
    image: ImageLike,
    words: ClassNames | ClassList | None,
    *,
    classes: ClassEmbeddings | None = None,
    window: WindowMode = "slide",
    num_threads: int | None = None,
) -> Stages:
    """Every stage of an image and its words, with background and official cleaning, in order; then the whole.

    `classes` replace the embeddings of the words, except in the stages that encode the words; these are left out where
    `words` is None. Where a GPU computes the masks, the masks' own stages are left out: they are this processor's.
    `num_threads` applies to PAMR; everything else uses the segmenter's own number.
    """
    listed = words if words is None or isinstance(words, ClassList) else checked_classes(words)
    classes = classes or segmenter.encode_classes(listed or ())
    encoding = segmenter.encode_image(image, window)
    settings = segmenter.segment(encoding, classes, background=True).settings
    refine_window = partial(refine, settings=segmenter.manifest.defaults.pamr, num_threads=num_threads)
    segment = partial(segmenter.segment, image, classes, background=True, window=window)
    stages: Stages = {
        "decode": partial(load_image, image),
        "resize": partial(resize, encoding.image, size_of(encoding.resized)),
        "encode": partial(segmenter.encode_image, encoding.resized, window),
    }
    if segmenter.postprocess == "host":
        stages |= _score_stages(encoding, classes.vectors, settings)
        stages |= _label_stages(encoding, classes, settings, refine_window)
    stages |= {WHOLE: segment, WHOLE_REFINED: partial(segment, refine=True)}
    if listed is not None:
        stages[WORDS] = new_words(segmenter, listed.all_phrases)
        stages[KNOWN_WORDS] = partial(segmenter.encode_classes, listed)
    return stages


def refined_phrases(encoding: ImageEncoding, classes: ClassEmbeddings, settings: SegmentationSettings) -> int:
    """Number of phrases that can win a pixel beside the background; PAMR skips the others."""
    scores, threshold = _competing_scores(encoding, classes, settings)
    return len(possible_winners(scores, threshold=threshold))


def batch_per_second(
    segmenter: Segmenter, image: ImageLike, classes: ClassEmbeddings, window: WindowMode, count: int
) -> float:
    """Images a second of `segment_batch`, from the first image's beginning to the last one's end."""
    start = time.perf_counter()
    for _ in segmenter.segment_batch([image] * count, classes, background=True, window=window):
        pass
    return count / (time.perf_counter() - start)


def new_words(segmenter: Segmenter, class_names: Sequence[str]) -> Callable[[], object]:
    """A call that encodes class names without using the cache of names seen before."""
    tokenizer = Tokenizer.from_file(segmenter.bundle.file(TOKENIZER), segmenter.manifest.model.context_length)
    templates = segmenter.manifest.prompt_sets[DEFAULT_PROMPTS]
    return partial(encode_class_names, class_names, templates, tokenizer, segmenter.encoders.run_text_encoder)


def _score_stages(encoding: ImageEncoding, vectors: NDArray[np.float32], settings: SegmentationSettings) -> Stages:
    W, h, w, D = encoding.patch_tokens.shape
    tokens = encoding.patch_tokens.reshape(W, h * w, D)
    attention = encoding.cls_attention.reshape(W, -1, h * w)
    uncleaned = replace(settings, cleaning=None)
    scores = window_scores(encoding, vectors, uncleaned).reshape(W, -1, h * w)

    def clean() -> list[NDArray[np.float32]]:
        return [
            clean_scores(*of_window, vectors, method="official", weight=settings.cleaning_weight)
            for of_window in zip(scores, tokens, attention, strict=True)
        ]

    return {"similarity": partial(window_scores, encoding, vectors, uncleaned), "cleaning": clean}


def _competing_scores(
    encoding: ImageEncoding, classes: ClassEmbeddings, settings: SegmentationSettings
) -> tuple[NDArray[np.float32], float | None]:
    """Scores (W,P,h,w) of the phrases, less the thresholds of classes that have their own, and the common threshold."""
    scores = window_scores(encoding, classes.vectors, settings)
    threshold, offsets = competition(settings, row_thresholds(classes, settings.threshold))
    return scores if offsets is None else scores - offsets[:, np.newaxis, np.newaxis], threshold


def _label_stages(
    encoding: ImageEncoding,
    classes: ClassEmbeddings,
    settings: SegmentationSettings,
    refine_window: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]],
) -> Stages:
    scores, threshold = _competing_scores(encoding, classes, settings)
    winners = possible_winners(scores, threshold=threshold)
    crops = cut_windows(encoding.resized, encoding.windows)
    crop_size = crops.shape[1], crops.shape[2]
    resized_size = size_of(encoding.resized)
    size = size_of(encoding.image)

    def upsample_all() -> list[NDArray[np.float32]]:
        return [upsample(of_window[winners], crop_size, align_corners=True) for of_window in scores]

    def refine_all(planes: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [refine_window(crop, of_window) for crop, of_window in zip(crops, planes, strict=True)]

    def label() -> LabelMap:
        labels = labels_from_patch_scores(scores, encoding.windows, resized_size, size, threshold=threshold)
        return labels_of_classes(labels, classes, background=True)

    def label_refined(planes: list[NDArray[np.float32]]) -> LabelMap:
        stitched = stitch(planes, encoding.windows, (len(winners), *resized_size))
        labels = labels_from_planes(
            [stitched], size, threshold=threshold, classes=winners, num_classes=len(classes.vectors)
        )
        return labels_of_classes(labels, classes, background=True)

    planes = upsample_all()
    return {
        "labels": label,
        "upsampling": upsample_all,
        "PAMR": partial(refine_all, planes),
        "labels after PAMR": partial(label_refined, refine_all(planes)),
    }
