"""mIoU and its kin: against a plain count, against torchmetrics, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from benchmarks.accuracy.against_reference import difference_interval
from benchmarks.accuracy.metric import (
    IGNORED,
    add_cells,
    confusion,
    iou,
    label_areas,
    mean_iou,
    pixel_accuracy,
    recall,
    to_cells,
    to_matrix,
)

N = 5


def random_images(seed: int, images: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and result of images of different sizes, with ignored pixels; some labels occur nowhere."""
    rng = np.random.default_rng(seed)
    pairs = []
    labels = rng.choice(N, size=rng.integers(1, N + 1), replace=False)
    for _ in range(images):
        size = rng.integers(1, 12, 2)
        truth = rng.choice([IGNORED, *labels], size).astype(np.int32)
        pairs.append((truth, rng.choice(labels, size).astype(np.uint8)))
    return pairs


def summed(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    matrix = np.zeros((N, N), np.int64)
    for truth, result in pairs:
        add_cells(matrix, to_cells(confusion(truth, result, N)))
    return matrix


@given(seed=st.integers(0, 2**32), images=st.integers(1, 5))
def test_equal_to_a_plain_count(seed: int, images: int) -> None:
    pairs = random_images(seed, images)
    expected, counted, right = [], 0, 0
    for label in range(N):
        intersection = union = 0
        for truth, result in pairs:
            for t, r in zip(truth.ravel(), result.ravel(), strict=True):
                if t != IGNORED:
                    intersection += t == label and r == label
                    union += t == label or r == label
                    counted += 1
                    right += t == label and r == label
        if union:
            expected.append(intersection / union)
    matrix = summed(pairs)
    if not expected:
        assert np.isnan(mean_iou(matrix))
        assert np.isnan(pixel_accuracy(matrix))
        return
    assert mean_iou(matrix) == pytest.approx(sum(expected) / len(expected), abs=1e-12)
    assert pixel_accuracy(matrix) == pytest.approx(right / (counted / N), abs=1e-12)


@settings(max_examples=20)  # most of the time goes into torchmetrics
@given(seed=st.integers(0, 2**32))
def test_equal_to_torchmetrics(seed: int) -> None:
    pairs = random_images(seed, 3)
    # It cannot leave out labels that occur nowhere: what it gives for them is not compared.
    table = MulticlassConfusionMatrix(N, ignore_index=IGNORED)
    jaccard = MulticlassJaccardIndex(N, average="none", ignore_index=IGNORED)
    for truth, result in pairs:
        tensors = torch.from_numpy(result.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
        table.update(*tensors)
        jaccard.update(*tensors)
    matrix = summed(pairs)
    np.testing.assert_array_equal(matrix, table.compute().numpy())
    occurs = ~np.isnan(iou(matrix))
    np.testing.assert_allclose(iou(matrix)[occurs], jaccard.compute().numpy()[occurs], rtol=1e-6)


def test_by_hand() -> None:
    truth = np.array([[0, 0, 0, 1], [1, IGNORED, 2, 2]], np.int32)
    result = np.array([[0, 0, 1, 1], [3, 4, 2, 0]], np.uint8)
    matrix = confusion(truth, result, N)
    np.testing.assert_array_equal(iou(matrix), [2 / 4, 1 / 3, 1 / 2, 0, np.nan])
    np.testing.assert_array_equal(recall(matrix), [2 / 3, 1 / 2, 1 / 2, np.nan, np.nan])
    assert mean_iou(matrix) == pytest.approx((2 / 4 + 1 / 3 + 1 / 2 + 0) / 4)
    assert pixel_accuracy(matrix) == 4 / 7
    assert to_cells(matrix) == ((0, 0, 2), (0, 1, 1), (1, 1, 1), (1, 3, 1), (2, 0, 1), (2, 2, 1))
    np.testing.assert_array_equal(to_matrix(to_cells(matrix), N), matrix)


def test_sums_over_the_set_and_not_means_over_images() -> None:
    large = np.zeros((10, 10), np.int32), np.zeros((10, 10), np.uint8)
    small = np.zeros((1, 1), np.int32), np.ones((1, 1), np.uint8)
    assert iou(summed([large, small]))[0] == 100 / 101


def areas_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.stack([label_areas(confusion(*pair, N)) for pair in pairs])


def test_interval_of_a_difference() -> None:
    pairs = random_images(1, 60)
    perfect = areas_of([(truth, np.where(truth == IGNORED, 0, truth).astype(np.uint8)) for truth, _ in pairs])
    # The same side twice differs nowhere, a perfect one from a random one by all that the latter lacks.
    assert difference_interval(areas_of(pairs), areas_of(pairs)) == (0.0, 0.0)
    low, high = difference_interval(perfect, areas_of(pairs))
    assert low < 1 - mean_iou(summed(pairs)) < high
    assert high - low < 0.2
    assert difference_interval(areas_of(pairs), perfect) == pytest.approx((-high, -low))
    assert difference_interval(perfect, areas_of(pairs)) == (low, high)


def test_interval_narrows_with_images() -> None:
    few, many = ([(t, r) for t, r in random_images(2, 400)][:count] for count in (25, 400))
    widths = []
    for pairs in (few, many):
        perfect = areas_of([(truth, np.maximum(truth, 0).astype(np.uint8)) for truth, _ in pairs])
        low, high = difference_interval(perfect, areas_of(pairs))
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # a quarter in theory: 16 times the images
