"""Thresholds of classes that raise the mean IoU of labelled pixels.

Classes compete by how far their scores exceed their thresholds, and a change of one threshold moves pixels between that
class and the best of the others alone. So the mean IoU for every threshold of a class follows from counts of pixels by
the threshold at which they change hands. Classes are taken in turn until none changes.

Thresholds that fit some pixels to the last serve others badly. So each class takes the best of a smoothed curve, and a
change must pay: the fewer the images, the more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.evaluation.confusion import Confusion
from t2d_runtime.evaluation.score_samples import ScoreSamples
from t2d_runtime.words.class_list import NEGATIVE

STEPS = 1000
"""Thresholds are multiples of 1 / STEPS."""

SMOOTHING = 8
"""Standard deviation in steps of the curve's smoothing. Of 0 to 12 tried on drawn scenes, 8 and 12 served unseen scenes
best."""

CAUTION = 1e-3
"""Mean IoU that a change by one step must gain, squared, times the images: 10 steps with 100 images cost 0.001. Twice
as much served unseen scenes as well, a tenth of it worse."""

MOST_SWEEPS = 10
"""Rounds over all classes. Two to four are usual."""


def class_thresholds(samples: ScoreSamples) -> NDArray[np.float32]:
    """The thresholds (N,) that classes have now: their own, or the one of all."""
    names, own = samples.classes.names, samples.classes.thresholds
    return np.array([own.get(name, samples.threshold) for name in names], np.float32)


def class_scores(samples: ScoreSamples) -> NDArray[np.float32]:
    """Scores (N,n) of classes: the maximum over their phrases."""
    owners = samples.classes.classes_of_rows
    scores = np.empty((len(samples.classes), samples.scores.shape[1]), np.float32)
    for index in range(len(scores)):
        samples.scores[owners == index].max(axis=0, out=scores[index])
    return scores


def negative_margins(samples: ScoreSamples) -> NDArray[np.float32]:
    """Lead of background (n,): 0, or the best negative's score minus the threshold where that is above 0."""
    negatives = samples.scores[samples.classes.classes_of_rows == NEGATIVE] - np.float32(samples.threshold)
    margins: NDArray[np.float32] = negatives.max(axis=0, initial=0)
    return margins


def confusion_of(samples: ScoreSamples, scores: NDArray[np.float32], thresholds: NDArray[np.float32]) -> Confusion:
    """Truth against the labels that class scores (N,n) and thresholds (N,) give."""
    best, margin = _best(scores, thresholds, np.arange(len(scores)))
    labels = np.where(margin > negative_margins(samples), best + 1, 0)
    confusion = Confusion(len(scores) + 1)
    confusion.add(samples.truth, labels, samples.weights)
    return confusion


def find_thresholds(samples: ScoreSamples) -> dict[str, float]:
    """Class name -> the threshold for it that was found, of the classes that occur in the truth.

    Deterministic. Classes that occur nowhere keep their thresholds, and are left out.
    """
    scores, background = class_scores(samples), negative_margins(samples)
    start = np.round(class_thresholds(samples) * STEPS).astype(np.intp)
    current = start.copy()
    present = np.flatnonzero(np.bincount(samples.truth, minlength=len(scores) + 1)[1:])
    for _ in range(MOST_SWEEPS):
        before = current.copy()
        for index in present:
            others = np.delete(np.arange(len(scores)), index)
            best, margin = _best(scores, (current / STEPS).astype(np.float32), others)
            rival = np.where(margin > background, best + 1, 0)
            lead = scores[index] - np.maximum(margin, background)
            curve = _smooth(_mean_iou_by_threshold(samples, int(index) + 1, rival, lead))
            curve -= CAUTION / samples.num_images * (np.arange(STEPS + 1) - start[index]) ** 2
            highest = int(curve.argmax())
            if curve[highest] > curve[current[index]]:
                current[index] = highest
        if np.array_equal(current, before):
            break
    return {samples.classes.names[index]: int(current[index]) / STEPS for index in present}


def find_one_threshold(samples: ScoreSamples) -> float:
    """The one threshold for all classes and negatives with the best mean IoU, by the same rules. Deterministic.

    The thresholds of classes count for nothing here.
    """
    scores = class_scores(samples)
    negatives = samples.scores[samples.classes.classes_of_rows == NEGATIVE]
    best, highest = scores.argmax(axis=0) + 1, scores.max(axis=0)
    won = _thresholds_below(np.where(highest > negatives.max(axis=0, initial=-np.inf), highest, 0))
    labels, truth, weights = len(scores) + 1, samples.truth, samples.weights
    seen = _by_threshold(best, won, weights, labels)
    hit = _by_threshold(best, won, np.where(best == truth, weights, 0), labels)
    background = np.stack([weights, np.where(truth == 0, weights, 0)])  # seen, hit
    seen[0], hit[0] = (np.cumsum(np.bincount(won, kept, minlength=STEPS + 2))[: STEPS + 1] for kept in background)
    curve = _smooth(_mean_iou(hit, seen, np.bincount(truth, weights, labels).astype(np.float64)))
    start = round(samples.threshold * STEPS)
    curve -= CAUTION / samples.num_images * (np.arange(STEPS + 1) - start) ** 2
    return int(curve.argmax()) / STEPS


def _best(
    scores: NDArray[np.float32], thresholds: NDArray[np.float32], indices: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Among some classes, the one (n,) that exceeds its threshold by most, and by how much (n,)."""
    best = np.zeros(scores.shape[1], np.intp)
    margin = np.full(scores.shape[1], -np.inf, np.float32)
    for index in indices:
        found = scores[index] - thresholds[index]
        better = found > margin
        best[better] = index
        np.maximum(margin, found, out=margin)
    return best, margin


def _mean_iou_by_threshold(
    samples: ScoreSamples, label: int, rival: NDArray[np.intp], lead: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean IoU (STEPS + 1,) by the threshold of one label.

    `rival` (n,) is the label of each pixel without this one, and `lead` (n,) the threshold below which it is this one.
    """
    labels = len(samples.classes) + 1
    truth, weights = samples.truth, samples.weights
    pixels = Confusion(labels)
    pixels.add(truth, rival, weights)
    hits, truths, predicted = pixels.pixels.diagonal(), pixels.pixels.sum(axis=1), pixels.pixels.sum(axis=0)
    won = _thresholds_below(lead)
    lost = _by_threshold(rival, won, weights, labels)
    hit_lost = _by_threshold(rival, won, np.where(rival == truth, weights, 0), labels)
    gained = _by_threshold(truth, won, np.where(truth == label, weights, 0), labels)[label]
    hit = hits[:, np.newaxis] - hit_lost
    seen = predicted[:, np.newaxis] - lost
    hit[label], seen[label] = gained, lost.sum(axis=0)
    return _mean_iou(hit, seen, truths)


def _thresholds_below(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """How many of the thresholds 0, 1 / STEPS, ... 1 each score (n,) exceeds, from 0 to STEPS + 1."""
    count: NDArray[np.intp] = np.clip(np.ceil(np.maximum(scores, 0) * STEPS), 0, STEPS + 1).astype(np.intp)
    return count


def _by_threshold(
    labels: NDArray[np.intp], won: NDArray[np.intp], weights: NDArray[np.float64], num_labels: int
) -> NDArray[np.float64]:
    """Weights (num_labels, STEPS + 1) of the pixels that are won at each threshold, by their label (n,)."""
    counted = np.bincount(labels * (STEPS + 2) + won, weights, minlength=num_labels * (STEPS + 2))
    counts = counted.astype(np.float64).reshape(num_labels, -1)
    sums: NDArray[np.float64] = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return sums


def _mean_iou(hit: NDArray[np.float64], seen: NDArray[np.float64], truths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean IoU (k,) of pixels hit and seen (labels, k) and those of the truth (labels,)."""
    union = truths[:, np.newaxis] + seen - hit
    occurs = union > 0
    found = np.divide(hit, union, out=np.zeros_like(union), where=occurs)
    mean: NDArray[np.float64] = found.sum(axis=0) / np.maximum(occurs.sum(axis=0), 1)
    return mean


def _smooth(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve under a Gaussian of SMOOTHING steps, its ends repeated."""
    reach = 4 * SMOOTHING
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / SMOOTHING) ** 2)
    return np.convolve(np.pad(curve, reach, mode="edge"), weights / weights.sum(), "valid")
