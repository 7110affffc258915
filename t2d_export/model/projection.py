"""The projections that bring CLIP text and vision features into one space, in every variant of the paper.

Parameters carry the names of the authors' released files, so a module's state dict is such a file. Variants:

==============  ======================================  ===========================================
class           text side                               vision side
==============  ======================================  ===========================================
TextProjection  W2 tanh(W1 t + b1) + b2, or one affine  untouched
                map; also for averaged text tokens
VisualProjection  untouched                             D -> hidden -> text width, or one affine map
BothProjection  as TextProjection                       W4 tanh(W3 v + b3) + b4
LastBlockProjection  CLIP's last block, then as         untouched
                TextProjection
==============  ======================================  ===========================================

Source: Talk2DINO, Eq. 1 and the ablation of the projection; `src/model.py` of the released code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from t2d_runtime.errors import WeightsError


class Projection(nn.Module):
    """Two maps into a shared space of width `shared_dim`; cosines are taken there.

    A projection does not normalise its vectors. The caller does so, after any averaging.
    """

    def __init__(self, text_dim: int, embed_dim: int, shared_dim: int) -> None:
        super().__init__()
        self.text_dim = text_dim
        self.embed_dim = embed_dim
        self.shared_dim = shared_dim

    def project_text(self, text: Tensor) -> Tensor:
        """(..., text_dim) -> (..., shared_dim)."""
        return text

    def project_visual(self, visual: Tensor) -> Tensor:
        """(..., embed_dim) -> (..., shared_dim)."""
        return visual


class TextProjection(Projection):
    """W2 tanh(W1 t + b1) + b2, from CLIP's text space to the backbone's (Talk2DINO, Eq. 1).

    `hidden_layers` is the number of maps after the first, each after a tanh: 1 as published, 0 for the ablation's
    affine map.
    """

    def __init__(self, text_dim: int, embed_dim: int, hidden_layers: int = 1) -> None:
        super().__init__(text_dim, embed_dim, shared_dim=embed_dim)
        self.linear_layer = nn.Linear(text_dim, embed_dim)
        self.hidden_layers = nn.ModuleList(nn.Linear(embed_dim, embed_dim) for _ in range(hidden_layers))

    def project_text(self, text: Tensor) -> Tensor:
        """(..., text_dim) -> (..., embed_dim)."""
        return _chain(text, self.linear_layer, self.hidden_layers)


class VisualProjection(Projection):
    """W2 tanh(W1 v + b1) + b2, from the backbone's space to CLIP's; without `hidden_dim`, W v + b."""

    def __init__(self, text_dim: int, embed_dim: int, hidden_dim: int | None = None) -> None:
        super().__init__(text_dim, embed_dim, shared_dim=text_dim)
        self.linear_layer = nn.Linear(embed_dim, hidden_dim or text_dim)
        self.linear_layer2 = nn.Linear(hidden_dim, text_dim) if hidden_dim else None

    def project_visual(self, visual: Tensor) -> Tensor:
        """(..., embed_dim) -> (..., text_dim)."""
        return _chain(visual, self.linear_layer, [self.linear_layer2] if self.linear_layer2 else [])


class BothProjection(TextProjection):
    """Projections on both sides, into a space as wide as the backbone's."""

    def __init__(self, text_dim: int, embed_dim: int, hidden_layers: int = 1) -> None:
        super().__init__(text_dim, embed_dim, hidden_layers)
        self.visual_linear = nn.Linear(embed_dim, embed_dim)
        self.visual_hidden_layers = nn.ModuleList(nn.Linear(embed_dim, embed_dim) for _ in range(hidden_layers))

    def project_visual(self, visual: Tensor) -> Tensor:
        """(..., embed_dim) -> (..., embed_dim)."""
        return _chain(visual, self.visual_linear, self.visual_hidden_layers)


class LastBlockProjection(Projection):
    """CLIP's last text block, final LayerNorm and text projection, trained, then a TextProjection.

    Its input is the hidden states after CLIP's last block but one. Several prompts of one class are averaged
    *after* the projection, unlike in every other variant (`build_text_embedding` of the released code).
    """

    def __init__(
        self,
        text_dim: int,
        embed_dim: int,
        hidden_layers: int = 1,
        *,
        width: int,
        heads: int,
        quick_gelu: bool = True,
    ) -> None:
        super().__init__(text_dim, embed_dim, shared_dim=embed_dim)
        self.last_resblock = TextBlock(width, heads, quick_gelu=quick_gelu)
        self.last_ln = nn.LayerNorm(width)
        self.clip_text_proj = nn.Parameter(torch.zeros(width, text_dim))
        self.projection_layer = TextProjection(text_dim, embed_dim, hidden_layers)

    def end_feature(self, hidden: Tensor, end_index: Tensor) -> Tensor:
        """Hidden states (B, L, width), end tokens' positions (B,) int64 -> text features (B, text_dim)."""
        hidden = self.last_ln(self.last_resblock(hidden))
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[rows, end_index] @ self.clip_text_proj

    def project_text(self, text: Tensor) -> Tensor:
        """Features of `end_feature` (..., text_dim) -> (..., embed_dim)."""
        return self.projection_layer.project_text(text)


class TextBlock(nn.Module):
    """One pre-norm residual block of CLIP's text transformer with causal attention, under CLIP's names."""

    def __init__(self, width: int, heads: int, *, quick_gelu: bool = True) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = _SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.quick_gelu = quick_gelu

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        hidden = hidden + self.attn(self.ln_1(hidden))
        inner = self.mlp["c_fc"](self.ln_2(hidden))
        inner = inner * torch.sigmoid(1.702 * inner) if self.quick_gelu else functional.gelu(inner)
        output: Tensor = hidden + self.mlp["c_proj"](inner)
        return output


class _SelfAttention(nn.Module):
    """Causal attention under the names of torch's MultiheadAttention, as in CLIP's files."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        qkv = functional.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return output


def projection_from_state_dict(
    state_dict: Mapping[str, Tensor],
    *,
    text_dim: int,
    embed_dim: int,
    text_heads: int | None = None,
    quick_gelu: bool = True,
) -> Projection:
    """The projection that a state dict in the authors' layout describes, float32 on the CPU.

    The keys tell the variant. Where a text and a visual projection have the same keys, the shapes tell it; where the
    two widths are equal as well, it is a text projection. Older files name the second text map `linear_layer2`.
    `text_heads` and `quick_gelu` describe the text tower whose last block was trained; heads are 64 wide, as in every
    CLIP, unless given.
    Raises WeightsError, which names missing or surplus keys, other widths, or values that are not finite.
    """
    weights = _checked_tensors(state_dict)
    if any(key.startswith(("last_resblock.", "last_ln.", "projection_layer.")) for key in weights):
        projection = _empty_last_block(weights, text_dim, embed_dim, text_heads, quick_gelu)
    elif any(key.startswith("visual_") for key in weights):
        projection = _on_meta(lambda: BothProjection(text_dim, embed_dim, _count(weights, "hidden_layers.")))
    elif _is_visual(weights, text_dim, embed_dim):
        hidden_dim = weights["linear_layer.weight"].shape[0] if "linear_layer2.weight" in weights else None
        projection = _on_meta(lambda: VisualProjection(text_dim, embed_dim, hidden_dim))
    else:
        weights = {key.replace("linear_layer2.", "hidden_layers.0."): value for key, value in weights.items()}
        projection = _on_meta(lambda: TextProjection(text_dim, embed_dim, _count(weights, "hidden_layers.")))
    _check_fit(projection, weights)
    projection.load_state_dict(weights, assign=True)
    return projection


def state_dict_in_authors_layout(projection: Projection) -> dict[str, Tensor]:
    """The weights under the names of the authors' files: float32, contiguous, on the CPU."""
    state: dict[str, Tensor] = projection.state_dict()
    return {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in state.items()}


def _chain(values: Tensor, first: nn.Module, following: Iterable[nn.Module]) -> Tensor:
    values = first(values)
    for layer in following:
        values = layer(torch.tanh(values))
    return values


def _checked_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for key, value in state_dict.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise WeightsError(f"projection: expected a tensor of floats under {key!r}, got {_kind(value)}")
        weights[key] = value.detach().to("cpu", torch.float32, copy=True)
        if not torch.isfinite(weights[key]).all():
            raise WeightsError(f"projection: {key!r} holds values that are not finite; use an intact file")
    return weights


def _kind(value: object) -> str:
    return f"one of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _empty_last_block(
    weights: Mapping[str, Tensor], text_dim: int, embed_dim: int, text_heads: int | None, quick_gelu: bool
) -> Projection:
    if "last_ln.weight" not in weights:
        raise WeightsError("projection: expected last_ln.weight beside a trained last text block, got none")
    width = weights["last_ln.weight"].shape[0]
    return _on_meta(
        lambda: LastBlockProjection(
            text_dim,
            embed_dim,
            _count(weights, "projection_layer.hidden_layers."),
            width=width,
            heads=text_heads or max(1, width // 64),
            quick_gelu=quick_gelu,
        )
    )


def _on_meta(build: Callable[[], Projection]) -> Projection:
    """Build without memory and without drawing random numbers, since every weight is loaded next."""
    with torch.device("meta"):
        return build()


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    return sum(key.startswith(prefix) and key.endswith(".weight") for key in weights)


def _is_visual(weights: Mapping[str, Tensor], text_dim: int, embed_dim: int) -> bool:
    weight = weights.get("linear_layer.weight")
    if weight is None or weight.shape[1:] != (embed_dim,) or weight.shape == (embed_dim, text_dim):
        return False
    return "linear_layer2.weight" in weights or weight.shape[0] == text_dim


def _check_fit(projection: Projection, weights: Mapping[str, Tensor]) -> None:
    expected = projection.state_dict()
    missing, surplus = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or surplus:
        raise WeightsError(
            f"{type(projection).__name__}: missing keys {missing}, surplus keys {surplus}; "
            "expected the layout of a released Talk2DINO projection"
        )
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            raise WeightsError(
                f"projection: {key} is {tuple(value.shape)}, expected {tuple(expected[key].shape)} for text "
                f"width {projection.text_dim} and backbone width {projection.embed_dim}: it was trained for "
                "another backbone; name that backbone or give its own projection"
            )
