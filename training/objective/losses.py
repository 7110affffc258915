"""The two contrastive losses over a batch's score matrix.

Source: Talk2DINO, Eq. 5; `src/loss.py` of the released code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.07
"""Fixed temperature. It is not learned, since the released code does not give it to the optimiser."""

MARGIN = 0.2
"""Margin of the triplet loss, as released."""


def info_nce(scores: Tensor, *, temperature: float = TEMPERATURE, over_batch_squared: bool = True) -> Tensor:
    """Mean of the cross entropies over rows and over columns of scores (B, B); pairs are on the diagonal.

    The released code divides the loss once more by B². With Adam this matters only beside its epsilon.
    """
    logits = scores / temperature
    labels = torch.arange(len(scores), device=scores.device)
    loss = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.t(), labels)) / 2
    return loss / len(scores) ** 2 if over_batch_squared else loss


def triplet(scores: Tensor, *, margin: float = MARGIN, over_batch_squared: bool = True) -> Tensor:
    """Sum over rows and columns of scores (B, B) of the hinge with the hardest negative; divided as in `info_nce`."""
    pairs = scores.diagonal()
    same = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    rows = (margin + scores - pairs[:, None]).clamp(min=0).masked_fill(same, 0)
    columns = (margin + scores - pairs[None, :]).clamp(min=0).masked_fill(same, 0)
    loss = rows.amax(dim=1).sum() + columns.amax(dim=0).sum()
    return loss / len(scores) ** 2 if over_batch_squared else loss
