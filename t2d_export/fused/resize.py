"""Standard operators from an image of any size to the encoder's input, with the resized image as one window.

They compute the same as `t2d_runtime.image.windows` and `t2d_runtime.image.preprocess`. Sizes are int64 tensors [2],
(height, width). Engines may keep them in 32 bits, so no step exceeds 31 bits where a side of the image has at most
`t2d_runtime.fused.LONGEST_SIDE` pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from t2d_export.fused.operators import Operators, as_float
from t2d_runtime.bundle.manifest import Preprocessing, WindowSettings
from t2d_runtime.image.preprocess import RESIZE_BITS


def window_size(op: Operators, size: ir.Value, settings: WindowSettings) -> ir.Value:
    """The size at which an image is segmented: `t2d_runtime.image.windows.resized_size` in whole numbers.

    A side exactly between two pixels is rounded up. Floating point would round some down, as for 640 x 645.
    """
    short = op.ReduceMin(size, keepdims=0)
    long = op.ReduceMax(size, keepdims=0)
    too_long = op.Less(op.Mul(short, settings.max_long_side), op.Mul(long, settings.short_side))
    wanted = op.Where(too_long, settings.max_long_side, settings.short_side)
    given = op.Where(too_long, long, short)
    doubled = op.Add(op.Mul(size, op.Mul(wanted, 2)), given)
    return op.Max(op.Div(doubled, op.Mul(given, 2)), 1)


class Taps(NamedTuple):
    """Neighbours (int64) of each target pixel along one axis, and OpenCV's fixed-point weights as whole float32."""

    lower: ir.Value
    upper: ir.Value
    lower_weight: ir.Value
    upper_weight: ir.Value


def resized(op: Operators, image: ir.Value, source: ir.Value, target: ir.Value) -> ir.Value:
    """An image (1,H,W,3) uint8 at another size: the whole levels 0-255 (1,H',W',3) of `preprocess.resize`.

    OpenCV's whole numbers are float32 below 2^24 in every step, since some engines divide integers as float32 too.
    """
    rows = _taps(op, op.Gather(source, 0), op.Gather(target, 0), clamp=False)
    columns = _taps(op, op.Gather(source, 1), op.Gather(target, 1), clamp=True)

    def across(row: ir.Value) -> ir.Value:
        line = op.Gather(image, row, axis=1)
        left, right = (as_float(op, op.Gather(line, column, axis=2)) for column in (columns.lower, columns.upper))
        left_weight, right_weight = (
            op.Unsqueeze(weight, [1]) for weight in (columns.lower_weight, columns.upper_weight)
        )
        return _floor_of(op, op.Add(op.Mul(left, left_weight), op.Mul(right, right_weight)), 16)

    def down(row: ir.Value, weight: ir.Value) -> ir.Value:
        """across(row) * weight >> 16, with the product of 27 bits split."""
        value, factor = across(row), op.Unsqueeze(weight, [1, 2])
        high = _floor_of(op, value, 64)
        low = op.Sub(value, op.Mul(high, 64.0))
        return _floor_of(op, op.Add(op.Mul(high, factor), _floor_of(op, op.Mul(low, factor), 64)), 1024)

    both = op.Add(down(rows.lower, rows.lower_weight), down(rows.upper, rows.upper_weight))
    return _floor_of(op, op.Add(both, 2.0), 4)


def _floor_of(op: Operators, value: ir.Value, power_of_two: int) -> ir.Value:
    """Whole float32 numbers divided and rounded down, exactly."""
    return op.Floor(op.Mul(value, 1 / power_of_two))


def _taps(op: Operators, source: ir.Value, target: ir.Value, *, clamp: bool) -> Taps:
    """`preprocess._fixed_point_taps`, with the whole number and the fraction of its float32 position found exactly."""
    index = op.Range(0, target, 1)
    # (index + 1/2) source / target - 1/2 = (numerator - denominator) / denominator, the numerator above zero.
    denominator = op.Mul(target, 2)
    numerator = op.Add(op.Mul(op.Add(op.Mul(index, 2), 1), source), target)
    whole = op.Div(numerator, denominator)
    rest = op.Sub(numerator, op.Mul(whole, denominator))
    part = op.Div(as_float(op, rest), as_float(op, denominator))
    position = op.Add(as_float(op, op.Sub(whole, 1)), part)
    floor = op.Floor(position)
    fraction = op.Sub(position, floor)
    lower = op.Cast(floor, to=ir.DataType.INT64)
    last = op.Sub(source, 1)
    if clamp:
        outside = op.Or(op.Less(lower, 0), op.GreaterOrEqual(lower, last))
        fraction = op.Where(outside, 0.0, fraction)
    neighbours = (op.Max(op.Min(tap, last), 0) for tap in (lower, op.Add(lower, 1)))
    weights = (op.Round(op.Mul(share, float(1 << RESIZE_BITS))) for share in (op.Sub(1.0, fraction), fraction))
    return Taps(*neighbours, *weights)


def pixel_values(
    op: Operators, planes: ir.Value, size: ir.Value, input_size: tuple[int, int], preprocessing: Preprocessing
) -> ir.Value:
    """Levels (1,3,H',W') float32 -> the encoder's input, as in `preprocess.to_pixel_values`.

    This takes two products with weights computed here, since engines' Resize has different antialiasing, or none.
    """
    rows, columns = (_antialias_matrix(op, op.Gather(size, axis), target) for axis, target in enumerate(input_size))
    small = op.MatMul(op.MatMul(rows, planes), op.Transpose(columns, perm=[1, 0]))
    mean, std = np.array(preprocessing.mean, np.float64), np.array(preprocessing.std, np.float64)
    scale, shift = (op.Unsqueeze(row.tolist(), [1, 2]) for row in (1 / (255 * std), -mean / std))
    return op.Add(op.Mul(small, scale), shift)


def _antialias_matrix(op: Operators, source: ir.Value, target: int) -> ir.Value:
    """Weights (target, source) of `preprocess._antialias_matrix`."""
    scale = op.Div(as_float(op, source), float(target))
    reach = op.Max(scale, 1.0)
    centres = op.Mul(op.Add(as_float(op, op.Range(0, target, 1)), 0.5), scale)
    distance = op.Add(op.Sub(as_float(op, op.Range(0, source, 1)), op.Unsqueeze(centres, [1])), 0.5)
    weights = op.Max(op.Sub(1.0, op.Abs(op.Div(distance, reach))), 0.0)
    return op.Div(weights, op.ReduceSum(weights, [1], keepdims=1))
