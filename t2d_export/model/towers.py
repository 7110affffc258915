"""The two frozen towers in plain PyTorch: timm's vision transformer and open_clip's text transformer."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import torch
from open_clip.transformer import QuickGELU, TextTransformer
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from t2d_runtime.errors import OptionError


class ImageFeatures(NamedTuple):
    """Outputs of a backbone; P patches row by row, width D, M heads."""

    patch_tokens: Tensor
    """(B,P,D) after the final LayerNorm."""
    cls_attention: Tensor
    """(B,M,P) logits before softmax: (q_cls / sqrt(d)) · k_p of the last block, CLS and registers left out."""
    cls_token: Tensor
    """(B,D) after the final LayerNorm."""


class Backbone(nn.Module):
    """A frozen timm `VisionTransformer` with position embeddings for `input_size`."""

    def __init__(
        self,
        vit: VisionTransformer | Eva,
        *,
        name: str,
        input_size: tuple[int, int],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.vit: Any = vit  # timm's annotations do not distinguish its modules
        self.name = name
        self.input_size = input_size
        self.mean = mean
        self.std = std
        self.embed_dim: int = vit.embed_dim
        self.num_heads: int = cast("Any", vit).blocks[-1].attn.num_heads
        self.patch_size: int = vit.patch_embed.patch_size[0]
        self.num_prefix_tokens: int = vit.num_prefix_tokens

    @property
    def grid_size(self) -> tuple[int, int]:
        """Patches (h, w) of the input size."""
        return self.input_size[0] // self.patch_size, self.input_size[1] // self.patch_size

    def forward(self, pixel_values: Tensor) -> ImageFeatures:
        """Normalised pixels (B,3,H,W) float32 at `input_size` -> features."""
        tokens = self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(pixel_values)))
        for block in self.vit.blocks[:-1]:
            tokens = block(tokens)
        tokens, cls_attention = self._last_block(tokens)
        return self._features(tokens, cls_attention)

    def _last_block(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """timm's `Block` and `Attention`, repeated here to keep the CLS row of the logits."""
        block = self.vit.blocks[-1]
        q, k, v = _split_heads(block.attn.qkv(block.norm1(tokens)), self.num_heads)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        tokens = tokens + block.ls1(block.attn.proj(_join_heads(mixed)))
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        return tokens, self._cls_logits(q, k)

    def _cls_logits(self, q: Tensor, k: Tensor) -> Tensor:
        """Queries and keys (B,M,1+..+P,d) of any type -> (B,M,P) float32."""
        cls_query = q[:, :, :1].float() * q.shape[-1] ** -0.5
        logits: Tensor = cls_query @ k[:, :, self.num_prefix_tokens :].float().transpose(-2, -1)
        return logits.squeeze(2)

    def _features(self, tokens: Tensor, cls_attention: Tensor) -> ImageFeatures:
        tokens = self.vit.norm(tokens)
        return ImageFeatures(tokens[:, self.num_prefix_tokens :], cls_attention, tokens[:, 0])


class RotaryBackbone(Backbone):
    """DINOv3 as timm's `Eva`. The attention logits come from queries and keys *before* their rotation, as in the
    released Talk2DINO code, which trained the published DINOv3 projections.
    """

    def forward(self, pixel_values: Tensor) -> ImageFeatures:
        """Normalised pixels (B,3,H,W) float32 at `input_size` -> features."""
        tokens, rotation = self.vit._pos_embed(self.vit.patch_embed(pixel_values))
        tokens = self.vit.norm_pre(tokens)
        for block in self.vit.blocks[:-1]:
            tokens = block(tokens, rope=rotation)
        block = self.vit.blocks[-1]
        q, k, v = _split_heads(_biased_qkv(block.attn, block.norm1(tokens)), self.num_heads)
        mixed = functional.scaled_dot_product_attention(self._rotate(q, rotation), self._rotate(k, rotation), v)
        tokens = tokens + block.gamma_1 * block.attn.proj(_join_heads(mixed))
        tokens = tokens + block.gamma_2 * block.mlp(block.norm2(tokens))
        return self._features(tokens, self._cls_logits(q, k))

    def _rotate(self, heads: Tensor, rotation: Tensor) -> Tensor:
        """Rotate the patches' queries or keys (B,M,tokens,d). CLS and registers have no position, so they stay."""
        prefix, patches = heads[:, :, : self.num_prefix_tokens], heads[:, :, self.num_prefix_tokens :]
        half: bool = self.vit.blocks[-1].attn.rotate_half
        rotated: Tensor = apply_rot_embed_cat(patches, rotation, half=half)
        return torch.cat([prefix, rotated], dim=2)


def _biased_qkv(attention: Any, tokens: Tensor) -> Tensor:
    """timm's `EvaAttention`, (B,n,D) -> (B,n,3D); DINOv3's keys have no bias."""
    bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    return functional.linear(tokens, attention.qkv.weight, bias)


def _split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B,n,3D) -> queries, keys, values, each (B,M,n,d)."""
    batch, length, width = qkv.shape
    q, k, v = qkv.reshape(batch, length, 3, num_heads, width // 3 // num_heads).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _join_heads(mixed: Tensor) -> Tensor:
    """(B,M,n,d) -> (B,n,D)."""
    return mixed.transpose(1, 2).flatten(2)


class TextTower(nn.Module):
    """CLIP's text tower: token ids to the raw, un-normalised feature at the end token."""

    def __init__(self, transformer: TextTransformer) -> None:
        super().__init__()
        self.transformer: Any = transformer
        self.context_length: int = transformer.context_length
        self.width: int = transformer.width
        self.heads: int = transformer.heads
        self.output_dim: int = transformer.output_dim

    @property
    def activation(self) -> Literal["quick_gelu", "gelu"]:
        """The activation of the feed-forwards: OpenAI's QuickGELU, or GELU."""
        return "quick_gelu" if isinstance(self.transformer.transformer.resblocks[-1].mlp.gelu, QuickGELU) else "gelu"

    def forward(self, input_ids: Tensor) -> Tensor:
        """(n,L) int64, an end token in every row -> (n,output_dim)."""
        hidden = self.token_features(input_ids)
        return hidden[torch.arange(len(hidden), device=hidden.device), end_positions(input_ids)]

    def token_features(self, input_ids: Tensor) -> Tensor:
        """Features of all tokens in the space of the output: (n,L) -> (n,L,output_dim)."""
        text = self.transformer
        features: Tensor = text.ln_final(self.hidden_states(input_ids)) @ text.text_projection
        return features

    def hidden_states(self, input_ids: Tensor, *, without_last_block: bool = False) -> Tensor:
        """Residual stream after the blocks: (n,L) -> (n,L,width).

        Raises OptionError where L exceeds the context.
        """
        length = input_ids.shape[1]
        if length > self.context_length:
            raise OptionError(f"prompts have {length} tokens, the text tower takes {self.context_length}")
        text = self.transformer
        hidden: Tensor = text.token_embedding(input_ids) + text.positional_embedding[:length]
        causal = torch.full((length, length), -torch.inf, device=hidden.device).triu(1)
        blocks = text.transformer.resblocks
        for block in blocks[:-1] if without_last_block else blocks:
            hidden = block(hidden, attn_mask=causal)
        return hidden


def end_positions(input_ids: Tensor) -> Tensor:
    """Position (n,) of the first end token, the largest id of the vocabulary, in each row of (n,L)."""
    return input_ids.argmax(dim=-1)
