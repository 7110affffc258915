"""Layers of an engine of TensorRT for RTX, read from its plan, where they stand as text: what one kernel computes.

The plan is read as it lies in the file, so no GPU and no driver are needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TEXT = re.compile(rb"[\x20-\x7e]{8,}")
TENSOR = re.compile(r"^\s*tensor=\{.*?\bdims=\{([^}]*)\}.*?\btype=(\w+)")
ATTENTION = re.compile(r"^\s*function=\{ name=_gemm_mha")


@dataclass(frozen=True)
class LayerReport:
    """Kernels and intermediate tensors of an engine."""

    fused_attentions: int
    """Kernels that compute a whole attention."""
    tensors: tuple[tuple[tuple[int, ...], str], ...]
    """(fixed sizes, type) of every tensor that goes through the device's memory."""

    def squares(self, tokens: int, spare: int = 16) -> int:
        """Number of tensors with tokens x tokens numbers, or a few more, as kernels pad them."""
        return sum(sum(tokens <= size < tokens + spare for size in sizes) >= 2 for sizes, _ in self.tensors)


def read_report(plan: bytes) -> LayerReport:
    """The report of a serialised engine."""
    lines = [text.decode("ascii") for text in TEXT.findall(plan)]
    tensors = [
        (tuple(int(size) for size in found[1].split() if size.isdigit()), found[2])
        for line in lines
        if (found := TENSOR.match(line)) is not None
    ]
    return LayerReport(sum(ATTENTION.match(line) is not None for line in lines), tuple(tensors))
