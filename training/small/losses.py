"""The losses of the small model's pre-training: words against regions and patches, attention, whole captions.

A region is an object that the scene generator drew. The word of a region is never given; only the words in an image's
captions are known.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from t2d_export.model.towers import ImageFeatures
from training.objective.losses import TEMPERATURE

FAR = -1e4
"""Logit of entries left out of a softmax. Their share is 0, without the NaN that infinities give in empty rows."""


def word_loss(
    patch_logits: Tensor, region_logits: Tensor, shares: Tensor, present: Tensor, mentioned: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of words against regions and patches; returns the loss and the share (B,P,C) of each word in a patch.

    patch_logits (B,P,C), region_logits (B,R,C): cosines over the temperature; shares (B,P,R): the part of a patch that
    each region covers, sum 1; present (B,R): visible regions; mentioned (B,C): the words in an image's captions.

    It has three terms: a region is one of the words mentioned for its image and none of the others; every mentioned
    word has a region (multiple-instance learning, a soft maximum over regions); a patch has the words of its regions.
    """
    words = region_logits.log_softmax(dim=2)
    among_mentioned = words.masked_fill(~mentioned[:, None], FAR)
    explained = -among_mentioned.logsumexp(dim=2)[present].mean()
    by_region = words.masked_fill(~present[:, :, None], FAR)
    best = (2 * by_region.detach()).softmax(dim=1)
    found = -(best * by_region).sum(dim=1)[mentioned].mean()
    with torch.no_grad():
        taken_for = shares @ among_mentioned.softmax(dim=2)
    local = -(taken_for * patch_logits.log_softmax(dim=2)).sum(dim=2).mean()
    return explained + found + local, taken_for


def attention_loss(cls_attention: Tensor, taken_for: Tensor, mentioned: Tensor) -> Tensor:
    """Loss that makes, for every mentioned word, the head that attends most to its patches attend to nothing else.

    cls_attention (B,M,P) logits; taken_for (B,P,C); mentioned (B,C).
    """
    looked_at = cls_attention.softmax(dim=2) @ taken_for  # (B,M,C): the share of a head's attention on a word
    return -looked_at.amax(dim=1)[mentioned].clamp_min(1e-4).log().mean()


def caption_loss(features: ImageFeatures, captions: Tensor, false_negative: Tensor) -> Tensor:
    """InfoNCE of captions (B,D) of unit length and the head that each image chooses for its own caption.

    Source: Talk2DINO, Eq. 4 and 5. false_negative (B,B) bool: pairs to leave out, where the image's (column's) captions
    mention everything that the caption (row) names.
    """
    patches = features.patch_tokens
    heads = functional.normalize(features.cls_attention.softmax(dim=2) @ patches, dim=2)
    chosen = torch.einsum("bd,bmd->bm", captions, heads).argmax(dim=1)
    rows = torch.arange(len(heads))
    logits = (captions @ heads[rows, chosen].t() / TEMPERATURE).masked_fill(false_negative, FAR)
    return (functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.t(), rows)) / 2
