"""The tensor-only modules that are traced, and the names of their inputs and outputs.

pixel_values (B,3,H,W) float32  -> patch_tokens (B,P,D), cls_attention (B,M,P), cls_token (B,D)
input_ids    (N,T,L)   int64    -> text_embeds (N,D)
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from t2d_export.encoders.tracing import causal_mask
from t2d_export.model.projection import LastBlockProjection
from t2d_export.model.reference import NORM_EPSILON, Reference, mean_of_words
from t2d_export.model.towers import end_positions


class ImageEncoderGraph(nn.Module):
    """The backbone, followed by the projection's vision side where there is one."""

    OUTPUTS: ClassVar = ("patch_tokens", "cls_attention", "cls_token")

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.backbone = reference.backbone
        self.projection = reference.projection
        self.input_size = reference.backbone.input_size

    def tower(self) -> nn.Module:
        """The frozen part."""
        return self.backbone

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B,3,H,W) normalised pixels at the input size -> patch_tokens, cls_attention, cls_token."""
        features = self.backbone(pixel_values)
        return self.projection.project_visual(features.patch_tokens), features.cls_attention, features.cls_token


class TextEncoderGraph(nn.Module):
    """CLIP's text tower with template mean, projection and L2: token ids to class embeddings.

    Its own loop over the tower's blocks allows any number of tokens. The mask is causal, so nothing after a prompt's
    end token changes its feature, and a batch may be cut to its longest prompt.
    """

    OUTPUTS: ClassVar = ("text_embeds",)

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.text = reference.text_tower.transformer
        self.projection = reference.projection
        self.average_tokens = reference.average_tokens
        self.context_length = reference.text_tower.context_length

    def tower(self) -> nn.Module:
        """The frozen part."""
        text: nn.Module = self.text
        return text

    def forward(self, input_ids: Tensor) -> Tensor:
        """(N,T,L) int64, an end token in every row -> (N,D) of norm 1."""
        N, T, L = input_ids.shape
        ids = input_ids.reshape(N * T, L)
        hidden = self.text.token_embedding(ids) + self.text.positional_embedding[:L]
        mask = causal_mask(L, hidden.device)
        blocks = self.text.transformer.resblocks
        if isinstance(self.projection, LastBlockProjection):
            for block in blocks[:-1]:
                hidden = _block(block, hidden, mask)
            features = self.projection.end_feature(hidden, end_positions(ids))
            embeds = self.projection.project_text(features).reshape(N, T, -1).mean(dim=1)
        else:
            for block in blocks:
                hidden = _block(block, hidden, mask)
            features = self._features(self.text.ln_final(hidden), ids)
            embeds = self.projection.project_text(features.reshape(N, T, -1).mean(dim=1))
        return functional.normalize(embeds, dim=-1, eps=NORM_EPSILON)

    def _features(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Tokens after the last LayerNorm (n,L,C) -> one feature for each prompt (n,text width)."""
        if self.average_tokens:
            return mean_of_words(hidden @ self.text.text_projection, ids)
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        features: Tensor = hidden[rows, end_positions(ids)] @ self.text.text_projection
        return features


Graph = TypeVar("Graph", ImageEncoderGraph, TextEncoderGraph)


def in_half(graph: Graph, dtype: torch.dtype) -> Graph:
    """A copy whose towers have float16 or bfloat16 linear layers and word embeddings; the rest is shared.

    The projection stays float32, since cosines follow it. So does the patch embedding: its input is float32, and ONNX
    has no bfloat16 convolution before opset 22.
    """
    shared = {id(tensor): tensor for tensor in graph.state_dict(keep_vars=True).values()}
    copied = copy.deepcopy(graph, shared)
    for module in copied.tower().modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.MultiheadAttention):
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    return copied


def _block(block: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """One pre-norm residual block with masked attention: (n,L,C) -> (n,L,C)."""
    attention = block.attn
    n, L, C = hidden.shape
    heads = attention.num_heads
    qkv = functional.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = (part.reshape(n, L, heads, C // heads).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    hidden = hidden + attention.out_proj(mixed.transpose(1, 2).reshape(n, L, C))
    output: Tensor = hidden + block.mlp(block.ln_2(hidden))
    return output
