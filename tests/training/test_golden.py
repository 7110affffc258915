"""Scores, losses, gradients and Adam steps are those of the released code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from t2d_export.model.projection import Projection, projection_from_state_dict
from training.config import OVER_TOKENS, Selection
from training.objective.heads import inner_token_mask, pair_scores
from training.objective.losses import info_nce, triplet

SCORES = 1e-6  # cosines of float32 vectors of 768 summands, seen 1e-7; sums over 12 heads are scaled below
LOSSES = 1e-6  # relative, as are gradients

OVER_HEADS: tuple[Selection, ...] = ("max_score", "weighted_avg", "sum", "mean", "max-row_sum")
OVER_HEADS_AND_TOKENS: dict[str, Selection] = {
    "tokens/max-row_sum": "max-row_sum",
    "tokens/nucleus-sampling": "nucleus",
}


@pytest.fixture
def projection(golden) -> Projection:
    return projection_from_state_dict(golden.projection, text_dim=512, embed_dim=768)


@pytest.mark.parametrize("selection", OVER_HEADS)
def test_scores_losses_and_gradients(golden, projection, selection):
    scores = pair_scores(selection, projection.project_text(golden.text), golden.heads).matrix
    expected = torch.from_numpy(golden.results[f"{selection}/scores"])
    if selection in OVER_TOKENS:
        expected = expected.t()
    assert (scores - expected).abs().max() <= SCORES * (12 if selection == "sum" else 1)

    loss = info_nce(scores)
    loss.backward()
    assert loss.item() == pytest.approx(golden.results[f"{selection}/infonce"], rel=LOSSES)
    assert triplet(scores).item() == pytest.approx(golden.results[f"{selection}/triplet"], rel=LOSSES)
    norms = [parameter.grad.norm().item() for parameter in projection.parameters()]
    np.testing.assert_allclose(norms, golden.results[f"{selection}/grad_norms"], rtol=1e-5)


@pytest.mark.parametrize("name", OVER_HEADS_AND_TOKENS)
def test_tokens_of_the_text(golden, projection, name):
    scores = pair_scores(
        OVER_HEADS_AND_TOKENS[name],
        projection.project_text(golden.tokens),
        golden.heads,
        token_mask=inner_token_mask(golden.token_mask),
    ).matrix
    assert (scores - torch.from_numpy(golden.results[f"{name}/scores"]).t()).abs().max() <= SCORES
    assert info_nce(scores).item() == pytest.approx(golden.results[f"{name}/infonce"], rel=LOSSES)


def test_chosen_heads(golden, projection):
    scores = pair_scores("max_score", projection.project_text(golden.text), golden.heads)
    assert scores.head_index.tolist() == golden.results["max_score/head_index"].tolist()


def test_five_adam_steps(golden, projection):
    optimizer = torch.optim.Adam(projection.parameters(), lr=1e-4, fused=True)
    losses = []
    for _ in range(5):
        loss = info_nce(pair_scores("max_score", projection.project_text(golden.text), golden.heads).matrix)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, golden.results["adam5/losses"], rtol=LOSSES)
    for name, weight in projection.state_dict().items():
        expected = golden.results[f"adam5/{name}_sample"]
        np.testing.assert_allclose(weight.flatten()[::997].numpy(), expected, rtol=0, atol=1e-7)


def test_one_vector_of_an_image(golden, projection):
    scores = pair_scores("average", projection.project_text(golden.text), golden.heads.mean(dim=1)).matrix
    assert info_nce(scores).item() == pytest.approx(golden.results["single_vector/infonce"], rel=LOSSES)
