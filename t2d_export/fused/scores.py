"""Standard operators from the encoder's outputs to the scores of one window.

P patches, N classes, M heads, D width. The formulas are those of `similarity`, `cleaning` and `upsample` in
`t2d_runtime.masks`.
"""

from __future__ import annotations

import onnx_ir as ir

from t2d_export.fused.operators import Operators, as_float
from t2d_runtime.masks.similarity import NORM_EPS


def scores(op: Operators, patch_tokens: ir.Value, text_embeds: ir.Value) -> ir.Value:
    """Sigmoids (1,N,P) of the cosines of patch_tokens (1,P,D) and text_embeds (N,D) of norm 1."""
    products = op.MatMul(text_embeds, op.Transpose(patch_tokens, perm=[0, 2, 1]))
    norms = op.ReduceL2(patch_tokens, [2], keepdims=0)
    return op.Sigmoid(op.Div(products, op.Unsqueeze(op.Max(norms, NORM_EPS), [1])))


def cleaned(
    op: Operators,
    scores: ir.Value,
    patch_tokens: ir.Value,
    cls_attention: ir.Value,
    text_embeds: ir.Value,
    weight: ir.Value,
) -> ir.Value:
    """Official cleaning of scores (1,N,P) with a weight (lambda, scalar). At weight 0 they stay as given.

    cls_attention (1,M,P) holds the logits of the heads.
    """
    patches = as_float(op, op.Shape(patch_tokens, start=1, end=2))
    embeds = op.Div(op.MatMul(cls_attention, patch_tokens), patches)
    embeds = op.Div(embeds, op.Max(op.ReduceL2(embeds, [2], keepdims=1), NORM_EPS))
    relevance = op.Softmax(op.MatMul(text_embeds, op.Transpose(embeds, perm=[0, 2, 1])), axis=2)
    attention = op.Softmax(op.MatMul(relevance, cls_attention), axis=2)
    lowest, highest = op.ReduceMin(attention, keepdims=0), op.ReduceMax(attention, keepdims=0)
    # The released code divides by max(highest, highest - lowest): `highest`, since a softmax is positive.
    attention = op.Div(op.Sub(attention, lowest), highest)
    least, most = op.ReduceMin(scores, keepdims=0), op.ReduceMax(scores, keepdims=0)
    attention = op.Add(op.Mul(attention, op.Sub(most, least)), least)
    return op.Div(op.Add(scores, op.Mul(weight, attention)), op.Add(weight, 1.0))


def planes(op: Operators, scores: ir.Value, grid_size: tuple[int, int], size: ir.Value) -> ir.Value:
    """Scores (1,N,P) of a grid of (h, w) patches -> planes (N,H',W') of `size`, int64 [2], with corners aligned."""
    grid = op.Reshape(scores, [1, -1, *grid_size])
    sizes = op.Concat(op.Shape(grid, start=0, end=2), size, axis=0)
    large = op.Resize(grid, None, None, sizes, mode="linear", coordinate_transformation_mode="align_corners")
    return op.Squeeze(large, [0])
