"""Classes of several phrases, negatives, and thresholds of classes.

Every phrase is segmented as a class of its own, and its pixels then go to its class. So a class's score is the maximum
over its phrases after upsampling, PAMR and stitching. A maximum taken before upsampling would give other labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.windows import size_of
from t2d_runtime.masks.labels import empty_labels
from t2d_runtime.masks.postprocess import Labelling, LabelMaps, ScoreFilter, label_map_of
from t2d_runtime.results.label_map import LabelMap
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.words.vocabulary import ClassEmbeddings

MAPPED_ROWS = 256
"""Rows of a label map that are mapped at a time, so that no index array of the whole size is made."""


def segment_classes(
    encoding: ImageEncoding,
    classes: ClassEmbeddings,
    settings: SegmentationSettings,
    *,
    keep_scores: bool,
    keep_confidence: bool = False,
    score_filter: ScoreFilter | None = None,
    num_threads: int | None = None,
    label_maps: LabelMaps = label_map_of,
) -> Labelling:
    """Labels (H,W) and, where kept, scores (N,H,W) and confidence (H,W) of an encoded image for N classes.

    Label 0 is background where the settings say so or a class list has negatives; classes follow. `label_maps` computes
    them for phrases, on this processor or on a device.
    """
    found = label_maps(
        encoding,
        classes.vectors,
        settings,
        thresholds=row_thresholds(classes, settings.threshold),
        keep_scores=keep_scores,
        keep_confidence=keep_confidence,
        score_filter=score_filter,
        num_threads=num_threads,
    )
    labels = labels_of_classes(found.label_map, classes, background=settings.background)
    scores = None if found.scores is None else scores_of_classes(found.scores, classes)
    return Labelling(labels, scores, found.confidence)


def row_thresholds(classes: ClassEmbeddings, threshold: float) -> NDArray[np.float32] | None:
    """The threshold (P,) of each phrase: that of its class, else `threshold`. None where no class has its own."""
    if not classes.thresholds:
        return None
    of_classes = [classes.thresholds.get(name, threshold) for name in classes.names]
    return np.array([*of_classes, threshold], np.float32)[classes.classes_of_rows]  # the last one is for negatives


def labels_of_classes(labels: LabelMap, classes: ClassEmbeddings, *, background: bool) -> LabelMap:
    """Labels (H,W) of classes from labels of phrases; with `background`, 0 in both is background."""
    if classes.phrases is None:
        return labels
    first = int(background or bool(classes.negatives))
    mapped = empty_labels(size_of(labels), len(classes.names) + first)
    of_rows = classes.classes_of_rows + first  # negatives, -1, become 0
    table = np.concatenate([np.zeros(int(background), np.intp), of_rows]).astype(mapped.dtype)
    for top in range(0, len(labels), MAPPED_ROWS):
        np.take(table, labels[top : top + MAPPED_ROWS], out=mapped[top : top + MAPPED_ROWS])
    return mapped


def scores_of_classes(scores: NDArray[np.float32], classes: ClassEmbeddings) -> NDArray[np.float32]:
    """Scores (N,H,W) of classes from scores of phrases (P,H,W): the maximum over a class's phrases."""
    if classes.phrases is None:
        return scores
    rows = [np.flatnonzero(classes.classes_of_rows == index) for index in range(len(classes.names))]
    return np.stack([scores[of_class].max(axis=0) for of_class in rows])
