"""Background cleaning, against its formulas written out one class, head and patch at a time."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from t2d_runtime.errors import OptionError
from t2d_runtime.masks.cleaning import clean_scores
from t2d_runtime.results.options import Cleaning

Inputs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def make_inputs(classes: int, patches: int, heads: int, width: int, seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.3, 0.7, (classes, patches))
    tokens = rng.normal(size=(patches, width))
    logits = rng.normal(scale=2, size=(heads, patches))
    texts = rng.normal(size=(classes, width))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return tuple(array.astype(np.float32) for array in (scores, tokens, logits, texts))  # type: ignore[return-value]


inputs = st.builds(
    make_inputs,
    st.integers(1, 4),
    st.integers(2, 6),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(0, 2**32 - 1),
)


def softmax(values: list[float]) -> list[float]:
    powers = [exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def relevance(maps: list[list[float]], tokens: Any, text: Any) -> list[float]:
    """Eq. 8: softmax over heads of the cosine of a text and the heads' embeddings."""
    cosines = []
    for weights in maps:
        embed = sum(weight * token for weight, token in zip(weights, tokens, strict=True)) / len(tokens)
        cosines.append(float(text @ embed / np.linalg.norm(embed)))
    return softmax(cosines)


def official(scores: Any, tokens: Any, logits: Any, texts: Any, weight: float) -> NDArray[np.float64]:
    maps = logits.tolist()
    attention = []
    for text in texts:
        shares = relevance(maps, tokens, text)
        mixed = [sum(s * head[p] for s, head in zip(shares, maps, strict=True)) for p in range(len(tokens))]
        attention.append(softmax(mixed))
    low, high = min(map(min, attention)), max(map(max, attention))
    scaled = (np.array(attention) - low) / max(high, high - low) * (scores.max() - scores.min()) + scores.min()
    return (scores + weight * scaled) / (1 + weight)  # type: ignore[no-any-return]


def paper(scores: Any, tokens: Any, logits: Any, texts: Any, weight: float) -> NDArray[np.float64]:
    maps = [softmax(head) for head in logits.tolist()]
    cosines = np.array([[log(score / (1 - score)) for score in row] for row in scores.tolist()])
    cleaned = np.zeros_like(cosines)
    for n, text in enumerate(texts):
        shares = relevance(maps, tokens, text)
        mixed = [sum(s * head[p] for s, head in zip(shares, maps, strict=True)) for p in range(len(tokens))]
        scaled = (np.array(mixed) - min(mixed)) / (max(mixed) - min(mixed))
        scaled = scaled * (cosines.max() - cosines.min()) + cosines.min()
        cleaned[n] = (cosines[n] + weight * scaled) / (1 + weight)
    return 1 / (1 + np.exp(-cleaned))  # type: ignore[no-any-return]


@given(inputs, st.floats(0, 2))
@settings(deadline=None)
def test_official_equals_its_formula(arrays: Inputs, weight: float) -> None:
    cleaned = clean_scores(*arrays, method="official", weight=weight)
    assert cleaned.dtype == np.float32
    wide = [array.astype(np.float64) for array in arrays]
    np.testing.assert_allclose(cleaned, official(*wide, weight), rtol=0, atol=1e-5)


@given(inputs, st.floats(0, 2))
@settings(deadline=None)
def test_paper_equals_its_formula(arrays: Inputs, weight: float) -> None:
    cleaned = clean_scores(*arrays, method="paper", weight=weight)
    assert cleaned.dtype == np.float32
    wide = [array.astype(np.float64) for array in arrays]
    # Scaling each map to its own range makes rounding larger where that range is small.
    np.testing.assert_allclose(cleaned, paper(*wide, weight), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["official", "paper"])
def test_no_weight_changes_nothing(method: Cleaning) -> None:
    arrays = make_inputs(3, 5, 2, 4, seed=1)
    np.testing.assert_allclose(clean_scores(*arrays, method=method, weight=0), arrays[0], atol=1e-6)


@pytest.mark.parametrize("method", ["official", "paper"])
def test_cleaning_stays_within_the_range_of_the_scores(method: Cleaning) -> None:
    arrays = make_inputs(4, 30, 6, 16, seed=2)
    cleaned = clean_scores(*arrays, method=method, weight=0.2)
    assert arrays[0].min() - 1e-6 <= cleaned.min()
    assert cleaned.max() <= arrays[0].max() + 1e-6


@pytest.mark.parametrize("method", ["official", "paper"])
@given(order=st.permutations(range(4)))
def test_permuted_classes_give_permuted_rows(method: Cleaning, order: list[int]) -> None:
    scores, tokens, logits, texts = make_inputs(4, 30, 6, 16, seed=3)
    expected = clean_scores(scores, tokens, logits, texts, method=method, weight=0.2)[order]
    permuted = clean_scores(scores[order], tokens, logits, texts[order], method=method, weight=0.2)
    np.testing.assert_allclose(permuted, expected, atol=1e-6)


def test_flat_attention_says_nothing_in_the_paper_s_form() -> None:
    scores, tokens, logits, texts = make_inputs(2, 4, 3, 5, seed=4)
    cleaned = clean_scores(scores, tokens, np.zeros_like(logits), texts, method="paper", weight=0.2)
    assert np.isfinite(cleaned).all()


def test_wrong_options() -> None:
    arrays = make_inputs(2, 3, 2, 4, seed=5)
    with pytest.raises(OptionError, match=r"cleaning method is 'soap', expected one of \['official', 'paper'\]"):
        clean_scores(*arrays, method="soap", weight=0.2)  # type: ignore[arg-type]
    for weight in (-0.1, float("nan")):
        with pytest.raises(OptionError, match="expected 0 or more"):
            clean_scores(*arrays, method="official", weight=weight)
