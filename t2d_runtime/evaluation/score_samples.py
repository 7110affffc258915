"""Scores of phrases at some pixels of labelled images: all that is needed to judge words and thresholds.

Each image is encoded once. Its planes of scores exist one at a time; a grid of their pixels is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import DataError, OptionError
from t2d_runtime.evaluation.label_files import IGNORED
from t2d_runtime.image.windows import size_of
from t2d_runtime.words.vocabulary import ClassEmbeddings

if TYPE_CHECKING:
    from t2d_runtime.image.encoding import ImageEncoding
    from t2d_runtime.image.reading import ImageLike
    from t2d_runtime.results.options import SegmentOptions
    from t2d_runtime.segmenter import Segmenter

SAMPLED_PIXELS = 1 << 19
"""Most pixels kept of all images. Their IoU is within about 0.002 of that of all pixels."""

SAMPLED_SCORES = 1 << 24
"""Most scores kept of all images: 64 MiB."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image and its true labels."""

    image: ImageLike
    labels: NDArray[np.integer]
    """(H,W) of the image's size: 0 background, 1 + the class's index, -1 for pixels that do not count."""
    classes: tuple[str, ...] | None = None
    """Classes asked for on this image; None: all. The labels keep the indices of all classes."""
    name: str = "the image"
    """The image's name in errors."""


@dataclass(frozen=True, eq=False)
class ScoreSamples:
    """Scores and truth of n pixels from some images, for the P phrases of N classes and negatives."""

    classes: ClassEmbeddings
    threshold: float
    """Threshold of the classes without their own, and of negatives."""
    scores: NDArray[np.float32]
    """(P,n) from 0 to 1; minus infinity for the phrases of classes that were not asked for on a pixel's image."""
    truth: NDArray[np.intp]
    """(n,) 0 background, 1 + the class's index."""
    weights: NDArray[np.float64]
    """(n,) the pixels of the image that each stands for."""
    images: NDArray[np.intp]
    """(n,) the index of each pixel's image."""

    def of_images(self, chosen: NDArray[np.bool_]) -> ScoreSamples:
        """The samples of the images where `chosen` (one for each image) is True."""
        kept = chosen[self.images]
        return ScoreSamples(
            self.classes,
            self.threshold,
            self.scores[:, kept],
            self.truth[kept],
            self.weights[kept],
            self.images[kept],
        )

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(self.images.max()) + 1


def pixels_per_image(num_images: int, num_phrases: int) -> int:
    """Pixels to keep of each image, so that the samples of all stay within SAMPLED_PIXELS and SAMPLED_SCORES."""
    return max(1, min(SAMPLED_PIXELS, SAMPLED_SCORES // num_phrases) // max(1, num_images))


def sample_scores(
    segmenter: Segmenter,
    classes: ClassEmbeddings,
    examples: Iterable[LabelledImage],
    *,
    pixels: int,
    **options: Unpack[SegmentOptions],
) -> ScoreSamples:
    """Scores of all phrases at about `pixels` pixels of each labelled image, on a regular grid.

    Options are those of `Segmenter.segment`, with `background=True`. Raises its errors, OptionError without
    background, and DataError for labels of another size than their image's, and where there is no image at all.
    """
    if not options.get("background", False):
        raise OptionError("thresholds of classes need background=True; add that")
    settings = segmenter.check_options(classes, **options)
    scores, truths, weights, images = [], [], [], []
    for index, example in enumerate(examples):
        with_rows = _sampled(segmenter, classes, example, pixels, options)
        scores.append(with_rows[0])
        truths.append(with_rows[1])
        weights.append(np.full(len(with_rows[1]), with_rows[2]))
        images.append(np.full(len(with_rows[1]), index, np.intp))
    if not images:
        raise DataError("there is no labelled image; expected at least one")
    truth = np.concatenate(truths).astype(np.intp)
    counted = truth != IGNORED
    if not counted.any():
        raise DataError("no pixel of the labels counts; expected labels of some classes")
    return ScoreSamples(
        classes,
        settings.threshold,
        np.concatenate(scores, axis=1)[:, counted],
        truth[counted],
        np.concatenate(weights)[counted],
        np.concatenate(images)[counted],
    )


def _sampled(
    segmenter: Segmenter, classes: ClassEmbeddings, example: LabelledImage, pixels: int, options: SegmentOptions
) -> tuple[NDArray[np.float32], NDArray[np.integer], float]:
    """Scores (P,n) and truth (n,) of one image, and the pixels that each stands for."""
    encoding = segmenter.encode_image(example.image, options.get("window") or "slide")
    height, width = size_of(encoding.image)
    if example.labels.shape != (height, width):
        given = " x ".join(map(str, reversed(example.labels.shape)))
        raise DataError(
            f"the labels of {example.name} have {given} pixels, the image {width} x {height}; expected the same size"
        )
    rows = np.arange(len(classes.vectors))
    if example.classes is not None:
        asked = [name in example.classes for name in classes.names] + [True]  # the last one is for negatives
        rows = np.flatnonzero(np.array(asked)[classes.classes_of_rows])
    step = max(1.0, (height * width / pixels) ** 0.5)
    grid = np.ix_(_places(height, step), _places(width, step))
    truth = example.labels[grid].ravel()
    scores = np.full((len(classes.vectors), len(truth)), -np.inf, np.float32)
    for row, plane in zip(rows, _phrase_planes(segmenter, encoding, classes, rows, options), strict=True):
        scores[row] = plane[grid].ravel()
    return scores, truth, height * width / len(truth)


def _phrase_planes(
    segmenter: Segmenter,
    encoding: ImageEncoding,
    classes: ClassEmbeddings,
    rows: NDArray[np.intp],
    options: SegmentOptions,
) -> Iterator[NDArray[np.float32]]:
    """Planes (H,W) of the scores of some phrases, each segmented as a class of its own."""
    numbered = ClassEmbeddings(tuple(map(str, range(len(rows)))), classes.vectors[rows], classes.digest)
    of_encoding: SegmentOptions = {**options, "window": None}
    return iter(segmenter.score_planes(encoding, numbered, **of_encoding))


def _places(length: int, step: float) -> NDArray[np.intp]:
    """Evenly spaced places along an axis, the same distance from both ends."""
    count = max(1, round(length / step))
    return ((np.arange(count) + 0.5) * (length / count)).astype(np.intp)
