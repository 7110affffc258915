"""PAMR as standard operators, the same as `t2d_runtime.masks.pamr.refine`.

The affinity is computed once, in 48 planes. A refinement step is 48 shifted multiply-adds of all classes' planes, so
that 48 times as many planes never exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from t2d_export.fused.operators import Operators
from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.masks.pamr.kernels import NEIGHBOURS, STD_EPS, STD_WEIGHT


def refined(
    op: Operators, image: ir.Value, planes: ir.Value, size: ir.Value, iterations: ir.Value, settings: PamrSettings
) -> ir.Value:
    """Planes (N,H,W) after `iterations` (int64 scalar). At 0 they stay as given and no affinity is computed.

    `image` (3,H,W) holds levels 0-255 as float32; `size` int64 [2] is (H, W).
    """

    def spread(op: Operators) -> ir.Value:
        return _spread(op, planes, _affinity(op, image, size, settings), size, iterations, settings)

    def leave(op: Operators) -> ir.Value:
        return op.Identity(planes)

    branches = {
        f"{name}_branch": op.builder.subgraph(branch, [], [_plane_value(f"{name}_planes")], name=name)
        for name, branch in (("then", spread), ("else", leave))
    }
    return op.If(op.Greater(iterations, 0), **branches)


def _affinity(op: Operators, image: ir.Value, size: ir.Value, settings: PamrSettings) -> list[ir.Value]:
    """Weights (H,W) of each pixel's neighbours, in their order, adding up to one."""
    differences = [op.Sub(neighbour, image) for neighbour in _neighbours(op, image, size, settings)]
    total, squares = differences[0], op.Mul(differences[0], differences[0])
    for difference in differences[1:]:
        total, squares = op.Add(total, difference), op.Add(squares, op.Mul(difference, difference))
    # The samples include the pixel itself once per dilation, with differences of zero.
    samples = float(9 * len(settings.dilations))
    variance = op.Div(op.Sub(squares, op.Div(op.Mul(total, total), samples)), samples - 1)
    scale = op.Add(op.Mul(op.Sqrt(op.Max(variance, 0.0)), STD_WEIGHT), STD_EPS)
    # One logit is above -32 (`t2d_runtime.masks.pamr.numpy_kernels`), so there is no need to subtract the greatest.
    weights = [
        op.Exp(op.Neg(op.ReduceMean(op.Div(op.Abs(difference), scale), [0], keepdims=0))) for difference in differences
    ]
    sum_of_weights = weights[0]
    for weight in weights[1:]:
        sum_of_weights = op.Add(sum_of_weights, weight)
    return [op.Div(weight, sum_of_weights) for weight in weights]


def _spread(
    op: Operators,
    planes: ir.Value,
    weights: Sequence[ir.Value],
    size: ir.Value,
    iterations: ir.Value,
    settings: PamrSettings,
) -> ir.Value:
    """A loop that replaces every value by the weighted mean of its neighbours' values."""

    def step(op: Operators, _: ir.Value, go_on: ir.Value, before: ir.Value) -> tuple[ir.Value, ir.Value]:
        products = (
            op.Mul(neighbour, weight)
            for neighbour, weight in zip(_neighbours(op, before, size, settings), weights, strict=True)
        )
        after = next(products)
        for product in products:
            after = op.Add(after, product)
        return op.Identity(go_on), after

    body = op.builder.subgraph(
        step,
        [
            ir.val("iteration", ir.DataType.INT64, []),
            ir.val("go_on", ir.DataType.BOOL, []),
            _plane_value("planes_before"),
        ],
        [ir.val("still", ir.DataType.BOOL, []), _plane_value("planes_after")],
        name="pamr_step",
    )
    return op.Loop(iterations, True, planes, body=body)


def _neighbours(op: Operators, planes: ir.Value, size: ir.Value, settings: PamrSettings) -> Iterator[ir.Value]:
    """Planes (n,H,W) shifted to each neighbour, with the border's pixels repeated outwards."""
    border = max(settings.dilations)
    padded = op.Pad(planes, [0, border, border, 0, border, border], None, mode="edge")
    for dilation in settings.dilations:
        for down, right in NEIGHBOURS:
            start = [border + dilation * down, border + dilation * right]
            yield op.Slice(padded, start, op.Add(size, start), [1, 2])


def _plane_value(name: str) -> ir.Value:
    return ir.val(name, ir.DataType.FLOAT, ["classes", "window_height", "window_width"])
