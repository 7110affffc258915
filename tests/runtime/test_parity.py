"""The measures of parity and their limits, on arrays small enough to judge by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from t2d_runtime.proof.parity import (
    GATES,
    LABEL_MARGIN,
    SCORE_TOLERANCE,
    TOKEN_TOLERANCE,
    Judge,
    compare_labels,
    compare_values,
    margin_of,
    with_background,
)

EXPECTED = np.array([[3.0, 4.0], [0.0, 0.0]])


@pytest.mark.parametrize(("error", "passed"), [(0.4, True), (0.41, False), (-0.41, False)])
def test_a_relative_tolerance_is_a_share_of_the_largest_magnitude(error: float, passed: bool) -> None:
    parity = compare_values(
        "tokens", EXPECTED, EXPECTED + error * np.eye(1, 4).reshape(2, 2), tolerance=0.1, relative=True
    )
    assert parity.tolerance == pytest.approx(0.4)
    assert parity.max_abs_diff == pytest.approx(abs(error))
    assert parity.relative_frobenius == pytest.approx(abs(error) / 5)
    assert parity.passed == passed


@pytest.mark.parametrize(("error", "passed"), [(0.09, True), (0.11, False)])
def test_an_absolute_tolerance_is_what_it_says(error: float, passed: bool) -> None:
    parity = compare_values("scores", EXPECTED, EXPECTED - error, tolerance=0.1, relative=False)
    assert (parity.tolerance, parity.passed) == (0.1, passed)


def test_cosines_are_of_the_last_axis() -> None:
    parity = compare_values("tokens", EXPECTED, np.array([[4.0, -3.0], [0.0, 0.0]]), tolerance=9, relative=False)
    assert parity.cosine_mean == pytest.approx(0.5)  # at right angles, and two vectors of no length
    assert parity.cosine_worst == pytest.approx(0.01)


@pytest.mark.parametrize("got", [np.full((2, 2), np.nan), np.array([[np.inf, 4], [0, 0]]), np.zeros((2, 3))])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_values_that_are_not_finite_and_other_shapes_fail(got: Any, precision: str) -> None:
    judge = Judge.of(precision)
    for parity in (judge.features("tokens", EXPECTED, got), judge.scores("scores", EXPECTED, got)):
        assert not parity.passed
        assert "not finite, or another shape" in parity.verdict


def test_labels_may_differ_where_the_margin_leaves_it_open() -> None:
    expected, margin = np.array([[0, 1, 2, 3]]), np.array([[1, LABEL_MARGIN, 1, 1]])
    near = compare_labels("labels", expected, np.array([[0, 9, 2, 3]]), margin)
    assert near.passed
    assert (near.label_agreement, near.share_below_margin) == (0.75, 0.25)
    margin[0, 1] = np.nextafter(LABEL_MARGIN, 1)
    firm = compare_labels("labels", expected, np.array([[0, 9, 2, 3]]), margin)
    assert not firm.passed
    assert firm.max_abs_diff == 1
    assert not compare_labels("labels", expected, expected[:, :3], margin).passed


def test_float32_is_judged_by_the_tolerances() -> None:
    judge, ones = Judge.of("fp32"), np.ones((2, 2))
    assert judge.features("tokens", ones, ones + 0.99 * TOKEN_TOLERANCE).passed
    assert not judge.features("tokens", ones, ones + 1.01 * TOKEN_TOLERANCE).passed
    assert judge.scores("scores", ones, ones + 0.99 * SCORE_TOLERANCE).passed
    assert not judge.scores("scores", ones, ones + 1.01 * SCORE_TOLERANCE).passed
    labels = np.zeros((1, 1000), int)
    assert not judge.labels("labels", labels, labels + (np.arange(1000) == 0), np.ones((1, 1000))).passed


@pytest.mark.parametrize(
    ("precision", "norm", "agreement"), [("fp16", 0.01, 0.995), ("bf16", 0.02, 0.995), ("int8", 0.1, 0.98)]
)
def test_a_lower_precision_is_judged_by_its_gates(precision: str, norm: float, agreement: float) -> None:
    judge, ones = Judge.of(precision), np.ones((2, 2))
    assert list(GATES) == ["fp16", "bf16", "int8"]
    assert judge.features("tokens", ones, ones * (1 + 0.99 * norm)).passed
    assert not judge.features("tokens", ones, ones * (1 + 1.01 * norm)).passed
    assert judge.scores("scores", ones, ones + 1.99 * norm).passed
    assert not judge.scores("scores", ones, ones + 2.01 * norm).passed
    labels = np.zeros((1, 1000), int)
    for wrong, passed in ((round(1000 * (1 - agreement)), True), (round(1000 * (1 - agreement)) + 1, False)):
        parity = judge.labels("labels", labels, labels + (np.arange(1000) < wrong), np.ones((1, 1000)))
        assert parity.passed == passed
        assert parity.verdict.startswith(f"labels: {1 - wrong / 1000:.3%} of the labels agree")


def test_the_margin_is_of_the_two_best_scores_background_among_them() -> None:
    planes = np.array([0.2, 0.7, 0.4], np.float32).reshape(3, 1, 1)
    np.testing.assert_allclose(margin_of(planes), [[0.3]], atol=1e-6)
    ranked = with_background(planes, 0.6)
    assert ranked.argmax(axis=0) == 2
    np.testing.assert_allclose(margin_of(ranked), [[0.1]], atol=1e-6)
