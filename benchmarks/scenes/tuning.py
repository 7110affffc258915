"""A threshold for each concept, found on drawn scenes of which half of the words are named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from tqdm import tqdm

from t2d_runtime import Segmenter
from t2d_runtime.evaluation.score_samples import LabelledImage, pixels_per_image, sample_scores
from t2d_runtime.evaluation.thresholds import find_thresholds
from training.drawing.concepts import CONCEPTS
from training.drawing.scene_masks import BACKGROUND, named_half, with_background
from training.drawing.scenes import draw_scenes

TUNING_SEED: Final = 1234
"""Seed of the scenes on which thresholds are found. Others train the small model and judge it."""


def tuned_thresholds(segmenter: Segmenter, count: int, *, refine: bool, cleaning: bool) -> dict[str, float]:
    """Concept -> the threshold found for it on `count` scenes. Concepts that they do not show are left out."""
    classes = segmenter.encode_classes(CONCEPTS)
    pixels = pixels_per_image(count, len(classes))
    samples = sample_scores(
        segmenter, classes, _examples(count), pixels=pixels, background=True, refine=refine, cleaning=cleaning
    )
    return find_thresholds(samples)


def _examples(count: int) -> Iterator[LabelledImage]:
    scenes = draw_scenes(count, TUNING_SEED, progress=False)
    for index, scene in enumerate(tqdm(scenes, desc="finding thresholds", total=count, unit="scene", disable=None)):
        named = named_half(scene, TUNING_SEED, index)
        labels = with_background(scene.labels, named)
        truth = np.where(labels == BACKGROUND, 0, labels.astype(np.int32) + 1)
        yield LabelledImage(scene.image, truth, named)
