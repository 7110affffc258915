"""Scores of a batch: one number for every pair of an image's head embeddings and a caption's tokens.

Source: Talk2DINO, Sec. 3.2 and the ablation of the head selection; `compute_similarity` in `src/model.py` of the
released code, whose selections over tokens give the transpose of these scores.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from t2d_runtime.errors import OptionError
from training.config import OVER_TOKENS, SELECTIONS, SINGLE_VECTOR, Selection

NUCLEUS_SHARE = 0.6
"""Share of the min-max normalised similarities that `nucleus` keeps, as released."""

NORM_EPSILON = 1e-12
"""Smallest norm that a cosine divides by, from torch's `normalize`, with which the released code trains."""


class Scores(NamedTuple):
    """Scores (B, B), row = text, column = image; and the head (B,) int64 that each pair chose, if it chose one."""

    matrix: Tensor
    head_index: Tensor | None = None


def pair_scores(
    selection: Selection,
    text: Tensor,
    visual: Tensor,
    *,
    token_mask: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Scores:
    """Score every text of a batch against every image, by cosines.

    text: (B, D), or (B, L, D) with `token_mask` (B, L), true for the tokens that count; visual: (B, M, D), or (B, D)
    for a selection of `SINGLE_VECTOR`. The vectors may have any norm; this function normalises them. `generator` draws
    the heads of `sampled`.
    Raises OptionError where the selection does not take inputs of these shapes.
    """
    _check_shapes(selection, text, visual, token_mask)
    text = normalize(text, dim=-1)
    if selection in SINGLE_VECTOR:
        return Scores(text @ normalize(visual, dim=-1).t())
    if selection in OVER_TOKENS:
        return Scores(_token_scores(selection, text, normalize(visual, dim=-1), token_mask))
    if selection == "weighted_avg":
        heads = normalize(visual, dim=-1)
        weights = torch.einsum("bd,bmd->bm", text, heads).softmax(dim=1)
        # As released: the mean, not the sum, of the weighted heads, without normalisation.
        return Scores(text @ (heads * weights.unsqueeze(-1)).mean(dim=1).t())
    index = _choose_heads(selection, text, visual, generator)
    chosen = visual[torch.arange(len(visual), device=visual.device), index]
    return Scores(text @ normalize(chosen, dim=-1).t(), index)


def inner_token_mask(token_mask: Tensor) -> Tensor:
    """The mask (B, L) of the words alone, from that of start token, words and end token."""
    inner = token_mask.clone()
    inner[:, 0] = False
    rows = torch.arange(len(inner), device=inner.device)
    inner[rows, token_mask.sum(dim=1) - 1] = False
    return inner


@torch.no_grad()
def _choose_heads(selection: Selection, text: Tensor, visual: Tensor, generator: torch.Generator | None) -> Tensor:
    """The head that each image chooses for its own text. No gradient goes through the choice.

    The products are divided by the norms, so that heads that are not chosen need no normalisation; they are most of the
    data of a step.
    """
    lengths = torch.linalg.vector_norm(visual, dim=-1).clamp_min(NORM_EPSILON)
    cosines = torch.einsum("bd,bmd->bm", text, visual) / lengths
    if selection == "sampled":
        shares = cosines.softmax(dim=1)
        # A NaN has no distribution to draw from. The maximum below, and so the loss, is then NaN.
        if shares.isfinite().all():
            return torch.multinomial(shares, 1, generator=generator).squeeze(1)
    return torch.argmax(cosines, dim=1)


def _token_scores(selection: Selection, text: Tensor, visual: Tensor, token_mask: Tensor | None) -> Tensor:
    tokens = text if text.ndim == 3 else text.unsqueeze(1)
    if selection in ("sum", "mean"):
        # Products are linear, so the sum of all cosines is one product of sums.
        counted = tokens if token_mask is None else tokens * token_mask[:, :, None]
        total = counted.sum(dim=1) @ visual.sum(dim=1).t()
        # As released, masked tokens are 0 but counted.
        return total if selection == "sum" else total / (tokens.shape[1] * visual.shape[1])
    texts, length, width = tokens.shape
    images, heads, _ = visual.shape
    # Images are innermost, so that the maximum over heads runs along whole rows of memory.
    columns = visual.transpose(0, 1).reshape(-1, width)
    best = (tokens.reshape(-1, width) @ columns.t()).view(texts, length, heads, images).amax(dim=2)
    if token_mask is not None:
        best = best.masked_fill(~token_mask[:, :, None], 0)
    return best.sum(dim=1) if selection == "max-row_sum" else _nucleus(best)


def _nucleus(best: Tensor) -> Tensor:
    """Sum of the largest similarities (texts, length, images) until their normalised share exceeds the limit."""
    ordered = best.sort(dim=1, descending=True).values
    with torch.no_grad():
        above = ordered - ordered[:, -1:]
        share = above.cumsum(dim=1) / above.sum(dim=1, keepdim=True)
        # The token that passes the limit is kept. Where all are equal, the share is 0/0 and the first is kept.
        last = (share > NUCLEUS_SHARE).to(torch.uint8).argmax(dim=1, keepdim=True)
        kept = torch.arange(best.shape[1], device=best.device)[None, :, None] <= last
    return (ordered * kept).sum(dim=1)


def _check_shapes(selection: Selection, text: Tensor, visual: Tensor, token_mask: Tensor | None) -> None:
    if selection not in SELECTIONS:
        raise OptionError(f"expected a head selection of {', '.join(SELECTIONS)}, got {selection!r}")
    wanted = 2 if selection in SINGLE_VECTOR else 3
    if visual.ndim != wanted:
        raise OptionError(f"{selection} expects visual vectors of {wanted} dimensions, got shape {tuple(visual.shape)}")
    if text.ndim == 3 and (selection not in OVER_TOKENS or token_mask is None):
        raise OptionError(
            f"{selection} got every token of the texts, shape {tuple(text.shape)}: that takes a selection of "
            f"{', '.join(sorted(OVER_TOKENS))}, and a token mask"
        )
