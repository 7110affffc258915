"""Retrieval between images and captions: recall and ranks in both directions (Talk2DINO, Table 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from t2d_export.model.projection import LastBlockProjection, Projection, projection_from_state_dict
from t2d_export.weights.sources import projection_weights
from t2d_runtime.errors import DataError, NotFiniteError, OptionError
from training.features.batches import BatchReader, FeatureChoice
from training.features.feature_set import FeatureSet, IndexArray
from training.features.finite import not_finite_feature
from training.objective.objective import project_texts

Similarity = Literal["mean", "max"]
"""Similarity of an image with a text: the cosine with the mean of the head embeddings, or the largest of a head."""

SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)
RECALL_AT = (1, 5, 10)

CHUNK = 256
"""Images scored against all texts at a time."""


@dataclass(frozen=True)
class Ranks:
    """Figures of one direction of retrieval; ranks count from 1."""

    queries: int
    recall: dict[int, float]
    """Share (0 to 1) of the queries whose partner is among the first k."""
    median_rank: float
    mean_rank: float

    @classmethod
    def of(cls, ranks: IndexArray) -> Ranks:
        """Summary of the queries' ranks (queries,)."""
        recall = {k: float(np.mean(ranks <= k)) for k in RECALL_AT}
        return cls(len(ranks), recall, float(np.median(ranks)), float(np.mean(ranks)))


@dataclass(frozen=True)
class Retrieval:
    """Both directions with one similarity. An image has several captions; the best-ranked one counts."""

    similarity: Similarity
    image_to_text: Ranks
    text_to_image: Ranks


def load_projection(path: Path, features: FeatureSet) -> Projection:
    """Read a projection file for the towers of a feature set. Raises WeightsError and WeightsNotFoundError."""
    facts = features.manifest
    tensors, _ = projection_weights(str(path), facts.backbone)
    return projection_from_state_dict(
        tensors,
        text_dim=facts.text_dim,
        embed_dim=facts.embed_dim,
        text_heads=facts.text_heads,
        quick_gelu=facts.quick_gelu,
    )


@torch.inference_mode()
def retrieval(
    features: FeatureSet, projection: Projection, similarity: Similarity, *, average_text: bool = False
) -> Retrieval:
    """Rank all captions for every image and all images for every caption.

    `average_text` takes the mean over a caption's words instead of the feature at its end token.
    Raises DataError where the set lacks the arrays or has no caption. Raises OptionError for `average_text` with a
    projection that has CLIP's last block, since that ends at the end token. Raises NotFiniteError for features that are
    not finite.
    """
    if average_text and isinstance(projection, LastBlockProjection):
        raise OptionError("--average-text has no effect on a projection with CLIP's last block; leave it out")
    if not len(features):
        raise DataError(f"{features.folder} has no captions to rank")
    texts = normalize(_texts(features, projection, average_text), dim=-1)
    owners = torch.from_numpy(features.image_numbers())
    images = int(owners.max()) + 1
    own_scores = torch.full((len(texts),), -torch.inf)
    for first, scores in _score_chunks(features, projection, similarity, texts):
        here = (owners >= first) & (owners < first + len(scores))
        own_scores[here] = scores[owners[here] - first, here.nonzero().squeeze(1)]
    # Ties count against the query. Otherwise a model with the same score for all would be perfect.
    image_ranks = torch.zeros(len(texts), dtype=torch.int64)
    text_ranks = torch.full((images,), len(texts), dtype=torch.int64)
    for first, scores in _score_chunks(features, projection, similarity, texts):
        image_ranks += (scores >= own_scores).sum(dim=0)
        for row, row_scores in enumerate(scores[: images - first]):
            mine = owners == first + row
            if mine.any():
                best = row_scores[mine].max()
                text_ranks[first + row] = 1 + (row_scores[~mine] >= best).sum()
    asked = torch.zeros(images, dtype=torch.bool)
    asked[owners] = True
    return Retrieval(similarity, Ranks.of(text_ranks[asked].numpy()), Ranks.of(image_ranks.numpy()))


def _texts(features: FeatureSet, projection: Projection, average_text: bool) -> Tensor:
    if isinstance(projection, LastBlockProjection):
        choice = FeatureChoice("cls", "penultimate", "penultimate")
    else:
        choice = FeatureChoice("cls", "text_average" if average_text else "text", None)
    texts = []
    for batch in BatchReader(features, choice, 1024).epoch():
        if not batch.finite:
            raise NotFiniteError(str(not_finite_feature(features, choice, batch.captions)))
        texts.append(project_texts(projection, batch))
    return torch.cat(texts)


def _score_chunks(
    features: FeatureSet, projection: Projection, similarity: Similarity, texts: Tensor
) -> Iterator[tuple[int, Tensor]]:
    """Chunks of images: the index of the first one, and scores (images of the chunk, texts)."""
    first = 0
    for shard in features.shards:
        for start in range(0, len(shard.arrays["heads"]), CHUNK):
            heads = torch.from_numpy(shard.arrays["heads"][start : start + CHUNK]).float()
            if not heads.isfinite().all():  # a NaN would rank first: no score is above it
                raise NotFiniteError(f"'heads' in {shard.path} are not finite; delete the folder and extract it again")
            if similarity == "mean":
                vectors = normalize(projection.project_visual(heads.mean(dim=1)), dim=-1)
                yield first, vectors @ texts.t()
            else:
                vectors = normalize(projection.project_visual(heads), dim=-1)
                scores = vectors[:, 0] @ texts.t()
                for head in range(1, vectors.shape[1]):
                    torch.maximum(scores, vectors[:, head] @ texts.t(), out=scores)
                yield first, scores
            first += len(heads)
