"""Thresholds found from labelled pixels: they raise the mean IoU, and follow from counts as if every one was tried."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.errors import DataError, OptionError
from t2d_runtime.evaluation.label_files import IGNORED
from t2d_runtime.evaluation.score_samples import LabelledImage, ScoreSamples, pixels_per_image, sample_scores
from t2d_runtime.evaluation.thresholds import (
    CAUTION,
    STEPS,
    class_scores,
    class_thresholds,
    confusion_of,
    find_one_threshold,
    find_thresholds,
)
from t2d_runtime.evaluation.word_report import judge_words


def embeddings(names: tuple[str, ...], **fields: object) -> ClassEmbeddings:
    rows = len(fields.get("phrases", names))  # type: ignore[arg-type]
    return ClassEmbeddings(names, np.eye(rows, 8, dtype=np.float32), "0" * 64, **fields)  # type: ignore[arg-type]


@pytest.fixture
def samples() -> ScoreSamples:
    """Three classes and a negative, of which "dim" scores low where it is and "bright" high where it is not."""
    rng = np.random.default_rng(0)
    count = 4000
    truth = rng.integers(0, 4, count)
    classes = embeddings(
        ("dim", "bright", "plain"), phrases=("dim", "bright", "shiny", "plain", "wall"), class_indices=(0, 1, 1, 2, -1)
    )
    centres = {0: 0.50, 1: 0.53, 2: 0.53, 3: 0.56, 4: 0.45}
    scores = np.stack([rng.normal(centre, 0.01, count) for centre in centres.values()]).astype(np.float32)
    for row, label, raised in ((0, 1, 0.04), (1, 2, 0.08), (2, 2, 0.06), (3, 3, 0.02)):
        scores[row, truth == label] += raised
    images = np.arange(count) * 100 // count
    return ScoreSamples(classes, 0.55, scores, truth, np.ones(count), images)


def mean_iou(samples: ScoreSamples, thresholds: dict[str, float]) -> float:
    values = np.array([thresholds[name] for name in samples.classes.names], np.float32)
    return confusion_of(samples, class_scores(samples), values).mean_iou()


def test_the_thresholds_found_raise_the_mean_iou(samples: ScoreSamples) -> None:
    found = find_thresholds(samples)
    assert found == find_thresholds(samples)
    before = confusion_of(samples, class_scores(samples), class_thresholds(samples)).mean_iou()
    assert mean_iou(samples, found) > before + 0.05
    assert found["dim"] < 0.55 < found["bright"]


def test_each_threshold_is_the_best_of_all_that_were_tried_one_by_one(
    samples: ScoreSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2d_runtime.evaluation.thresholds.CAUTION", 0.0)
    monkeypatch.setattr("t2d_runtime.evaluation.thresholds._smooth", lambda curve: curve)
    found = find_thresholds(samples)
    for name in samples.classes.names:
        tried = [mean_iou(samples, {**found, name: step / STEPS}) for step in range(450, 650)]
        assert mean_iou(samples, found) >= max(tried) - 1e-6


def with_one(samples: ScoreSamples, threshold: float) -> float:
    values = np.full(len(samples.classes), threshold, np.float32)
    return confusion_of(replace(samples, threshold=threshold), class_scores(samples), values).mean_iou()


def test_the_one_threshold_for_all_is_the_best_of_all_that_were_tried(
    samples: ScoreSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = range(450, 650)
    samples.scores[4, samples.truth == 0] += 0.08  # the negative wins on some of the background
    best = max(with_one(samples, step / STEPS) for step in steps)
    assert with_one(samples, find_one_threshold(samples)) > best - 0.005, "the smoothed curve's is near the best"
    monkeypatch.setattr("t2d_runtime.evaluation.thresholds.CAUTION", 0.0)
    monkeypatch.setattr("t2d_runtime.evaluation.thresholds._smooth", lambda curve: curve)
    assert with_one(samples, find_one_threshold(samples)) >= best - 1e-6
    report = judge_words(samples)
    assert report.one_threshold_mean_iou == pytest.approx(with_one(samples, report.one_threshold))
    without_background = replace(samples, truth=np.maximum(samples.truth, 1))
    assert with_one(without_background, find_one_threshold(without_background)) == pytest.approx(
        max(with_one(without_background, step / STEPS) for step in range(650))
    )


def test_fewer_images_are_trusted_less(samples: ScoreSamples) -> None:
    few = find_thresholds(replace(samples, images=np.zeros_like(samples.images)))
    many = find_thresholds(samples)
    assert CAUTION > 0
    assert abs(few["dim"] - 0.55) < abs(many["dim"] - 0.55)


def test_a_class_without_pixels_keeps_its_threshold_and_classes_not_asked_for_win_nothing(
    samples: ScoreSamples,
) -> None:
    absent = replace(samples, truth=np.where(samples.truth == 3, 0, samples.truth))
    assert set(find_thresholds(absent)) == {"dim", "bright"}
    scores = samples.scores.copy()
    scores[3] = -np.inf
    labels = confusion_of(samples, class_scores(replace(samples, scores=scores)), np.zeros(3, np.float32))
    assert labels.pixels[:, 3].sum() == 0


def test_a_report_judges_phrases_alone_and_images_left_out(samples: ScoreSamples) -> None:
    report = judge_words(samples)
    dim, bright, _ = report.figures
    assert dim.phrases == {"dim": dim.iou}
    assert set(bright.phrases) == {"bright", "shiny"}
    only = replace(
        samples,
        scores=np.delete(samples.scores, 1, axis=0),
        classes=embeddings(
            ("bright", "dim", "plain"), phrases=("shiny", "dim", "plain", "wall"), class_indices=(0, 1, 2, -1)
        ),
    )
    order = np.array([1, 0, 2, 3])
    only = replace(only, scores=only.scores[order], truth=np.array([0, 2, 1, 3])[samples.truth])
    assert bright.phrases["shiny"] == pytest.approx(
        confusion_of(only, class_scores(only), class_thresholds(only)).iou()[1]
    )
    assert report.held_out_mean_iou is not None
    assert report.mean_iou < report.held_out_mean_iou <= report.suggested_mean_iou
    assert report.classes.negatives == ("wall",)
    assert report.classes.thresholds == {figures.name: figures.suggested for figures in report.figures}
    assert judge_words(replace(samples, images=samples.images // 50)).held_out_mean_iou is None


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)


def test_samples_are_the_scores_and_labels_of_segment(segmenter: Segmenter) -> None:
    classes = segmenter.encode_classes({"sky": ["sky", "cloud"], "sea": "sea"}, negatives=["wall"])
    image = picture()
    expected = segmenter.segment(image, classes, background=True, threshold=0.5, keep_scores=True)
    assert expected.scores is not None
    truth = expected.label_map.astype(np.int32)
    truth[:, :20] = IGNORED
    samples = sample_scores(
        segmenter, classes, [LabelledImage(image, truth)], pixels=10**6, background=True, threshold=0.5
    )
    np.testing.assert_allclose(class_scores(samples), expected.scores[:, :, 20:].reshape(2, -1), atol=1e-6)
    confusion = confusion_of(samples, class_scores(samples), class_thresholds(samples))
    assert confusion.agreement() > 0.999
    assert confusion.pixels.sum() == 40 * 40

    few = sample_scores(segmenter, classes, [LabelledImage(image, truth, ("sea",))], pixels=96, background=True)
    assert few.scores.shape[1] == 64
    assert few.weights.sum() == pytest.approx(40 * 40)
    assert np.isneginf(few.scores[:2]).all()
    assert np.isfinite(few.scores[2:]).all()


def test_bad_samples_are_refused(segmenter: Segmenter, classes: ClassEmbeddings) -> None:
    image = picture()
    right = LabelledImage(image, np.zeros((40, 60), np.uint8))
    with pytest.raises(OptionError, match="need background=True"):
        sample_scores(segmenter, classes, [right], pixels=10)
    with pytest.raises(DataError, match="no labelled image"):
        sample_scores(segmenter, classes, [], pixels=10, background=True)
    wrong = LabelledImage(image, np.zeros((60, 40), np.uint8), name="a.jpg")
    with pytest.raises(DataError, match=r"labels of a\.jpg have 40 x 60 pixels, the image 60 x 40"):
        sample_scores(segmenter, classes, [wrong], pixels=10, background=True)
    with pytest.raises(DataError, match="no pixel of the labels counts"):
        sample_scores(
            segmenter, classes, [replace(right, labels=right.labels.astype(int) - 1)], pixels=9, background=True
        )


def test_samples_stay_within_their_memory() -> None:
    assert pixels_per_image(1, 10) == 1 << 19
    assert pixels_per_image(100, 171) == (1 << 24) // 171 // 100
    assert pixels_per_image(10**8, 171) == 1
