"""Standard operators from planes of scores at the window's size to labels at the image's size.

They work in bands of rows of about `BAND_SCORES` scores, so that N planes of the image's own size never exist.
"""

from __future__ import annotations

import onnx_ir as ir

from t2d_export.fused.operators import Operators, as_float, as_vector

BAND_SCORES = 1 << 21
"""Scores of a band of rows: 8 MiB. A few bands are in memory at once."""


def labels(op: Operators, planes: ir.Value, source: ir.Value, target: ir.Value, thresholds: ir.Value) -> ir.Value:
    """Label map (H,W) int32 of planes (N,H',W') of size `source`, resized to size `target`; sizes are int64 [2].

    0 where no score exceeds its threshold (N,), else 1 + the lowest of the classes that exceed theirs by most.
    """
    # Where all thresholds are equal, the offsets are zeros, and scores are compared as they are.
    least = op.ReduceMin(thresholds, keepdims=0)
    offsets = op.Unsqueeze(op.Sub(thresholds, least), [1, 2])
    height, width = op.Gather(target, 0), op.Gather(target, 1)
    classes = op.Gather(op.Shape(planes), 0)
    rows = op.Max(op.Div(BAND_SCORES, op.Mul(classes, width)), 1)
    rows = op.Min(rows, height)
    lower, upper, weight = _taps(op, op.Gather(source, 0), height)
    first_rows = op.Range(0, rows, 1)
    last = op.Sub(height, 1)
    columns = op.Concat([1], as_vector(op, classes), as_vector(op, rows), as_vector(op, width), axis=0)

    def band(op: Operators, index: ir.Value, go_on: ir.Value) -> tuple[ir.Value, ir.Value]:
        chosen = op.Min(op.Add(first_rows, op.Mul(index, rows)), last)
        above, below = (op.Gather(planes, op.Gather(tap, chosen), axis=1) for tap in (lower, upper))
        share = op.Unsqueeze(op.Gather(weight, chosen), [1])
        tall = op.Sub(op.Add(op.Mul(above, op.Sub(1.0, share)), op.Mul(below, share)), offsets)
        wide = op.Resize(
            op.Unsqueeze(tall, [0]), None, None, columns, mode="linear", coordinate_transformation_mode="half_pixel"
        )
        wide = op.Squeeze(wide, [0])
        best = op.Add(op.ArgMax(wide, axis=0, keepdims=0), 1)
        shown = op.Greater(op.ReduceMax(wide, [0], keepdims=0), least)
        return op.Identity(go_on), op.Cast(op.Where(shown, best, 0), to=ir.DataType.INT32)

    body = op.builder.subgraph(
        band,
        [ir.val("band", ir.DataType.INT64, []), ir.val("go_on", ir.DataType.BOOL, [])],
        [ir.val("still", ir.DataType.BOOL, []), ir.val("band_labels", ir.DataType.INT32, ["rows", "width"])],
        name="band",
    )
    bands = op.Loop(op.Div(op.Add(height, op.Sub(rows, 1)), rows), True, body=body)
    stacked = op.Reshape(bands, op.Concat([-1], as_vector(op, width), axis=0))
    return op.Slice(stacked, [0], as_vector(op, height), [0])


def _taps(op: Operators, source: ir.Value, target: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """`masks.upsample.linear_taps` without aligned corners: both neighbours, int64, and the upper one's weight."""
    index = as_float(op, op.Range(0, target, 1))
    scale = op.Div(as_float(op, source), as_float(op, target))
    position = op.Max(op.Sub(op.Mul(op.Add(index, 0.5), scale), 0.5), 0.0)
    last = op.Sub(source, 1)
    lower = op.Min(op.Cast(position, to=ir.DataType.INT64), last)
    weight = op.Sub(position, as_float(op, lower))
    return lower, op.Min(op.Add(lower, 1), last), op.Clip(weight, 0.0, 1.0)
