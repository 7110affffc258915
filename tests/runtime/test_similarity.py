"""Cosines and their scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2d_runtime.masks.similarity import cosine_similarity, scores_of

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", ["vitb14_reg4_448_astronaut", "vits14_448_coffee", "vits14_reg4_518_coffee"])
def test_scores_equal_the_released_code(name: str) -> None:
    with np.load(GOLDEN / f"{name}.npz") as golden:
        np.testing.assert_allclose(scores_of(golden["similarity"]), golden["scores"], rtol=0, atol=1e-6)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_cosines_equal_the_definition(windows: int, classes: int, patches: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(windows, patches, width)).astype(np.float32)
    texts = rng.normal(size=(classes, width)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    similarity = cosine_similarity(tokens, texts)
    assert similarity.dtype == np.float32
    directions = tokens / np.linalg.norm(tokens, axis=2, keepdims=True)
    np.testing.assert_allclose(similarity, np.einsum("wpd,nd->wnp", directions, texts), atol=1e-5)


@given(st.permutations(range(6)))
def test_permuted_classes_give_permuted_rows(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    tokens, texts = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 7, 16), (6, 16)))
    expected = cosine_similarity(tokens, texts)[:, order]
    np.testing.assert_allclose(cosine_similarity(tokens, texts[order]), expected, atol=1e-6)


def test_a_token_of_zeros_is_like_nothing() -> None:
    similarity = cosine_similarity(np.zeros((1, 1, 4), np.float32), np.eye(4, dtype=np.float32))
    np.testing.assert_array_equal(similarity, np.zeros((1, 4, 1)))


@pytest.mark.parametrize(("length", "cosine"), [(2e-6, 1.0), (5e-7, 0.5)])
def test_tokens_are_divided_by_their_length_but_by_no_less_than_the_released_code(length: float, cosine: float) -> None:
    similarity = cosine_similarity(np.full((1, 1, 1), length, np.float32), np.ones((1, 1), np.float32))
    np.testing.assert_allclose(similarity, [[[cosine]]], rtol=1e-5)


def test_no_temperature() -> None:
    """The published thresholds 0.55 and 0.54 are the cosines 0.2007 and 0.1603."""
    scores = scores_of(np.array([-1, 0, 0.2007, 0.1603, 1], np.float32))
    np.testing.assert_allclose(scores, [0.26894, 0.5, 0.55, 0.54, 0.73106], atol=2e-5)
