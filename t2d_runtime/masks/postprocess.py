"""Encoded windows and class embeddings to labels at the image's own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.windows import cut_windows, size_of, stitch
from t2d_runtime.masks.cleaning import clean_scores
from t2d_runtime.masks.labels import labels_from_patch_scores, labels_from_planes, possible_winners
from t2d_runtime.masks.pamr.refine import class_chunks, refine_each
from t2d_runtime.masks.similarity import cosine_similarity, scores_of
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.results.label_map import LabelMap, regions_of
from t2d_runtime.results.options import SegmentationSettings

CLASS_GROUP = 32
"""Classes whose planes exist at a time, 26 MB at 448 x 448. Each group repeats the affinity, a tenth of the time."""

ScoreFilter: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Changes the patch scores (W,N,h,w) of an image before its labels are made; gives a new array, of that shape or with
more scores between those of each window."""


class Labelling(NamedTuple):
    """Labels of an image, and what else was asked for."""

    label_map: LabelMap
    """(H,W)."""
    scores: NDArray[np.float32] | None
    """(N,H,W), where kept."""
    confidence: NDArray[np.float32] | None
    """(H,W) the score of the label that won, where kept; where background won, the lowest threshold."""


class LabelMaps(Protocol):
    """The function below, or another that gives the same."""

    def __call__(
        self,
        encoding: ImageEncoding,
        text_embeds: NDArray[np.float32],
        settings: SegmentationSettings,
        *,
        thresholds: NDArray[np.float32] | None = None,
        keep_scores: bool,
        keep_confidence: bool = False,
        score_filter: ScoreFilter | None = None,
        num_threads: int | None = None,
    ) -> Labelling:
        """Labels (H,W) and, where kept, scores (N,H,W) and confidence (H,W)."""


def label_map_of(
    encoding: ImageEncoding,
    text_embeds: NDArray[np.float32],
    settings: SegmentationSettings,
    *,
    thresholds: NDArray[np.float32] | None = None,
    keep_scores: bool,
    keep_confidence: bool = False,
    score_filter: ScoreFilter | None = None,
    num_threads: int | None = None,
) -> Labelling:
    """Labels (H,W) and, where kept, scores (N,H,W) and confidence (H,W) of an encoded image for embeddings (N,D).

    `thresholds` (N,) replace the settings' threshold: classes compete by how far their scores exceed them. They are
    subtracted at patch resolution, since upsampling, PAMR and the mean over windows leave a constant as it is.

    Unless scores are kept, N planes of the image's size never exist, and classes that can win nowhere are not refined.
    """
    best = np.empty(size_of(encoding.image), np.float32) if keep_confidence else None
    if keep_scores:
        scores = image_scores(encoding, text_embeds, settings, score_filter=score_filter, num_threads=num_threads)
        labels = labels_of(scores, settings, thresholds, best)
        return Labelling(labels, scores, confidence_of(best, labels, settings, thresholds))
    patch_scores = window_scores(encoding, text_embeds, settings, score_filter)
    labels = _labels_alone(encoding, patch_scores, settings, thresholds, best, num_threads)
    return Labelling(labels, None, confidence_of(best, labels, settings, thresholds))


def _labels_alone(
    encoding: ImageEncoding,
    patch_scores: NDArray[np.float32],
    settings: SegmentationSettings,
    thresholds: NDArray[np.float32] | None,
    best: NDArray[np.float32] | None,
    num_threads: int | None,
) -> LabelMap:
    """Labels from patch scores, which are changed, without planes of the image's size; `best` as in masks/labels."""
    threshold, offsets = competition(settings, thresholds)
    num_classes = patch_scores.shape[1]
    if offsets is not None:
        patch_scores -= offsets[:, np.newaxis, np.newaxis]
    size, resized_size = size_of(encoding.image), size_of(encoding.resized)
    if not settings.refine:
        return labels_from_patch_scores(
            patch_scores, encoding.windows, resized_size, size, threshold=threshold, best=best
        )
    winners = possible_winners(patch_scores, threshold=threshold)
    groups = (winners[start : start + CLASS_GROUP] for start in range(0, len(winners), CLASS_GROUP))
    parts = (stitched_scores(encoding, patch_scores[:, group], settings, num_threads) for group in groups)
    return labels_from_planes(parts, size, threshold=threshold, classes=winners, num_classes=num_classes, best=best)


def window_scores(
    encoding: ImageEncoding,
    text_embeds: NDArray[np.float32],
    settings: SegmentationSettings,
    score_filter: ScoreFilter | None = None,
) -> NDArray[np.float32]:
    """Scores (W,N,h,w) at patch resolution, cleaned where the settings say so, then filtered."""
    W, h, w, D = encoding.patch_tokens.shape
    tokens = encoding.patch_tokens.reshape(W, h * w, D)
    scores = scores_of(cosine_similarity(tokens, text_embeds))
    if settings.cleaning is not None:
        attention = encoding.cls_attention.reshape(W, -1, h * w)
        for i in range(W):
            scores[i] = clean_scores(
                scores[i],
                tokens[i],
                attention[i],
                text_embeds,
                method=settings.cleaning,
                weight=settings.cleaning_weight,
            )
    scores = scores.reshape(W, -1, h, w)
    return scores if score_filter is None else score_filter(scores)


def image_scores(
    encoding: ImageEncoding,
    text_embeds: NDArray[np.float32],
    settings: SegmentationSettings,
    *,
    score_filter: ScoreFilter | None = None,
    num_threads: int | None = None,
) -> NDArray[np.float32]:
    """Scores (N,H,W) of the whole image: windows summed, divided by their count, resized to the image's size."""
    size, resized_size = size_of(encoding.image), size_of(encoding.resized)
    patch_scores = window_scores(encoding, text_embeds, settings, score_filter)
    stitched = stitched_scores(encoding, patch_scores, settings, num_threads)
    return stitched if size == resized_size else upsample(stitched, size, align_corners=False)


def stitched_scores(
    encoding: ImageEncoding,
    patch_scores: NDArray[np.float32],
    settings: SegmentationSettings,
    num_threads: int | None,
) -> NDArray[np.float32]:
    """Scores (N,H',W') at the working size of patch scores (W,N,h,w), refined where the settings say so.

    Besides the result, only a few classes of one window are in memory at a time.
    """
    num_classes = patch_scores.shape[1]
    chunks = class_chunks(num_classes)

    def planes(crop: NDArray[np.uint8], scores: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        parts = (upsample(scores[chunk], size_of(crop), align_corners=True) for chunk in chunks)
        return chain.from_iterable(
            refine_each(crop, parts, settings.refine, num_threads=num_threads) if settings.refine else parts
        )

    crops = cut_windows(encoding.resized, encoding.windows)
    return stitch(map(planes, crops, patch_scores), encoding.windows, (num_classes, *size_of(encoding.resized)))


def labels_of(
    scores: NDArray[np.float32],
    settings: SegmentationSettings,
    thresholds: NDArray[np.float32] | None = None,
    best: NDArray[np.float32] | None = None,
) -> LabelMap:
    """Arg max over classes (N,H,W), ties to the lowest label; with background, 0 where none exceeds the threshold.

    This equals prepending a constant plane at the threshold. `thresholds` (N,) as in `label_map_of`, `best` (H,W) as in
    `labels_from_patch_scores`.
    """
    threshold, offsets = competition(settings, thresholds)
    if offsets is not None:
        scores = scores - offsets[:, np.newaxis, np.newaxis]
    classes = np.arange(len(scores))
    return labels_from_planes(
        [scores], size_of(scores[0]), threshold=threshold, classes=classes, num_classes=len(scores), best=best
    )


def confidence_of(
    best: NDArray[np.float32] | None,
    labels: LabelMap,
    settings: SegmentationSettings,
    thresholds: NDArray[np.float32] | None,
) -> NDArray[np.float32] | None:
    """The winning scores (H,W), from those that competed: thresholds of classes are added again, in place."""
    _, offsets = competition(settings, thresholds)
    if best is not None and offsets is not None:
        of_labels = np.concatenate([offsets.min(keepdims=True), offsets])
        for region in regions_of(*labels.shape):
            best[region] += of_labels[labels[region]]
    return best


def competition(
    settings: SegmentationSettings, thresholds: NDArray[np.float32] | None
) -> tuple[float | None, NDArray[np.float32] | None]:
    """The threshold of all classes (None without background), and the offsets to subtract from each class's scores."""
    if not settings.background:
        return None, None
    if thresholds is None:
        return settings.threshold, None
    if (thresholds == thresholds[0]).all():
        return float(thresholds[0]), None
    return 0.0, thresholds
