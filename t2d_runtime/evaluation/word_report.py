"""Judges the words of classes on labelled pixels: IoU by each phrase alone and together, and with other thresholds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.evaluation.confusion import Confusion
from t2d_runtime.evaluation.score_samples import ScoreSamples
from t2d_runtime.evaluation.thresholds import (
    class_scores,
    class_thresholds,
    confusion_of,
    find_one_threshold,
    find_thresholds,
)
from t2d_runtime.words.class_list import ClassList

FEWEST_IMAGES = 4
"""Images from which thresholds are also judged on images that they were not found on."""


@dataclass(frozen=True)
class WordFigures:
    """Figures of one class. IoU is from 0 to 1; NaN where the class occurs in neither truth nor labels."""

    name: str
    iou: float
    """IoU by all phrases together, with the thresholds given."""
    phrases: dict[str, float]
    """Phrase -> IoU of the class by this phrase alone, the other classes as they are."""
    threshold: float
    """Threshold given."""
    suggested: float | None
    """Threshold found; None where the class does not occur in the truth."""
    suggested_iou: float
    """IoU with all thresholds found."""


@dataclass(frozen=True)
class WordReport:
    """Figures of all classes. Mean IoU counts background too."""

    classes: ClassList
    """The classes with the thresholds found, and those given where none was found."""
    figures: tuple[WordFigures, ...]
    mean_iou: float
    """Mean IoU with the thresholds given."""
    suggested_mean_iou: float
    """Mean IoU with the thresholds found, on the same images."""
    held_out_mean_iou: float | None
    """Mean IoU of each half of the images with the thresholds found on the other half; None for fewer than four."""
    one_threshold: float
    """The one threshold for all classes, negatives included, with the best mean IoU."""
    one_threshold_mean_iou: float
    """Mean IoU with that one, on the same images."""
    num_images: int
    num_pixels: int
    """Pixels that were judged."""


def judge_words(samples: ScoreSamples) -> WordReport:
    """Judge the words of sampled scores, and find thresholds. Deterministic."""
    classes = samples.classes
    given, scores = class_thresholds(samples), class_scores(samples)
    found = find_thresholds(samples)
    suggested = _replaced(samples, given, found)
    one = find_one_threshold(samples)
    with_one = confusion_of(replace(samples, threshold=one), scores, np.full_like(given, one))
    before, after = confusion_of(samples, scores, given), confusion_of(samples, scores, suggested)
    figures = tuple(
        WordFigures(
            name,
            float(before.iou()[index + 1]),
            _alone(samples, scores, given, index),
            _decimal(given[index]),
            found.get(name),
            float(after.iou()[index + 1]),
        )
        for index, name in enumerate(classes.names)
    )
    return WordReport(
        ClassList(_groups(samples), classes.negatives, {**classes.thresholds, **found}),
        figures,
        before.mean_iou(),
        after.mean_iou(),
        _held_out(samples),
        one,
        with_one.mean_iou(),
        len(np.unique(samples.images)),
        len(samples.truth),
    )


def _alone(
    samples: ScoreSamples, scores: NDArray[np.float32], thresholds: NDArray[np.float32], index: int
) -> dict[str, float]:
    """IoU of a class by each of its phrases alone."""
    rows = np.flatnonzero(samples.classes.classes_of_rows == index)
    found = {}
    for row in rows:
        alone = scores.copy() if len(rows) > 1 else scores
        alone[index] = samples.scores[row]
        found[samples.classes.all_phrases[row]] = float(confusion_of(samples, alone, thresholds).iou()[index + 1])
    return found


def _held_out(samples: ScoreSamples) -> float | None:
    """Mean IoU of two halves of the images, each with the thresholds found on the other."""
    if len(np.unique(samples.images)) < FEWEST_IMAGES:
        return None
    odd = np.arange(samples.num_images) % 2 == 1
    total = Confusion(len(samples.classes) + 1)
    for tuned, judged in ((odd, ~odd), (~odd, odd)):
        half = samples.of_images(judged)
        found = find_thresholds(samples.of_images(tuned))
        thresholds = _replaced(half, class_thresholds(half), found)
        total.pixels += confusion_of(half, class_scores(half), thresholds).pixels
    return total.mean_iou()


def _replaced(samples: ScoreSamples, given: NDArray[np.float32], found: dict[str, float]) -> NDArray[np.float32]:
    return np.array(
        [found.get(name, value) for name, value in zip(samples.classes.names, given, strict=True)], np.float32
    )


def _groups(samples: ScoreSamples) -> dict[str, tuple[str, ...]]:
    classes = samples.classes
    return {
        name: tuple(classes.all_phrases[row] for row in np.flatnonzero(classes.classes_of_rows == index))
        for index, name in enumerate(classes.names)
    }


def _decimal(value: np.float32) -> float:
    """A float32 number by its shortest decimal."""
    return float(str(value))
