"""Tracing of the frozen towers' operators in the forms that engines fuse, in float32 where it matters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class TracedOperators(TorchFunctionMode):
    """Rewrites three functions inside its block. It does not change results in float32.

    A linear layer converts its input to the type of its weights. Where those are float16 or bfloat16, residual stream,
    LayerNorm and softmax stay float32 by type promotion, as in automatic mixed precision. Attention logits are computed
    in float32 from scaled queries, the form that engines recognise to fuse attention. GELU halves its input first, the
    form that ONNX Runtime too recognises as one operator; the exporter's own halves the other factor.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function."""
        options = dict(kwargs or {})
        if func is functional.linear:
            return _linear(*args, **options)
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **options)
        if func is functional.gelu and options.get("approximate", "none") == "none":
            return _gelu(*args)
        return func(*args, **options)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(input.to(weight.dtype), weight, bias)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """(B,M,n,d) each -> (B,M,n,d); without dropout, since the tower is frozen."""
    logits = (query.float() * query.shape[-1] ** -0.5) @ key.float().transpose(-2, -1)
    if is_causal:
        attn_mask = causal_mask(query.shape[-2], query.device)
    if attn_mask is not None:
        logits = logits + attn_mask
    mixed: Tensor = logits.softmax(dim=-1).to(value.dtype) @ value
    return mixed


def _gelu(input: Tensor) -> Tensor:
    """The same float32 numbers as in PyTorch's decomposition: halving is exact."""
    return input * 0.5 * (1 + torch.erf(input / math.sqrt(2)))


def causal_mask(length: int, device: torch.device) -> Tensor:
    """(L,L) float32: 0 up to the diagonal, -inf above it."""
    position = torch.arange(length, device=device)
    return torch.where(position[None, :] > position[:, None], -torch.inf, 0.0)
