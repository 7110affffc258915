"""Encodes images and captions to the stored vectors: head embeddings, CLS, text features.

Source: Talk2DINO, Sec. 3.2; `dino_extraction_v2.py` and `text_features_extraction.py` of the released code.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2d_export.bundle.tokenizer import write_tokenizer
from t2d_export.model.reference import Reference, load_reference, mean_of_words
from t2d_export.model.towers import Backbone, ImageFeatures, TextTower, end_positions
from t2d_export.weights.sources import RANDOM
from t2d_export.weights.text_facts import Activation
from t2d_runtime.words.text import END_TOKEN, Tokenizer, token_batches
from training.config import TokenArray


class ImageVectors(NamedTuple):
    """heads (B,M,D), average (B,D), cls (B,D), float32."""

    heads: Tensor
    average: Tensor
    cls: Tensor


def image_vectors(features: ImageFeatures) -> ImageVectors:
    """Head embeddings v_m = (1/P) sum_p softmax_p(l_m)_p f_p; the same with the heads' mean map; and CLS."""
    tokens, logits = features.patch_tokens.float(), features.cls_attention.float()
    heads = logits.softmax(dim=-1) @ tokens / tokens.shape[1]
    average = logits.mean(dim=1, keepdim=True).softmax(dim=-1) @ tokens / tokens.shape[1]
    return ImageVectors(heads, average.squeeze(1), features.cls_token.float())


class Encoders:
    """The two frozen towers on a device, in float32 or with bfloat16 matrix products."""

    def __init__(self, reference: Reference, tokenizer: Tokenizer, *, bf16: bool, device: torch.device) -> None:
        self.backbone: Backbone = reference.backbone.to(device)
        self.text_tower: TextTower = reference.text_tower.to(device)
        self.sources = reference.sources
        self.tokenizer = tokenizer
        self.bf16 = bf16
        self.device = device
        self.cut_captions = 0
        """Number of captions that the last call of `encode_captions` cut to the context."""
        self._mean = torch.tensor(self.backbone.mean, device=device)[:, None, None]
        self._std = torch.tensor(self.backbone.std, device=device)[:, None, None]

    @torch.inference_mode()
    def encode_images(self, crops: Tensor) -> ImageVectors:
        """Encode crops (B,3,H,W) uint8; the vectors are on the CPU."""
        pixels = (crops.to(self.device).float() / 255 - self._mean) / self._std
        with self._precision():
            features = self.backbone(pixels)
        return ImageVectors(*(value.cpu() for value in image_vectors(features)))

    @torch.inference_mode()
    def encode_captions(self, captions: Sequence[str], token_arrays: Sequence[TokenArray]) -> dict[str, Tensor]:
        """Text arrays of a shard: text, text_average, and with `token_arrays` also those and token_offsets."""
        ids = self.tokenizer.encode(captions) if captions else np.empty((0, 1), dtype=np.int64)
        self.cut_captions = self._count_cut(captions, ids)
        lengths = (ids == END_TOKEN).argmax(axis=1) + 1
        width = {"tokens": self.text_tower.output_dim, "penultimate": self.text_tower.width}
        arrays = {name: torch.empty(len(captions), self.text_tower.output_dim) for name in ("text", "text_average")}
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        for name in token_arrays:
            arrays[name] = torch.empty(int(offsets[-1]), width[name])
        for rows, batch in token_batches(ids[:, None, :]):
            batch_ids = torch.from_numpy(batch[:, 0]).to(self.device)
            with self._precision():
                tokens = self.text_tower.token_features(batch_ids).float()
            at_end = tokens[torch.arange(len(tokens), device=self.device), end_positions(batch_ids)]
            arrays["text"][rows] = at_end.cpu()
            arrays["text_average"][rows] = mean_of_words(tokens, batch_ids).cpu()
            states: dict[TokenArray, Tensor] = {"tokens": tokens}
            if "penultimate" in token_arrays:
                with self._precision():
                    states["penultimate"] = self.text_tower.hidden_states(batch_ids, without_last_block=True).float()
            for name in token_arrays:
                for row, state in zip(rows.tolist(), states[name].cpu(), strict=True):
                    arrays[name][offsets[row] : offsets[row + 1]] = state[: lengths[row]]
        if token_arrays:
            arrays["token_offsets"] = torch.from_numpy(offsets)
        return arrays

    def _count_cut(self, captions: Sequence[str], ids: NDArray[np.int64]) -> int:
        """Number of captions (c,), with ids (c,L), that have more tokens than the context."""
        context = self.tokenizer.context_length
        if ids.shape[1] < context:
            return 0
        full = [caption for caption, row in zip(captions, ids, strict=True) if row[-1] == END_TOKEN]
        longer = clip_tokenizer(context + 1).encode(full) if full else ids[:0]
        return int((longer[:, context:] == END_TOKEN).any(axis=1).sum())

    @property
    def quick_gelu(self) -> bool:
        """True where the text tower's activation is QuickGELU."""
        return self.text_tower.activation == "quick_gelu"

    def last_block_state(self) -> dict[str, Tensor]:
        """CLIP's last block, final LayerNorm and text projection under the names of a `LastBlockProjection`."""
        text = self.text_tower.transformer
        block = {f"last_resblock.{key}": v for key, v in text.transformer.resblocks[-1].state_dict().items()}
        norm = {f"last_ln.{key}": value for key, value in text.ln_final.state_dict().items()}
        return block | norm | {"clip_text_proj": text.text_projection.data}

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


@functools.cache
def clip_tokenizer(context_length: int) -> Tokenizer:
    """The tokenizer of bundles. Building it takes a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        write_tokenizer(path)
        return Tokenizer.from_file(path, context_length)


def load_towers(
    backbone: str,
    backbone_weights: str | None,
    text_weights: str | None,
    input_size: tuple[int, int] | None,
    text_activation: Activation | None = None,
) -> Reference:
    """The frozen towers, loaded by `load_reference`. The projection is random and must not be used."""
    return load_reference(
        backbone=backbone,
        backbone_weights=backbone_weights,
        text_weights=text_weights,
        projection=RANDOM,
        input_size=input_size,
        text_activation=text_activation,
    )
