"""Retrieval against a plain sort of the whole score matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.training.synthetic_features import write_synthetic_features
from t2d_export.model.projection import TextProjection, VisualProjection
from t2d_runtime.errors import WeightsError
from training.__main__ import main
from training.evaluation import retrieval as module
from training.evaluation.retrieval import retrieval
from training.features.feature_set import FeatureSet
from training.run.report import write_projection


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    write_synthetic_features(
        folder, images=23, captions_per_image=2.5, num_heads=3, embed_dim=8, text_dim=6, images_per_shard=10
    )
    return FeatureSet(folder)


def plain_ranks(scores: torch.Tensor, owners: np.ndarray) -> tuple[list[int], list[int]]:
    """Ranks (image to text, text to image) by sorting scores (images, texts)."""
    to_text, to_image = [], []
    for image, row in enumerate(scores.numpy()):
        order = np.argsort(-row, kind="stable").tolist()
        to_text.append(1 + min(order.index(text) for text in np.flatnonzero(owners == image)))
    for text, column in enumerate(scores.numpy().T):
        to_image.append(1 + np.argsort(-column, kind="stable").tolist().index(owners[text]))
    return to_text, to_image


@pytest.mark.parametrize("similarity", ["mean", "max"])
@pytest.mark.parametrize("kind", [TextProjection, VisualProjection])
def test_ranks_are_those_of_a_sort(features, monkeypatch, similarity, kind):
    monkeypatch.setattr(module, "CHUNK", 4)
    torch.manual_seed(0)
    projection = kind(6, 8)
    texts = np.concatenate([shard.arrays["text"] for shard in features.shards])
    with torch.no_grad():
        texts = normalize(projection.project_text(torch.from_numpy(texts)), dim=-1)
        heads = torch.from_numpy(np.concatenate([shard.arrays["heads"] for shard in features.shards]))
        if similarity == "mean":
            scores = normalize(projection.project_visual(heads.mean(dim=1)), dim=-1) @ texts.t()
        else:
            scores = (normalize(projection.project_visual(heads), dim=-1) @ texts.t()).amax(dim=1)
    to_text, to_image = plain_ranks(scores, features.image_numbers())
    found = retrieval(features, projection, similarity)
    for ranks, expected in ((found.image_to_text, to_text), (found.text_to_image, to_image)):
        assert ranks.queries == len(expected)
        assert ranks.recall == {k: np.mean(np.asarray(expected) <= k) for k in (1, 5, 10)}
        assert ranks.median_rank == np.median(expected)
        assert ranks.mean_rank == pytest.approx(np.mean(expected))


def test_a_model_that_gives_one_score_to_all_is_not_perfect(features):
    projection = TextProjection(6, 8)
    with torch.no_grad():
        projection.hidden_layers[0].weight.zero_()
    found = retrieval(features, projection, "mean")
    assert found.image_to_text.recall[1] < 0.3


def test_command(features, tmp_path, capsys):
    write_projection(tmp_path / "projection.pth", TextProjection(6, 8))
    arguments = ["evaluate", "--features", str(features.folder), "--projection", str(tmp_path / "projection.pth")]
    assert main([*arguments, "--json", str(tmp_path / "retrieval.json")]) == 0
    assert "text to image" in capsys.readouterr().out
    assert (tmp_path / "retrieval.json").is_file()
    write_projection(tmp_path / "projection.pth", TextProjection(6, 9))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "backbone width 8" in error
    assert error.count("\n") == 1


def test_a_projection_for_another_backbone(features, tmp_path):
    write_projection(tmp_path / "other.pth", TextProjection(6, 9))
    with pytest.raises(WeightsError, match="another backbone"):
        module.load_projection(tmp_path / "other.pth", features)
