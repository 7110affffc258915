"""Scores and loss of a batch of features, from the trained projection, the head selection and the loss function."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from t2d_export.model.projection import (
    BothProjection,
    LastBlockProjection,
    Projection,
    TextProjection,
    VisualProjection,
)
from t2d_runtime.errors import DataError
from training.config import Loss, ProjectionKind, Selection
from training.features.batches import Batch
from training.features.feature_set import LAST_BLOCK, FeatureManifest
from training.objective.distributed import gather_rows
from training.objective.heads import Scores, inner_token_mask, pair_scores
from training.objective.losses import info_nce, triplet


class Objective(nn.Module):
    """Scores of a batch's pairs, and their loss."""

    def __init__(
        self, projection: Projection, selection: Selection, loss: Loss = "infonce", *, over_batch_squared: bool = True
    ) -> None:
        super().__init__()
        self.projection = projection
        self.selection = selection
        self.loss_name = loss
        self.over_batch_squared = over_batch_squared

    def scores(
        self,
        batch: Batch,
        *,
        total: int | None = None,
        world_size: int = 1,
        generator: torch.Generator | None = None,
    ) -> Scores:
        """Scores (total, total) of a batch that `world_size` processes share; by default, of this process's batch."""
        total = len(batch.captions) if total is None else total
        text = gather_rows(project_texts(self.projection, batch), total, world_size)
        visual = gather_rows(self.projection.project_visual(batch.visual), total, world_size)
        mask = None
        if text.ndim == 3:
            token_mask = batch.token_mask()
            if token_mask is not None:
                mask = gather_rows(inner_token_mask(token_mask), total, world_size)
        return pair_scores(self.selection, text, visual, token_mask=mask, generator=generator)

    def loss(self, scores: Tensor) -> Tensor:
        """Loss of a score matrix."""
        function = info_nce if self.loss_name == "infonce" else triplet
        return function(scores, over_batch_squared=self.over_batch_squared)


def project_texts(projection: Projection, batch: Batch) -> Tensor:
    """Texts of a batch in the shared space, not normalised: (B, D), or (B, L, D) for every token."""
    if isinstance(projection, LastBlockProjection):
        if batch.lengths is None:
            raise DataError("a trained last block expects hidden states of every token, got one vector a text")
        return projection.project_text(projection.end_feature(batch.text, batch.lengths - 1))
    return projection.project_text(batch.text)


def new_projection(kind: ProjectionKind, features: Path, manifest: FeatureManifest, seed: int) -> Projection:
    """An untrained projection, drawn from `seed`. A last block to be trained starts as CLIP's own.

    Raises DataError where the features were extracted without CLIP's last block.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_dim, embed_dim = manifest.text_dim, manifest.embed_dim
        if kind == "visual":
            return VisualProjection(text_dim, embed_dim, hidden_dim=text_dim)  # hidden width as released
        if kind == "visual_affine":
            return VisualProjection(text_dim, embed_dim)
        if kind == "both":
            return BothProjection(text_dim, embed_dim)
        if kind == "last_block":
            return _from_last_block(features / LAST_BLOCK, manifest)
        return TextProjection(text_dim, embed_dim, hidden_layers=0 if kind == "affine" else 1)


def _from_last_block(path: Path, manifest: FeatureManifest) -> Projection:
    if not path.is_file():
        raise DataError(f"{path} is missing: extract with '--text-arrays penultimate' to train CLIP's last block")
    projection = LastBlockProjection(
        manifest.text_dim,
        manifest.embed_dim,
        width=manifest.text_width,
        heads=manifest.text_heads,
        quick_gelu=manifest.quick_gelu,
    )
    projection.load_state_dict(safetensors.torch.load_file(path), strict=False)
    return projection
