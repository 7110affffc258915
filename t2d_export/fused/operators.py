"""Standard operators of ONNX as typed calls over onnxscript's builder: `op.Add(x, 1.0)` adds a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import onnx_ir as ir
from onnxscript import GraphBuilder


class Operators(Protocol):
    """What the functions that build parts of a graph take."""

    @property
    def builder(self) -> GraphBuilder:
        """For subgraphs, inputs and outputs."""

    def __getattr__(self, operator: str) -> Callable[..., ir.Value]:
        """An operator by its name; numbers and lists among its inputs become constants of the type that is needed."""


def as_float(op: Operators, value: ir.Value) -> ir.Value:
    """A value as float32."""
    return op.Cast(value, to=ir.DataType.FLOAT)


def as_vector(op: Operators, scalar: ir.Value) -> ir.Value:
    """A scalar as a vector of one, to be a part of a shape."""
    return op.Reshape(scalar, [1])
