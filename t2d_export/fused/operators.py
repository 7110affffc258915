"""Standard operators of ONNX as typed calls over onnxscript's builder: `op.Add(x, 1.0)` adds a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import onnx_ir as ir
from onnxscript import GraphBuilder


class Operators(Protocol):
    """The interface that functions use to build parts of a graph."""

    @property
    def builder(self) -> GraphBuilder:
        """The builder, for subgraphs, inputs and outputs."""

    def __getattr__(self, operator: str) -> Callable[..., ir.Value]:
        """An operator by its name. Numbers and lists among its inputs become constants of the needed type."""


def as_float(op: Operators, value: ir.Value) -> ir.Value:
    """A value as float32."""
    return op.Cast(value, to=ir.DataType.FLOAT)


def as_vector(op: Operators, scalar: ir.Value) -> ir.Value:
    """A scalar as a vector of length one, for use in a shape."""
    return op.Reshape(scalar, [1])
